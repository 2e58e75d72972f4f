"""Which sample of a stream shows a moment: by number, by time."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.schema import GridSpec, SegmentGridSpec, TimelineSpec
from workers.clock.grid import make_grid
from workers.clock.timeline import NONE, FrameTimeline, PtsTimeline, make_timeline
from workers.dataset.take import Segment


class Clocked:
    """A reader of which only the times matter."""

    def __init__(self, times: np.ndarray) -> None:
        self.given = times
        self.samples = len(times)

    def times(self) -> np.ndarray:
        return self.given


def test_by_number_a_stream_shows_what_the_grid_names_up_to_its_end() -> None:
    grid = make_grid(100, Fraction(30), GridSpec(fps=10))
    samples = FrameTimeline(50).samples(grid)
    assert samples.tolist() == [n for n in grid.source.tolist() if n < 50] + [-1] * 17


def test_by_time_a_steady_stream_is_the_same_as_by_number() -> None:
    for fps in ("auto", 10, 12.5):
        grid = make_grid(100, Fraction(30), GridSpec(fps=fps))
        by_time = PtsTimeline(np.arange(100) / 30, 0.5 / 30).samples(grid)
        off = by_time - FrameTimeline(100).samples(grid)
        # Halfway between two frames the number goes up and the time stays.
        assert set(off.tolist()) <= {0, -1} if fps == 12.5 else not off.any()


def test_by_time_another_rate_and_holes_are_seen() -> None:
    grid = make_grid(30, Fraction(30), GridSpec())
    double = PtsTimeline(np.arange(60) / 60, 0.5 / 30).samples(grid)
    assert double.tolist() == list(range(0, 60, 2))
    half = PtsTimeline(np.arange(15) / 15, 0.5 / 30).samples(grid)
    assert half[::2].tolist() == list(range(15))
    assert (half[1::2] == -1).all()  # a whole frame away
    kept = np.delete(np.arange(30), [10, 11, 12]) / 30
    holes = PtsTimeline(kept, 0.5 / 30).samples(grid)
    assert (holes[10:13] == -1).all()
    assert holes[13] == 10
    missing = np.where(np.isin(np.arange(30), [10, 11, 12]), np.nan, np.arange(30) / 30)
    assert PtsTimeline(missing, 0.5 / 30).samples(grid).tolist() == [
        -1 if n in (10, 11, 12) else n for n in range(30)
    ]
    wide = PtsTimeline(kept, 2 / 30).samples(grid)
    assert wide[10:13].tolist() == [9, 9, 10]


def test_the_setting_chooses_and_counts_its_tolerance_in_frames() -> None:
    grid = make_grid(10, Fraction(10), GridSpec())
    late = Clocked(np.arange(10) / 10 + np.where(np.arange(10) > 4, 0.09, 0))
    by_number = make_timeline(TimelineSpec(), late, 10)
    assert by_number.samples(grid).tolist() == list(range(10))
    narrow = make_timeline(TimelineSpec(kind="pts"), late, 10).samples(grid)
    assert narrow.tolist() == [0, 1, 2, 3, 4, -1, 5, 6, 7, 8]
    assert (
        make_timeline(TimelineSpec(kind="pts"), Clocked(np.zeros(0)), 10).samples(grid).tolist()
        == [-1] * 10
    )


@given(
    st.lists(st.floats(0, 20), min_size=1, max_size=40),
    st.floats(0.001, 1),
    st.integers(1, 60),
)
def test_by_time_is_the_nearest_sample_or_none(
    times: list[float], tolerance: float, frames: int
) -> None:
    grid = make_grid(frames, Fraction(7), GridSpec(window=1, stride=1))
    array = np.array(times)
    samples = PtsTimeline(array, tolerance).samples(grid)
    for frame, sample in enumerate(samples.tolist()):
        distance = np.abs(array - frame / 7)
        if sample < 0:
            assert distance.min() > tolerance
        else:
            assert distance[sample] <= distance.min() + 1e-9
            assert distance[sample] <= tolerance + 1e-8


def test_segments_are_clips_with_frames_spread_over_them() -> None:
    spec = SegmentGridSpec(segments="0" * 64)
    segments = [
        Segment(0, 1),
        Segment(0.5, 0.5),
        Segment(1, 10.02),
        Segment(9, 99),
        Segment(20, 21),
    ]
    grid = make_grid(300, Fraction(30), spec, segments)
    assert grid.start.tolist() == [0, 15, 30, 270, 600]
    assert grid.stop.tolist() == [30, 16, 300, 300, 630]
    assert grid.sampled(4)[:3].tolist() == [[0, 10, 19, 29], [15] * 4, [30, 120, 209, 299]]
    assert grid.start_time().tolist() == [0, 0.5, 1, 9, 20]
    assert grid.end_time()[[0, 2]].tolist() == [1, 10.02]
    assert grid.end_time()[1] > 0.5
    assert not grid.padded
    # A segment behind the end shows nothing; one that begins before it is cut.
    samples = FrameTimeline(300).samples(grid)
    assert (samples[grid.sampled(4)[4]] == -1).all()
    assert (samples[grid.sampled(4)[:4]] >= 0).all()


@pytest.mark.parametrize("fps", ["auto", 10])
def test_segments_on_a_slower_grid(fps: float | str) -> None:
    spec = SegmentGridSpec(fps=fps, segments="0" * 64)
    grid = make_grid(90, Fraction(30), spec, [Segment(1, 2)])
    shown = grid.source[grid.sampled(3)[0]].tolist()
    assert shown == ([30, 44, 59] if fps == "auto" else [30, 42, 57])


@pytest.mark.parametrize("kind", ["frames", "pts"])
def test_a_stream_that_began_at_another_moment(kind):
    class Stream:
        samples = 5

        def times(self):
            return np.arange(5) / 30

    grid = make_grid(8, Fraction(30), GridSpec(window=1, stride=1))

    def shown(offset):
        timeline = make_timeline(TimelineSpec(kind=kind), Stream(), 30.0, offset)
        return timeline.samples(grid).tolist()

    assert shown(0.0) == [0, 1, 2, 3, 4, NONE, NONE, NONE]
    assert shown(2 / 30) == [NONE, NONE, 0, 1, 2, 3, 4, NONE]
    assert shown(-2 / 30) == [2, 3, 4, NONE, NONE, NONE, NONE, NONE]
    assert shown(-1.0) == [NONE] * 8
