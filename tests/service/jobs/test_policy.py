"""What a job from outside may say: several encoders, segments, tables of cameras."""

from typing import Any

import pytest

from configs.load import SettingsError
from configs.schema import EncoderChoice, JobSpec, ServeSpec
from service.errors import Unknown
from service.jobs.policy import NotAllowed, checked_job, resumed_job

OWN = JobSpec(
    dataset="s3://data/egoexo",
    output="s3://mine/features",
    encoder={"preset": "efficientnet_lite", "frames": 4, "weights": "s3://mine/weights"},
    grid={"stride": 8},
)
SPEC = ServeSpec(job=OWN, encoders=("clip-vit-l14",))
PRESETS = ("efficientnet_lite", "clip-vit-l14")


def checked(**body: Any) -> JobSpec:
    return checked_job(body, SPEC, PRESETS)


def test_the_services_own_encoder_keeps_its_weights_and_grid() -> None:
    for body in ({}, {"encoder": "efficientnet_lite"}, {"encoders": ["efficientnet_lite"]}):
        assert checked(**body) == OWN


def test_a_job_may_name_several_encoders_that_are_on_offer() -> None:
    job = checked(encoders=["clip-vit-l14", {"preset": "efficientnet_lite", "frames": 2}])
    assert job.encoders == (
        EncoderChoice(preset="clip-vit-l14"),
        OWN.encoder.model_copy(update={"frames": 2}),
    )
    # The service's grid is meant for its own encoder alone.
    assert job.grid.stride is None
    assert checked(encoder=["clip-vit-l14"]).encoder.preset == "clip-vit-l14"


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        ({"encoders": ["efficientnet_lite", "dinov2-base"]}, Unknown, "no encoder 'dinov2-base'"),
        (
            {"encoders": ["clip-vit-l14", {"weights": "s3://evil/x"}]},
            NotAllowed,
            "encoder.weights is set by the service",
        ),
        ({"encoder": "clip-vit-l14", "encoders": []}, SettingsError, "not both"),
        ({"encoders": []}, SettingsError, "at least 1 item"),
        ({"encoders": ["efficientnet_lite"] * 2}, SettingsError, "twice"),
        ({"encoder": 5}, SettingsError, "encoder"),
        ({"segments": "s3://evil/steps.csv"}, NotAllowed, "segments is not below"),
        ({"segments": "/etc/passwd"}, NotAllowed, "segments is not below"),
        ({"segments": "s3://data/egoexo/../x.csv"}, NotAllowed, "segments is not below"),
        ({"dataset": "s3://data/egoexo/cameras.csv"}, NotAllowed, "may name videos anywhere"),
        ({"dataset": "s3://data/egoexo/cameras.CSV"}, NotAllowed, "may name videos anywhere"),
    ],
)
def test_what_reaches_outside_or_is_not_on_offer_is_refused(
    body: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as caught:
        checked(**body)
    assert words in str(caught.value)


def test_segments_of_the_data_set_itself_are_allowed() -> None:
    uri = "s3://data/egoexo/annotations/keystep_train.json"
    assert checked(segments=uri).segments == uri


def test_a_service_over_a_table_of_cameras_runs_jobs_on_it() -> None:
    table = OWN.model_copy(update={"dataset": "s3://data/cameras.csv"})
    spec = ServeSpec(job=table)
    assert checked_job({}, spec, PRESETS).dataset == "s3://data/cameras.csv"


def test_a_record_of_before_a_job_could_have_several_encoders_goes_on() -> None:
    old = OWN.model_dump(mode="json")
    old["encoder"] = old.pop("encoders")[0]
    assert resumed_job(old, SPEC) == OWN
