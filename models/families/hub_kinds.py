"""What must be known of each `model_type` of the hub, and which one a checkpoint is."""

from dataclasses import dataclass
from typing import Any

from configs.schema import EncoderSpec
from models.errors import ModelError
from models.weights import Checkpoint


@dataclass(frozen=True)
class Kind:
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
    "videomae": Kind("VideoMAEModel", ("mean", "pooled"), video=True, prefix=0),
    "vjepa2": Kind("VJEPA2Model", ("mean",), video=True, fixed=False, prefix=0),
    "timesformer": Kind("TimesformerModel", _ANY, video=True),
    "vivit": Kind("VivitModel", _ANY, video=True),
    "dinov2": Kind("Dinov2Model", _ANY, fixed=False),
    "dinov2_with_registers": Kind("Dinov2WithRegistersModel", _ANY, fixed=False),
    "dinov3_vit": Kind("DINOv3ViTModel", _ANY, fixed=False),
    "clip": Kind("CLIPVisionModel", _ANY),
    "siglip": Kind("SiglipVisionModel", ("mean", "pooled"), prefix=0),
}
# A checkpoint of the vision tower alone has its own type.
_ALIASES = {"clip_vision_model": "clip", "siglip_vision_model": "siglip"}


def describe(spec: EncoderSpec, checkpoint: Checkpoint) -> tuple[str, Kind, Any]:
    data = checkpoint.read_json("config.json")
    if data is None:
        raise refusal(
            spec, f"'{checkpoint.uri}' has no config.json; give a folder in the hub's format"
        )
    if "quantization_config" in data:
        raise refusal(spec, "its weights are quantised; give the full-precision checkpoint")
    name = _ALIASES.get(str(data.get("model_type")), str(data.get("model_type")))
    if name not in _KINDS:
        known = ", ".join(_KINDS)
        raise refusal(spec, f"model_type '{name}' is not supported; supported are {known}")
    kind = _KINDS[name]
    config = class_named(kind.model).config_class.from_dict(data.get("vision_config", data))
    return name, kind, config


def class_named(name: str) -> Any:
    # Imported here: it takes seconds, and only these encoders need it.
    import transformers

    found = getattr(transformers, name, None)
    if found is None:
        raise ModelError(f"transformers {transformers.__version__} has no {name}; upgrade it")
    return found


def refusal(spec: EncoderSpec, what: str) -> ModelError:
    return ModelError(f"encoder '{spec.name}': {what}")
