"""Processor files of the hub → what is done to a picture."""

from pathlib import Path

import pytest
import transformers

from configs.preprocess import PreprocessSpec
from models.errors import ModelError
from models.families.hub_processor import parse_preprocess, read_preprocess
from models.weights import Checkpoint

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
CLIP_FILE = {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "CLIPImageProcessor",
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 224},
}


def parse(**settings):
    return parse_preprocess(settings, "somewhere")


def checkpoint(folder: Path) -> Checkpoint:
    return Checkpoint("somewhere", folder, (), "")


def test_a_full_file():
    assert parse_preprocess(CLIP_FILE, "x") == PreprocessSpec(
        resize=224,
        interpolation="bicubic",
        crop=(224, 224),
        scale=0.00392156862745098,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
    )


def test_an_old_file_with_bare_numbers():
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224}
    assert parse(**old).resize == 224
    assert parse(**old).crop == (224, 224)
    # The same number means a square to other classes.
    assert parse(feature_extractor_type="ViTFeatureExtractor", size=224).resize == (224, 224)


@pytest.mark.parametrize(
    "name", ["VideoMAE", "Bit", "CLIP", "Siglip", "ViT", "Vivit"], ids=lambda name: name
)
def test_defaults_are_those_of_the_installed_classes(name):
    ending = "ImageProcessor" if name == "Vivit" else "ImageProcessorPil"
    theirs = getattr(transformers, name + ending)().to_dict()
    kind = {"image_processor_type": theirs["image_processor_type"]}
    assert parse_preprocess(kind, "x") == parse_preprocess(theirs, "x")


def test_defaults_of_classes_that_need_torchvision():
    # Read from the classes' text, since they cannot be imported here.
    assert parse(video_processor_type="TimesformerVideoProcessor") == PreprocessSpec(
        resize=224, crop=(224, 224), **IMAGENET
    )
    assert parse(image_processor_type="DINOv3ViTImageProcessorFast") == PreprocessSpec(
        resize=(224, 224), **IMAGENET
    )
    assert parse(video_processor_type="VJEPA2VideoProcessor") == PreprocessSpec(
        resize=292, crop=(256, 256), **IMAGENET
    )


def test_vjepa2_computes_its_size_from_the_crop():
    found = parse(
        video_processor_type="VJEPA2VideoProcessor", crop_size=384, size={"shortest_edge": 999}
    )
    assert found.resize == 438
    assert found.crop == (384, 384)


def test_vivit_takes_one_away_before_the_mean():
    found = parse(image_processor_type="VivitImageProcessor")
    assert found == PreprocessSpec(
        resize=256, crop=(224, 224), scale=1 / 127.5, mean=(1.5, 1.5, 1.5), std=(0.5, 0.5, 0.5)
    )
    plain = parse(image_processor_type="VivitImageProcessor", do_normalize=False)
    assert (plain.mean, plain.std) == ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    none = parse(image_processor_type="VivitImageProcessor", do_normalize=False, offset=False)
    assert (none.mean, none.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"resample": 1}, "resample=1"),
        ({"resample": 0}, "resample=0"),
        ({"do_rescale": False}, "do_rescale=False"),
        ({"do_resize": False}, "do_resize=False"),
        ({"do_pad": True}, "do_pad=True"),
        ({"size": {"shortest_edge": 224, "longest_edge": 448}}, "size="),
        ({"size": {"max_height": 9, "max_width": 9}}, "size="),
        ({"crop_size": {"shortest_edge": 9}}, "crop_size="),
        ({"do_zero_centering": True}, "do_zero_centering=True"),
        ({"use_square_size": True}, "use_square_size=True"),
        ({"image_mean": [0.5]}, "image_mean or image_std="),
        ({"do_center_crop": False}, "no fixed size"),
        ({"image_processor_type": "LlavaImageProcessor"}, "'LlavaImageProcessor' is not known"),
    ],
)
def test_what_is_not_reproduced_is_refused(change, says):
    with pytest.raises(ModelError, match=f"'somewhere': .*{says}"):
        parse_preprocess({**CLIP_FILE, **change}, "somewhere")


def test_settings_that_are_off_or_empty_do_not_matter():
    more = {"do_pad": False, "pad_size": None, "do_sample_frames": True, "num_frames": 16}
    assert parse_preprocess({**CLIP_FILE, **more}, "x") == parse_preprocess(CLIP_FILE, "x")


def test_which_file_counts(tmp_path, write_json):
    assert read_preprocess(checkpoint(tmp_path), video=True) is None
    write_json(tmp_path / "preprocessor_config.json", {**CLIP_FILE, "size": {"shortest_edge": 230}})
    for video in (True, False):
        assert read_preprocess(checkpoint(tmp_path), video).resize == 230
    jepa = {"video_processor_type": "VJEPA2VideoProcessor"}
    write_json(tmp_path / "video_preprocessor_config.json", jepa)
    assert read_preprocess(checkpoint(tmp_path), video=True).resize == 292
    assert read_preprocess(checkpoint(tmp_path), video=False).resize == 230
    nested = {
        "processor_class": "X",
        "image_processor": {**CLIP_FILE, "size": {"shortest_edge": 240}},
        "video_processor": {**jepa, "crop_size": 224},
    }
    write_json(tmp_path / "processor_config.json", nested)
    assert read_preprocess(checkpoint(tmp_path), video=True).resize == 256
    assert read_preprocess(checkpoint(tmp_path), video=False).resize == 240
