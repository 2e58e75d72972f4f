"""Omnivore's Swin transformers over space and time: the official features' `omnivore_video`.

Girdhar et al., "Omnivore" (arXiv:2201.08377); Liu et al., "Video Swin Transformer"
(arXiv:2106.13230). The checkpoint is the file that facebookresearch/omnivore publishes, read as it
is: a dictionary with the tensors of `trunk` and of `heads`. Which of the networks it is (Swin-T,
S, B or L, its window) the tensors tell. No code of that repository is used or loaded; a test
compares the network with vectors that its code gave for the same weights.

The vector is the trunk's: the mean of all tokens after the last norm, as the extractor of
Ego-Exo4D's features takes it (facebookresearch/Ego4d, `ego4d/features/models/omnivore.py`, where
the heads are replaced by nothing).
"""

from math import prod
from typing import TYPE_CHECKING

from configs.preprocess import PreprocessSpec
from configs.schema import EncoderSpec
from models.errors import ModelError
from models.weights import Checkpoint

if TYPE_CHECKING:
    from torch import nn

# As the extractor has it; it normalises before it resizes, which changes no more than the rounding.
PREPROCESS = PreprocessSpec(resize=256, crop=(224, 224), method="float")

# Of the makers' networks, by the length of the vector: frames, rows and columns of a token, and
# tokens of an attention window.
_PATCH = (2, 4, 4)
_WINDOWS = {768: (8, 7, 7), 1024: (16, 7, 7), 1536: (8, 7, 7)}
# Numbers of each head in the first stage, and what is there at a time, measured with Swin-L
# (`tests.benchmarks.omnivore`): biases of a shifted block, and activations as wide as a token.
_HEAD, _BIASES, _ACTIVATIONS = 32, 3, 12


def working_bytes(spec: EncoderSpec) -> int:
    """Bytes that a clip takes at most on CPU beside the weights, in float32.

    The largest are in the first stage, which has the most tokens: its tokens, and the bias of its
    attention, which differs from window to window where windows are shifted.
    """
    assert spec.dim is not None
    assert spec.preprocess is not None
    sides = spec.frames, *spec.preprocess.size
    tokens = [-(-side // part) for side, part in zip(sides, _PATCH, strict=True)]
    full = _WINDOWS.get(spec.dim, max(_WINDOWS.values()))
    window = [min(side, part) for side, part in zip(tokens, full, strict=True)]
    windows = prod(-(-side // part) for side, part in zip(tokens, window, strict=True))
    width = spec.dim // 8
    bias = windows * max(1, width // _HEAD) * prod(window) ** 2
    return 4 * (_BIASES * bias + _ACTIVATIONS * prod(tokens) * width)


def resolve(spec: EncoderSpec, checkpoint: Checkpoint) -> EncoderSpec:
    """`spec` with dim and preprocess filled in. Raises ModelError for what it cannot do."""
    if spec.pool != "pooled" or spec.sampling != "spread":
        raise ModelError(
            f"encoder '{spec.name}': Omnivore sees whole clips and gives one vector; set pool:"
            " pooled and sampling: spread"
        )
    if spec.frames % 2 and spec.frames > 1:
        raise ModelError(f"encoder '{spec.name}': frames must be even or 1, not {spec.frames}")
    dim = spec.dim
    if dim is None:
        from models.families.omnivore_network import shape_of  # loads torch

        dim = shape_of(spec, checkpoint.uri, checkpoint.state_dict()).dim
    return spec.model_copy(update={"dim": dim, "preprocess": spec.preprocess or PREPROCESS})


def build(spec: EncoderSpec, checkpoint: Checkpoint) -> "nn.Module":
    """The network: float [B, T, 3, H, W] → [B, D], D being 8 times the first stage's width.

    Raises ModelError when the weights are not those of an Omnivore trunk.
    """
    from models.families.omnivore_network import build_network  # loads torch

    return build_network(spec, checkpoint)
