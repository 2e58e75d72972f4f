"""Progress: rates and the time left, a plain line where there is no terminal, none when quiet."""

from itertools import pairwise

import pytest

from service.report.ending import end_of, progress_facts, stopped
from service.report.progress import progress_display, rates
from workers.run.report import Progress, Report


def half_way() -> Progress:
    """Ten clips a second after five seconds of starting; 220 of 240 clips are expected anew."""
    counts = {"clips": 50.0, "frames_decoded": 800.0, "bytes_read": 4e6}
    progress = Progress(
        takes=4, takes_prepared=2, takes_done=1, units=2, units_done=1, clips=120,
        clips_skipped=20,
    )  # fmt: skip
    progress.tick(5.0, {})
    for second in range(1, 6):
        progress.tick(5.0 + second, {**counts, "clips": 10.0 * second})
    progress.clips_done = 40
    return progress


def test_rates_and_time_left() -> None:
    assert rates(half_way()) == {"clips_per_s": 5.0, "frames_per_s": 80.0, "mb_per_s": 0.4}
    # 120 clips in 2 of 4 takes, so 240 in all, of which 20 were there and 50 are encoded.
    assert (half_way().clips_reached, half_way().clips_asked) == (70, 240)
    assert half_way().clips_per_s == pytest.approx(10.0)
    assert half_way().seconds_left == pytest.approx(17.0)
    assert Progress(takes=4).seconds_left is None
    assert "seconds_left" not in progress_facts(Progress(takes=4))


def test_the_rate_is_that_of_late_and_steady() -> None:
    progress = Progress(takes=1, takes_prepared=1, clips=10_000)
    seen, lefts = 0.0, []
    for second in range(1, 301):
        # A batch every other second, twice as fast from minute four on.
        seen += (second % 2) * (20 if second <= 180 else 40)
        progress.tick(float(second), {"clips": seen})
        if second > 30:
            lefts.append(progress.seconds_left)
    assert progress.clips_per_s == pytest.approx(20, rel=0.05)
    assert max(b - a for a, b in pairwise(lefts)) < 0.1 * lefts[0]
    # A worker that died does its clips again: no rate below zero, nothing past the end.
    progress.tick(301.0, {"clips": 0.0})
    assert progress.clips_per_s > 0
    progress.tick(302.0, {"clips": 10_500.0})
    assert (progress.clips_reached, progress.seconds_left) == (10_000, 0.0)


def test_units_that_end_between_two_looks_count_in_the_rate() -> None:
    """As a job does it: records are taken in, then time passes."""
    progress = Progress(takes=1, takes_prepared=1, clips=200)
    for second in range(1, 11):
        progress.clips_done += 10
        progress.tick(float(second), {"clips": progress.clips_done})
    assert progress.clips_per_s == pytest.approx(10.0)
    assert progress.seconds_left == pytest.approx(10.0)
    progress.clips_done = 200
    progress.tick(11.0, {"clips": 200.0})
    assert progress.seconds_left == 0.0
    # All was there already.
    assert Progress(takes=1, takes_prepared=1, clips=9, clips_skipped=9).seconds_left == 0.0
    assert set(progress_facts(progress)) >= {"clips_per_s", "seconds_left", "seconds"}
    assert not [name for name in progress_facts(progress) if name.startswith("_")]


def test_a_job_that_has_ended_has_the_rate_of_all_its_time() -> None:
    done = end_of(Report(half_way())).progress
    assert done is not None
    assert (done["clips_per_s"], done["clips_reached"]) == (5.0, 60)
    assert "seconds_left" not in done
    told = stopped(progress_facts(half_way())).progress
    assert told is not None
    assert (told["clips_per_s"], told["clips_reached"], "seconds_left" in told) == (5.0, 60, False)


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
    assert facts["clips"] == "70/240"
    assert facts["eta_s"] == "17"


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_display(quiet=True) as show:
        show(half_way(), [])
    assert capsys.readouterr() == ("", "")
