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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from configs.schema import EncoderSpec, PreprocessSpec
from models.errors import ModelError
from models.families.hub_processor import read_preprocess
from models.weights import Checkpoint

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Kind:
    """What must be known of a model_type.

    model: its class in `transformers`.
    pools: the values of `EncoderSpec.pool` that it supports.
    video: takes whole clips, not pictures.
    fixed: position embeddings of one size (and one number of frames).
    prefix: tokens before the patch tokens; registers come on top.
    """

    model: str
    pools: tuple[str, ...]
    video: bool = False
    fixed: bool = True
    prefix: int = 1


_ANY = ("cls", "mean", "pooled")
_KINDS = {
    "videomae": _Kind("VideoMAEModel", ("mean", "pooled"), video=True, prefix=0),
    "vjepa2": _Kind("VJEPA2Model", ("mean",), video=True, fixed=False, prefix=0),
    "timesformer": _Kind("TimesformerModel", _ANY, video=True),
    "vivit": _Kind("VivitModel", _ANY, video=True),
    "dinov2": _Kind("Dinov2Model", _ANY, fixed=False),
    "dinov2_with_registers": _Kind("Dinov2WithRegistersModel", _ANY, fixed=False),
    "dinov3_vit": _Kind("DINOv3ViTModel", _ANY, fixed=False),
    "clip": _Kind("CLIPVisionModel", _ANY),
    "siglip": _Kind("SiglipVisionModel", ("mean", "pooled"), prefix=0),
}
# A checkpoint of the vision tower alone has its own type.
_ALIASES = {"clip_vision_model": "clip", "siglip_vision_model": "siglip"}


def resolve(spec: EncoderSpec, checkpoint: Checkpoint) -> EncoderSpec:
    """`spec` with dim and preprocess filled in from the checkpoint's own files.

    A `preprocess` in the spec wins over the checkpoint's; a difference is logged.
    Raises ModelError for an unsupported network, or one that cannot do what `spec` asks.
    """
    name, kind, config = _describe(spec, checkpoint)
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
        raise _refusal(
            spec, f"{name} here has no '{spec.pool}' vector; set pool: {' or '.join(can)}"
        )
    dim = int(config.hidden_size)
    if spec.dim not in (None, dim):
        raise _refusal(spec, f"its vectors have {dim} dimensions, not {spec.dim}; correct `dim`")
    preprocess = _preprocess(spec, checkpoint, kind)
    _check_frames(spec, kind, config)
    _check_size(spec, kind, config, preprocess)
    return spec.model_copy(update={"dim": dim, "preprocess": preprocess})


def build(spec: EncoderSpec, checkpoint: Checkpoint) -> nn.Module:
    """The network: float [B, T, 3, H, W] → [B, D], pooled as `spec.pool` says.

    Raises ModelError when the checkpoint lacks a weight that the network needs.
    """
    name, kind, config = _describe(spec, checkpoint)
    if name == "videomae" and spec.pool == "pooled":
        whole = _load(spec, "VideoMAEForVideoClassification", config, checkpoint)
        return _Network(whole.videomae, kind, spec.pool, config, norm=whole.fc_norm)
    model = _load(spec, kind.model, config, checkpoint)
    if name == "vjepa2":
        del model.predictor
    return _Network(model, kind, spec.pool, config)


class _Network(nn.Module):
    def __init__(
        self, model: nn.Module, kind: _Kind, pool: str, config: Any, norm: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.norm = norm
        self.video = kind.video
        self.pool = pool
        self.prefix = kind.prefix + int(getattr(config, "num_register_tokens", 0) or 0)
        self.is_vjepa = kind.model == "VJEPA2Model"

    def forward(self, clips: Tensor) -> Tensor:
        if self.is_vjepa:
            return self._vector(self.model(pixel_values_videos=clips, skip_predictor=True))
        if self.video:
            return self._vector(self.model(pixel_values=clips))
        vectors = self._vector(self.model(pixel_values=clips.flatten(0, 1)))
        return vectors.view(*clips.shape[:2], -1).mean(1)

    def _vector(self, output: Any) -> Tensor:
        tokens: Tensor = output.last_hidden_state
        if self.norm is not None:
            normed: Tensor = self.norm(tokens.float().mean(1))
            return normed.float()
        if self.pool == "mean":
            return tokens[:, self.prefix :].float().mean(1)
        pooled: Tensor | None = getattr(output, "pooler_output", None)
        return (tokens[:, 0] if self.pool == "cls" or pooled is None else pooled).float()


def _describe(spec: EncoderSpec, checkpoint: Checkpoint) -> tuple[str, _Kind, Any]:
    data = checkpoint.read_json("config.json")
    if data is None:
        raise _refusal(
            spec, f"'{checkpoint.uri}' has no config.json; give a folder in the hub's format"
        )
    if "quantization_config" in data:
        raise _refusal(spec, "its weights are quantised; give the full-precision checkpoint")
    name = _ALIASES.get(str(data.get("model_type")), str(data.get("model_type")))
    if name not in _KINDS:
        known = ", ".join(_KINDS)
        raise _refusal(spec, f"model_type '{name}' is not supported; supported are {known}")
    kind = _KINDS[name]
    config = _class(kind.model).config_class.from_dict(data.get("vision_config", data))
    return name, kind, config


def _class(name: str) -> Any:
    # Imported here: it takes seconds, and only these encoders need it.
    import transformers

    found = getattr(transformers, name, None)
    if found is None:
        raise ModelError(f"transformers {transformers.__version__} has no {name}; upgrade it")
    return found


def _load(spec: EncoderSpec, name: str, config: Any, checkpoint: Checkpoint) -> Any:
    options: dict[str, Any] = {"add_pooling_layer": False} if name == "VivitModel" else {}
    try:
        with _quiet():
            model, info = _class(name).from_pretrained(
                None,
                config=config,
                # Our own tensors, so that what was hashed is what is loaded.
                state_dict=checkpoint.state_dict(),
                dtype=torch.float32,
                output_loading_info=True,
                **options,
            )
    except (RuntimeError, ValueError, OSError) as error:
        raise _refusal(spec, f"{name} does not load from '{checkpoint.uri}': {error}") from error
    # transformers only warns, and goes on with random numbers.
    unused = ("predictor.", "classifier.")
    missing = sorted(map(str, info["missing_keys"]))
    wanted = [key for key in missing if not any(part in key for part in unused)]
    wrong = sorted(map(str, info["mismatched_keys"])) + list(map(str, info["error_msgs"]))
    if wanted or wrong:
        first = (wanted or wrong)[0]
        what = "lack" if wanted else "do not fit"
        raise _refusal(spec, f"the weights at '{checkpoint.uri}' {what} {first}")
    return model.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bar and its report on weights, which is checked here."""
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()


def _has_pooled(name: str, config: Any) -> bool:
    return name != "videomae" or bool(config.use_mean_pooling)


def _is_fine_tuned(checkpoint: Checkpoint) -> bool:
    data = checkpoint.read_json("config.json") or {}
    return any("ForVideoClassification" in str(name) for name in data.get("architectures") or ())


def _preprocess(spec: EncoderSpec, checkpoint: Checkpoint, kind: _Kind) -> PreprocessSpec:
    if spec.preprocess is None:
        found = read_preprocess(checkpoint, kind.video)
        if found is None:
            raise _refusal(
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


def _check_frames(spec: EncoderSpec, kind: _Kind, config: Any) -> None:
    if not kind.video:
        return
    if kind.fixed and spec.frames != config.num_frames:
        n = config.num_frames
        raise _refusal(spec, f"it takes {n} frames, not {spec.frames}; set frames: {n}")
    if not kind.fixed and spec.frames % config.tubelet_size:
        each = config.tubelet_size
        raise _refusal(spec, f"frames must be a multiple of {each}, not {spec.frames}")


def _check_size(spec: EncoderSpec, kind: _Kind, config: Any, preprocess: PreprocessSpec) -> None:
    height, width = preprocess.size
    if kind.fixed:
        own = config.image_size
        wanted = (own, own) if isinstance(own, int) else tuple(own)
        if (height, width) != wanted:
            raise _refusal(
                spec, f"it takes {wanted} pixels, its preprocessing gives {(height, width)}"
            )
    elif height % config.patch_size or width % config.patch_size:
        raise _refusal(
            spec, f"{(height, width)} pixels are no multiple of its patch {config.patch_size}"
        )


def _refusal(spec: EncoderSpec, what: str) -> ModelError:
    return ModelError(f"encoder '{spec.name}': {what}")
