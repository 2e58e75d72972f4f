"""Job files and flags into settings, and what is said about mistakes."""

from pathlib import Path

import pytest

from configs.load import SettingsError, choose_encoder, encoder_presets, load_job
from configs.schema import EncoderChoice, GridChoice, GridSpec

NEEDED = {"dataset": "memory://d", "output": "memory://o"}


def test_a_flag_wins_over_the_file_key_by_key(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(
        "dataset: s3://a\noutput: s3://b\nencoder: videomae-base\n"
        "select: {resolution: 448, views: [ego]}\nrun: {workers: 3}\n"
    )
    job = load_job(str(file), {"output": "s3://c", "select": {"views": ["exo"]}})
    assert (job.dataset, job.output) == ("s3://a", "s3://c")
    assert job.encoder.preset == "videomae-base"
    assert (job.select.resolution, job.select.views) == ("448", ("exo",))
    assert job.run.workers == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"grid": {"windw": 3}}, "unknown setting 'grid.windw'; did you mean 'window'?"),
        ({"outptu": "x"}, "unknown setting 'outptu'; did you mean 'output'?"),
        ({"run": {"device": "gpu"}}, "did you mean 'cpu'?"),
        ({"grid": {"window": 0}}, "grid.window: must be at least 1, not 0"),
        (
            {"run": {"budget": {"deadline": "foo"}}},
            "run.budget.deadline: must be a date and time, such as 2026-01-31T12:00, not 'foo'",
        ),
        ({"rotate": {"cam": 45}}, "rotate.cam: 45 is not one of 0, 90, 180 or 270"),
        ({"grid": {"window": "many"}}, "grid.window: must be a whole number, not 'many'"),
        ({"run": {"workers": 0}}, "run.workers: must be 'auto' or at least 1, not 0"),
        ({"run": {"workers": "x"}}, "run.workers: must be 'auto' or a whole number, not 'x'"),
        ({"grid": {"window": 10**9}}, "grid.window"),
        ({"grid": {"stride": 100_001}}, "grid.stride"),
        ({"grid": {"fps": 1e-9}}, "grid.fps"),
        ({"encoder": {"frames": 1025}}, "encoder.frames"),
        ({"run": {"batch_size": 4097}}, "run.batch_size"),
        ({"rotate": {"cam*": 45}}, "rotate"),
        ({"store": 5}, "store"),
        ({"s3": {"profle": "x"}}, "unknown setting 's3.profle'; did you mean 'profile'?"),
        ({"output_s3": {"endpoint": "x"}}, "'output_s3.endpoint'; did you mean 'endpoint_url'?"),
        ({"s3": {"endpoint_url": "127.0.0.1:8333"}}, "s3: the endpoint is no URL such as http"),
        ({"s3": {"endpoint_url": "http://me:" + "secret@h"}}, "holds a user or password"),
    ],
)
def test_mistakes_are_named(settings: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match="job: ") as error:
        load_job(None, NEEDED | settings)
    assert words in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("text", ["- a\n- b", "a: [", "\x00", "just words"])
def test_a_file_that_holds_no_settings(tmp_path: Path, text: str) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=r"job\.yaml"):
        load_job(str(file), NEEDED)


def test_an_absent_file_and_missing_keys() -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.yaml"):
        load_job("/nowhere.yaml", NEEDED)
    with pytest.raises(SettingsError, match="--dataset"):
        load_job(None, {"output": "x"})


def test_a_grid_choice_keeps_what_it_does_not_name() -> None:
    default = GridSpec(window=64, stride=32)
    assert GridChoice(stride=8).over(default) == GridSpec(window=64, stride=8)


def test_presets_are_valid_and_a_typo_gets_the_nearest() -> None:
    presets = encoder_presets()
    assert {"efficientnet_lite"} <= set(presets)
    assert all(spec.licence != "unknown" and spec.dim for spec in presets.values())
    with pytest.raises(SettingsError, match="did you mean 'efficientnet_lite'"):
        choose_encoder(EncoderChoice(preset="eficientnet_lite"))


def test_other_weights_forget_the_digest_of_the_presets_own() -> None:
    preset = encoder_presets()["efficientnet_lite"]
    assert preset.sha256
    assert choose_encoder(EncoderChoice()).sha256 == preset.sha256
    assert choose_encoder(EncoderChoice(weights="s3://other/weights")).sha256 is None


def test_a_fault_names_the_flag_and_is_told_once() -> None:
    places = {"dataset": "s3://a", "output": "s3://b"}
    with pytest.raises(SettingsError) as caught:
        load_job(
            None,
            {**places, "run": {"workers": 0}, "encoder": {"frames": 0}},
            {"run.workers": "--workers", "encoder.frames": "--frames"},
        )
    assert str(caught.value).splitlines() == [
        "job: --frames: must be at least 1, not 0",
        "job: --workers: must be 'auto' or at least 1, not 0",
    ]
