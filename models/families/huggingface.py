"""Video and image transformers in the Hugging Face hub's format.

What `EncoderSpec.pool` takes from each, by the `model_type` of its config.json:

| model_type | cls | mean (of the patch tokens) | pooled |
| --- | --- | --- | --- |
| videomae | - | last hidden state | the mean through its classifier's norm; fine-tuned only |
| vjepa2 | - | encoder output, predictor skipped | - |
| timesformer, vivit | after the last norm | after the last norm | cls, as its classifier reads |
| dinov2*, dinov3_vit | after the last norm | the same, without registers | cls |
| clip | before the last norm | before the last norm | cls after it, before the projection |
| siglip | - | after the last norm | its attention pooling head |

Image networks see each frame alone; a clip's vector is the mean over its frames.
No code comes from a checkpoint: the classes are those of the installed `transformers`, and the
tensors are read by `models.weights`.
"""

import logging
from typing import TYPE_CHECKING, Any

from configs.preprocess import PreprocessSpec
from configs.schema import EncoderSpec
from models.errors import ModelError
from models.families.hub_kinds import Kind, describe, refusal
from models.families.hub_processor import read_preprocess
from models.weights import Checkpoint

if TYPE_CHECKING:
    from torch import nn

_log = logging.getLogger(__name__)


def resolve(spec: EncoderSpec, checkpoint: Checkpoint) -> EncoderSpec:
    """`spec` with dim and preprocess filled in from the checkpoint's own files.

    A `preprocess` in the spec wins over the checkpoint's; a difference is logged.
    Raises ModelError for an unsupported network, or one that cannot do what `spec` asks.
    """
    name, kind, config = describe(spec, checkpoint)
    if name == "videomae" and spec.pool == "pooled" and not _is_fine_tuned(checkpoint):
        _log.warning(
            "encoder '%s': '%s' has no classifier, so no norm of its own after pooling; the plain"
            " mean is taken (pool: mean)",
            spec.name,
            checkpoint.uri,
        )
        spec = spec.model_copy(update={"pool": "mean"})
    if spec.pool not in kind.pools or (spec.pool == "pooled" and not _has_pooled(name, config)):
        can = [pool for pool in kind.pools if pool != spec.pool]
        raise refusal(
            spec, f"{name} here has no '{spec.pool}' vector; set pool: {' or '.join(can)}"
        )
    dim = int(config.hidden_size)
    if spec.dim not in (None, dim):
        raise refusal(spec, f"its vectors have {dim} dimensions, not {spec.dim}; correct `dim`")
    preprocess = _preprocess(spec, checkpoint, kind)
    _check_frames(spec, kind, config)
    _check_size(spec, kind, config, preprocess)
    if kind.video and spec.sampling == "lattice":
        raise refusal(spec, f"{name} sees whole clips, which share no frames; set sampling: spread")
    return spec.model_copy(update={"dim": dim, "preprocess": preprocess})


def build(spec: EncoderSpec, checkpoint: Checkpoint) -> "nn.Module":
    """The network: float [B, T, 3, H, W] → [B, D], pooled as `spec.pool` says.

    Raises ModelError when the checkpoint lacks a weight that the network needs.
    """
    from models.families.huggingface_network import build_network  # loads torch

    return build_network(spec, checkpoint)


def _has_pooled(name: str, config: Any) -> bool:
    return name != "videomae" or bool(config.use_mean_pooling)


def _is_fine_tuned(checkpoint: Checkpoint) -> bool:
    data = checkpoint.read_json("config.json") or {}
    return any("ForVideoClassification" in str(name) for name in data.get("architectures") or ())


def _preprocess(spec: EncoderSpec, checkpoint: Checkpoint, kind: Kind) -> PreprocessSpec:
    if spec.preprocess is None:
        found = read_preprocess(checkpoint, kind.video)
        if found is None:
            raise refusal(
                spec,
                f"'{checkpoint.uri}' has no preprocessor_config.json; add it, or `preprocess` to"
                " the preset",
            )
        return found
    try:
        found = read_preprocess(checkpoint, kind.video)
    except ModelError:
        found = None
    if found not in (None, spec.preprocess):
        _log.warning(
            "encoder '%s': the preset's preprocessing (%s) is used; its checkpoint says %s",
            spec.name,
            spec.preprocess,
            found,
        )
    return spec.preprocess


def _check_frames(spec: EncoderSpec, kind: Kind, config: Any) -> None:
    if not kind.video:
        return
    if kind.fixed and spec.frames != config.num_frames:
        n = config.num_frames
        raise refusal(spec, f"it takes {n} frames, not {spec.frames}; set frames: {n}")
    if not kind.fixed and spec.frames % config.tubelet_size:
        each = config.tubelet_size
        raise refusal(spec, f"frames must be a multiple of {each}, not {spec.frames}")


def _check_size(spec: EncoderSpec, kind: Kind, config: Any, preprocess: PreprocessSpec) -> None:
    height, width = preprocess.size
    if kind.fixed:
        own = config.image_size
        wanted = (own, own) if isinstance(own, int) else tuple(own)
        if (height, width) != wanted:
            raise refusal(
                spec, f"it takes {wanted} pixels, its preprocessing gives {(height, width)}"
            )
    elif height % config.patch_size or width % config.patch_size:
        raise refusal(
            spec, f"{(height, width)} pixels are no multiple of its patch {config.patch_size}"
        )
