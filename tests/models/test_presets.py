"""What the presets promise."""

import pytest

from configs.load import encoder_presets
from models.encoder import FAMILIES, resolve_encoder
from models.errors import ModelError
from models.families.hub_processor import parse_preprocess

PRESETS = encoder_presets()
# The processor files as published, where they are known here.
BIT = {
    "image_processor_type": "BitImageProcessor",
    "size": {"shortest_edge": 256},
    "crop_size": {"height": 224, "width": 224},
    "resample": 3,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
PUBLISHED = {
    "clip-vit-l14": {"image_processor_type": "CLIPImageProcessor"},
    "dinov2-base": BIT,
    "dinov2-large": BIT,
    "siglip-so400m": {
        "image_processor_type": "SiglipImageProcessor",
        "size": {"height": 384, "width": 384},
    },
    "vjepa2-vitl": {"video_processor_type": "VJEPA2VideoProcessor", "crop_size": 256},
}


@pytest.fixture(params=sorted(PRESETS))
def preset(request):
    return PRESETS[request.param]


def test_a_preset_says_all_that_a_reader_wants(preset):
    assert preset.family in FAMILIES
    assert preset.dim
    assert preset.licence != "unknown"
    assert preset.source.startswith("https://")
    assert preset.frames <= preset.grid.window
    assert preset.grid.stride <= preset.grid.window


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_preprocessing_is_the_published_one(name):
    assert PRESETS[name].preprocess == parse_preprocess(PUBLISHED[name], name)


def test_a_preset_without_preprocessing_is_one_of_the_hub(preset):
    if preset.preprocess is None:
        assert preset.weights.startswith("hf://")


def test_image_encoders_give_one_vector_per_frame():
    for name in ("clip-vit-l14", "dinov2-base", "dinov2-large", "siglip-so400m"):
        preset = PRESETS[name]
        assert (preset.frames, preset.grid.window, preset.grid.stride) == (1, 1, 1)


def test_only_the_default_works_without_a_hub():
    assert resolve_encoder(PRESETS["efficientnet_lite"]) == PRESETS["efficientnet_lite"]
    with pytest.raises(ModelError, match="cannot be had from the hub"):
        resolve_encoder(PRESETS["videomae-base"])
