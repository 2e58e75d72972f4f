"""Which streams a request is about."""

from service.features.request import chosen_streams
from workers.dataset.take import Stream, Take


def take(*streams: tuple[str, str]) -> Take:
    made = tuple(
        Stream(f"aria01_{name}", "aria01", name, uri=None, is_ego=True, camera_kind=kind)
        for name, kind in streams
    )
    return Take("one", "one", None, None, None, None, made)


def test_eye_cameras_are_left_out_unless_named_as_jobs_leave_them_out() -> None:
    both = take(("rgb", "rgb"), ("et", "et"))
    assert chosen_streams(both, []) == ("aria01_rgb",)
    assert chosen_streams(both, ["aria01_et"]) == ("aria01_et",)
    assert chosen_streams(both, ["aria*"]) == ("aria01_rgb", "aria01_et")
    assert chosen_streams(take(("et", "et")), []) == ("aria01_et",)
