"""A checkpoint's own processor files → `PreprocessSpec`.

The hub's processors are configured by JSON files beside the weights. What they say is reproduced
exactly or refused: a setting that this project does not reproduce raises `ModelError` instead of
quietly giving other features.

One difference is known and accepted: DINOv3's processor resizes in float and skips the rounding to
uint8 in between, which moves a pixel by at most half a level.
"""

from collections.abc import Mapping
from typing import Any, Literal

from configs.preprocess import PreprocessSpec
from models.errors import ModelError
from models.weights import Checkpoint

_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
_OPENAI = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_CROPPED: dict[str, Any] = {
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "resample": 2,
}
_SQUARE: dict[str, Any] = {"size": {"height": 224, "width": 224}, "resample": 2}

# What each processor class of transformers 5 does where its file is silent. The class comes from
# the file's `*_type`, without the endings that name a backend or an older version of it.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "VideoMAE": {**_CROPPED, **_HALF},
    "Timesformer": {**_CROPPED, **_IMAGENET},
    "Vivit": {
        **_CROPPED,
        **_HALF,
        "size": {"shortest_edge": 256},
        "rescale_factor": 1 / 127.5,
        "offset": True,
    },
    "VJEPA2": {**_CROPPED, **_IMAGENET, "crop_size": {"height": 256, "width": 256}},
    "Bit": {**_CROPPED, **_OPENAI, "resample": 3},
    "CLIP": {**_CROPPED, **_OPENAI, "resample": 3},
    "Siglip": {**_SQUARE, **_HALF, "resample": 3},
    "ViT": {**_SQUARE, **_HALF},
    "DINOv3ViT": {**_SQUARE, **_IMAGENET},
}
_ENDINGS = ("Fast", "Pil", "ImageProcessor", "VideoProcessor", "FeatureExtractor")
# Classes that read a bare number in `size` as a square; the others as the shortest edge.
_SQUARE_NUMBERS = ("ViT", "DINOv3ViT")
_INTERPOLATION: dict[int | str, Literal["bilinear", "bicubic"]] = {
    2: "bilinear",
    3: "bicubic",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
}

_USED = {
    "size",
    "crop_size",
    "do_center_crop",
    "resample",
    "do_resize",
    "do_rescale",
    "rescale_factor",
    "offset",
    "do_normalize",
    "image_mean",
    "image_std",
}
# How the processor is called, found or fed; frames come decoded, in RGB and already chosen here.
_IRRELEVANT = {
    "image_processor_type",
    "video_processor_type",
    "feature_extractor_type",
    "processor_class",
    "default_to_square",
    "do_convert_rgb",
    "data_format",
    "input_data_format",
    "device",
    "disable_grouping",
    "return_tensors",
    "return_metadata",
    "model_input_names",
    "do_sample_frames",
    "num_frames",
    "fps",
    "video_metadata",
    "transformers_version",
    "_name_or_path",
}


def read_preprocess(checkpoint: Checkpoint, video: bool) -> PreprocessSpec | None:
    """The preprocessing that the files of `checkpoint` describe, or None when it has none.

    video: whether the network takes videos, whose own file wins over that for images.
    Raises ModelError for a processor or a setting that cannot be reproduced exactly.
    """
    settings = _settings(checkpoint, video)
    return None if settings is None else parse_preprocess(settings, checkpoint.uri)


def parse_preprocess(settings: Mapping[str, Any], where: str) -> PreprocessSpec:
    """One processor's settings, as its JSON file has them. Raises ModelError as above."""
    kind = _kind(settings, where)
    given = {key: value for key, value in settings.items() if value is not None}
    for key, value in given.items():
        if key not in _USED | _IRRELEVANT and value is not False:
            raise _refusal(where, key, value)
    merged = {
        "do_center_crop": False,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "rescale_factor": 1 / 255,
        "offset": False,
        **_DEFAULTS[kind],
        **given,
    }
    for key in ("do_resize", "do_rescale"):
        if merged[key] is not True:
            raise _refusal(where, key, merged[key])
    if merged["resample"] not in _INTERPOLATION:
        raise _refusal(where, "resample", merged["resample"])
    crop = _rectangle(merged["crop_size"], where) if merged["do_center_crop"] else None
    # Its class computes the size from the crop and disregards the file's.
    resize = int(crop[0] * 256 / 224) if kind == "VJEPA2" and crop else _resize(merged, kind, where)
    if isinstance(resize, int) and crop is None:
        raise ModelError(f"'{where}': its processor gives pictures of no fixed size (no crop)")
    normal = bool(merged["do_normalize"])
    mean = _triple(merged["image_mean"], where) if normal else (0.0, 0.0, 0.0)
    # `offset` takes one away after rescaling and before the mean.
    shift = 1.0 if merged["offset"] else 0.0
    return PreprocessSpec(
        resize=resize,
        interpolation=_INTERPOLATION[merged["resample"]],
        crop=crop,
        scale=float(merged["rescale_factor"]),
        mean=(mean[0] + shift, mean[1] + shift, mean[2] + shift),
        std=_triple(merged["image_std"], where) if normal else (1.0, 1.0, 1.0),
    )


def _settings(checkpoint: Checkpoint, video: bool) -> Mapping[str, Any] | None:
    together = checkpoint.read_json("processor_config.json") or {}
    image = checkpoint.read_json("preprocessor_config.json")
    if not video:
        return together.get("image_processor") or image
    own = together.get("video_processor") or checkpoint.read_json("video_preprocessor_config.json")
    return own or image or together.get("image_processor")


def _kind(settings: Mapping[str, Any], where: str) -> str:
    keys = ("video_processor_type", "image_processor_type", "feature_extractor_type")
    name = next((str(settings[key]) for key in keys if settings.get(key)), "")
    kind = name
    for ending in _ENDINGS:
        kind = kind.removesuffix(ending)
    if kind not in _DEFAULTS:
        known = ", ".join(_DEFAULTS)
        raise ModelError(
            f"'{where}': its processor '{name}' is not known (known: {known}); say what it does as"
            " `preprocess` in the encoder's preset"
        )
    return kind


def _resize(settings: Mapping[str, Any], kind: str, where: str) -> int | tuple[int, int]:
    size = settings["size"]
    if isinstance(size, int):
        return (size, size) if kind in _SQUARE_NUMBERS else size
    if isinstance(size, Mapping) and set(size) == {"shortest_edge"}:
        return int(size["shortest_edge"])
    if isinstance(size, Mapping) and set(size) == {"height", "width"}:
        return (int(size["height"]), int(size["width"]))
    raise _refusal(where, "size", size)


def _rectangle(size: Any, where: str) -> tuple[int, int]:
    if isinstance(size, int):
        return (size, size)
    if isinstance(size, Mapping) and set(size) == {"height", "width"}:
        return (int(size["height"]), int(size["width"]))
    raise _refusal(where, "crop_size", size)


def _triple(values: Any, where: str) -> tuple[float, float, float]:
    numbers = [values] * 3 if isinstance(values, int | float) else list(values)
    if len(numbers) != 3:
        raise _refusal(where, "image_mean or image_std", values)
    return (float(numbers[0]), float(numbers[1]), float(numbers[2]))


def _refusal(where: str, key: str, value: Any) -> ModelError:
    return ModelError(
        f"'{where}': its processor sets {key}={value!r}, which is not reproduced here; say what to"
        " do instead as `preprocess` in the encoder's preset"
    )
