"""Progress: rates and the time left, a plain line where there is no terminal, none when quiet."""

import pytest

from service.report.progress import progress_display, rates, seconds_left
from workers.run.report import Progress


def half_way() -> Progress:
    counts = {"clips": 50.0, "frames_decoded": 800.0, "bytes_read": 4e6}
    return Progress(
        takes=4, takes_prepared=2, takes_done=1, units=2, units_done=1, clips=120,
        clips_skipped=20, clips_done=40, seconds=10.0, counts=counts,
    )  # fmt: skip


def test_rates_and_time_left() -> None:
    assert rates(half_way()) == {"clips_per_s": 5.0, "frames_per_s": 80.0, "mb_per_s": 0.4}
    # 100 clips to do in 2 of 4 takes, so 200 in all; 50 took 10 s.
    assert seconds_left(half_way()) == pytest.approx(30.0)
    assert seconds_left(Progress(takes=4)) is None


def test_a_pipe_gets_key_value_lines_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_display() as show:
        show(Progress(takes=4), [])
        show(half_way(), [])
        show(half_way(), [])
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    facts = dict(word.split("=") for word in line.split()[1:])
    assert facts["takes"] == "1/4"
    assert facts["eta_s"] == "30"


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_display(quiet=True) as show:
        show(half_way(), [])
    assert capsys.readouterr() == ("", "")
