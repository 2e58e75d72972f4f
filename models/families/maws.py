"""The picture tower of MAWS CLIP: the official features' `maws_clip_2b`.

Singh et al., "The effectiveness of MAE pre-pretraining for billion-scale pretraining"
(arXiv:2303.13496). The checkpoint is the file that facebookresearch/maws publishes, read as it is:
a plain vision transformer in timm's names (`vision_encoder.*`), the projection to the space that
it shares with text (`vision_projection`), and the text tower, which is left out. The network is
that of `transformers`, with the tensors renamed; no code of that repository is used or loaded, and
a test compares it with vectors that timm's network gave for the same weights.

The vector is `encode_images`: the class token after the last norm, projected, of length 1. The
extractor of Ego-Exo4D's features runs all of it in float16 (facebookresearch/Ego4d,
`ego4d/features/models/maws.py`), and resizes float tensors by torchvision 0.12.
"""

from typing import TYPE_CHECKING

from configs.preprocess import PreprocessSpec
from configs.schema import EncoderSpec
from models.errors import ModelError
from models.weights import Checkpoint

if TYPE_CHECKING:
    from torch import nn

PREPROCESS = PreprocessSpec(resize=224, interpolation="bicubic", crop=(224, 224), method="float")


def resolve(spec: EncoderSpec, checkpoint: Checkpoint) -> EncoderSpec:
    """`spec` with dim and preprocess filled in. Raises ModelError for what it cannot do."""
    if spec.pool != "pooled":
        raise ModelError(
            f"encoder '{spec.name}': MAWS gives the class token, projected; set pool: pooled"
        )
    dim = spec.dim
    if dim is None:
        from models.families.maws_network import dim_of  # loads torch

        dim = dim_of(spec, checkpoint.uri, checkpoint.state_dict())
    return spec.model_copy(update={"dim": dim, "preprocess": spec.preprocess or PREPROCESS})


def build(spec: EncoderSpec, checkpoint: Checkpoint) -> "nn.Module":
    """The network: float [B, T, 3, H, W] → [B, D], the mean over frames of vectors of length 1.

    Raises ModelError when the weights are not those of a MAWS CLIP.
    """
    from models.families.maws_network import build_network  # loads torch

    return build_network(spec, checkpoint)
