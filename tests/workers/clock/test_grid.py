"""Clip arithmetic against an independent statement of the official rule."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.schema import GridSpec
from workers.clock.grid import agreed_frames, agreed_rate, clip_starts, make_grid

LENGTHS = range(1, 401)


def clips_of(frames, spec=None, rate=30):
    grid = make_grid(frames, Fraction(rate), spec or GridSpec())
    return list(zip(grid.start.tolist(), grid.stop.tolist(), strict=True))


@pytest.mark.parametrize("frames", LENGTHS)
def test_the_official_rule(frames):
    """Every window [16 i, 16 i + 32) that lies in the take, and the last 32 frames, each once."""
    windows = {(16 * i, 16 * i + 32) for i in range(frames)}
    inside = {(start, stop) for start, stop in windows if stop <= frames}
    whole = inside | {(frames - 32, frames)} if frames >= 32 else {(0, frames)}
    assert clips_of(frames) == sorted(whole)


@pytest.mark.parametrize("frames", LENGTHS)
def test_dropping_the_tail_leaves_full_strides_only(frames):
    expected = [(i, i + 32) for i in range(frames) if i % 16 == 0 and i + 32 <= frames]
    assert clips_of(frames, GridSpec(tail="drop")) == expected


@given(frames=st.integers(1, 2000), window=st.integers(1, 80), stride=st.integers(1, 80))
def test_any_window_and_stride(frames, window, stride):
    clips = clips_of(frames, GridSpec(window=window, stride=stride))
    starts = [start for start, _ in clips]
    assert starts == sorted(set(starts))
    assert starts[0] == 0
    assert clips[-1][1] == frames
    if frames < window:
        assert len(clips) == 1
    else:
        assert all(stop - start == window for start, stop in clips)
        steps = np.diff(starts)
        assert (steps[:-1] == stride).all()
        assert (steps[-1:] <= stride).all()
        # A dropped tail loses at most that one clip, and only one off the strides.
        dropped = clips_of(frames, GridSpec(window=window, stride=stride, tail="drop"))
        assert dropped == [clip for clip in clips if clip[0] % stride == 0]


def test_images_are_one_clip_each():
    assert clips_of(5, GridSpec(window=1, stride=1)) == [(i, i + 1) for i in range(5)]


def test_no_frames_no_clips():
    assert clips_of(0) == []
    assert clip_starts(-1, GridSpec()) == []


def test_what_an_encoder_of_eight_frames_sees():
    grid = make_grid(100, Fraction(30), GridSpec())
    assert grid.sampled(8)[1].tolist() == [16 + i for i in (0, 4, 9, 13, 18, 22, 27, 31)]
    assert not grid.padded
    assert grid.sampled(1)[:, 0].tolist() == grid.start.tolist()
    assert grid.sampled(32)[2].tolist() == list(range(32, 64))


@given(frames=st.integers(1, 200), window=st.integers(1, 64), seen=st.integers(1, 64))
def test_what_any_encoder_sees(frames, window, seen):
    grid = make_grid(frames, Fraction(30), GridSpec(window=window, stride=16))
    sampled = grid.sampled(seen)
    assert sampled.shape == (grid.clips, seen)
    offsets = np.round(np.linspace(0, window - 1, seen))
    for start, stop, row in zip(grid.start, grid.stop, sampled, strict=True):
        # Past the end of a padded clip its last frame stands in.
        assert row.tolist() == [min(start + offset, stop - 1) for offset in offsets]


def test_a_take_shorter_than_a_window_is_padded_with_its_last_frame():
    grid = make_grid(10, Fraction(30), GridSpec())
    assert grid.padded
    assert grid.sampled(8).tolist() == [[0, 4, 9, 9, 9, 9, 9, 9]]
    assert (grid.start_time().tolist(), grid.end_time().tolist()) == ([0], [10 / 30])


def test_times_follow_the_rate():
    rate = Fraction(30000, 1001)
    grid = make_grid(100, rate, GridSpec())
    assert grid.fps == rate
    np.testing.assert_allclose(grid.start_time(), np.array([0, 16, 32, 48, 64, 68]) * 1001 / 30000)
    np.testing.assert_allclose(grid.end_time() - grid.start_time(), 32 * 1001 / 30000)
    assert grid.source.tolist() == list(range(100))


RATES = st.sampled_from([Fraction(30), Fraction(30000, 1001), Fraction(25), Fraction(60)])


@given(frames=st.integers(1, 3000), rate=RATES, fps=st.floats(0.5, 120))
def test_another_rate_shows_the_nearest_frame_of_all_that_there_are(frames, rate, fps):
    grid = make_grid(frames, rate, GridSpec(fps=fps))
    assert grid.frames == len(grid.source) >= 1
    assert grid.source[0] == 0
    assert (np.diff(grid.source) >= 0).all()
    assert grid.source[-1] < frames
    for f in {0, grid.frames // 3, grid.frames - 1}:
        distance = abs(Fraction(int(grid.source[f])) / rate - Fraction(f) / grid.fps)
        assert distance <= Fraction(1, 2) / rate
    # The grid frame after the last one would show what comes after the take's last frame.
    after = Fraction(grid.frames) * rate / grid.fps
    assert after >= frames - Fraction(1, 2)
    assert abs(float(grid.fps) - fps) < 1e-3 * max(1, fps)


@pytest.mark.parametrize(
    ("fps", "expected"),
    [(10, [0, 3, 6, 9]), (15, [0, 2, 4, 6, 8, 10]), (20, [0, 2, 3, 5, 6, 8, 9])],
)
def test_halves_go_up(fps, expected):
    # 20 grid frames per second from 30: 0, 1.5, 3, 4.5, …
    source = make_grid(11, Fraction(30), GridSpec(fps=fps)).source.tolist()
    assert source[: len(expected)] == expected


def test_the_same_rate_by_another_name_changes_nothing():
    assert make_grid(77, Fraction(30), GridSpec(fps=30)).source.tolist() == list(range(77))


@pytest.mark.parametrize(
    ("counts", "agreed"),
    [
        ([], 0),
        ([100], 100),
        ([100, 99], 100),
        ([99, 99, 100], 99),
        ([99, 99, 100, 100], 100),
        ([5, 7, 6], 7),
        ([0, 0, 9], 0),
    ],
)
def test_most_streams_decide_and_the_larger_count_wins_a_tie(counts, agreed):
    assert agreed_frames(counts) == agreed
    assert agreed_frames(counts[::-1]) == agreed


def test_most_streams_decide_the_rate():
    slow, fast = Fraction(30000, 1001), Fraction(30)
    assert agreed_rate([slow, slow, fast]) == slow
    assert agreed_rate([fast, slow]) == agreed_rate([slow, fast]) == fast
    assert agreed_rate([]) == 30


def test_of_two_rates_the_likely_one_wins_whichever_is_higher():
    damaged, good = Fraction(62), Fraction(30)
    assert agreed_rate([damaged, good]) == agreed_rate([good, damaged]) == good
    assert agreed_rate([Fraction(50), Fraction(25)], likely=50.2) == 50
    assert agreed_rate([damaged, damaged, good], likely=30) == damaged


def test_a_rate_of_nearly_none_is_refused():
    spec = GridSpec().model_copy(update={"fps": 1e-9})
    with pytest.raises(ValueError, match="too slow"):
        make_grid(9000, Fraction(30), spec)
    assert make_grid(9000, Fraction(30), GridSpec(fps=0.01)).frames == 3


def test_on_a_lattice_clips_share_frames() -> None:
    grid = make_grid(100, Fraction(30), GridSpec())
    sampled = grid.sampled(8, "lattice")
    assert sampled[:2].tolist() == [[0, 4, 8, 12, 16, 20, 24, 28], list(range(16, 48, 4))]
    # The clip over the last frames begins where it must.
    assert sampled[-1].tolist() == list(range(68, 100, 4))
    assert len(set(sampled[:-1].ravel().tolist())) == 24
    assert grid.sampled(1, "lattice").tolist() == grid.sampled(1).tolist()
    # More frames than the window has cannot be told apart.
    few = make_grid(10, Fraction(30), GridSpec(window=4, stride=2))
    assert few.sampled(8, "lattice").tolist() == few.sampled(8).tolist()
    short = make_grid(10, Fraction(30), GridSpec())
    assert short.sampled(8, "lattice").tolist() == [[0, 4, 8, 9, 9, 9, 9, 9]]


@given(
    st.integers(1, 300), st.integers(1, 64), st.integers(1, 64), st.integers(1, 64), st.booleans()
)
def test_a_lattice_stays_inside_its_clip(
    frames: int, window: int, stride: int, seen: int, drop: bool
) -> None:
    spec = GridSpec(window=window, stride=stride, tail="drop" if drop else "backpad")
    grid = make_grid(frames, Fraction(30), spec)
    sampled = grid.sampled(seen, "lattice")
    assert sampled.shape == (grid.clips, seen)
    assert (sampled >= grid.start[:, None]).all()
    assert (sampled < grid.stop[:, None]).all()
    assert (np.diff(sampled, axis=1) >= 0).all()
    step = window // seen
    if step and stride % step == 0 and grid.clips > 2:
        # All but the last clip stand on one lattice.
        assert (sampled[:-1] % step == 0).all() or grid.padded
