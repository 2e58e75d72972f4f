"""Films of one scene: offsets are found by what moves, and what repeats itself is not believed."""

from itertools import cycle, islice

import numpy as np
import pytest

from tests.support.rooms import activity, write_film
from workers.media.source import Source
from workers.media.video import probe_video
from workers.sync.agreement import place
from workers.sync.sight import changes, compare_sights, rules

SECONDS = 14


def offset_of(first, second, fps=30, seconds=SECONDS):
    """How the second film stands beside the first; None where it cannot be told."""
    looks = {}
    for name, path in (("first", first), ("second", second)):
        source = Source(str(path))
        reader = probe_video(source).reader(source)
        looks[name] = lambda spans, reader=reader: changes(reader, spans, fps)
    links = compare_sights(looks, seconds, fps)
    return place(["first", "second"], links, rules(fps), seconds / 2).get("second")


@pytest.mark.parametrize(
    ("offset", "fps"), [(-0.5, 30), (-0.05, 30), (0.0, 25), (0.3, 30), (0.49, 30), (0.21, 25)]
)
def test_an_offset_is_found_within_half_a_frame(tmp_path, offset, fps):
    count = SECONDS * fps
    one = write_film(tmp_path / "1.mp4", activity(count, fps=fps, seed=1), fps=fps)
    two = write_film(
        tmp_path / "2.mp4",
        activity(count, offset=offset, fps=fps, seed=2, size=(176, 144)),
        fps=fps,
    )
    found = offset_of(one, two, fps)
    assert found.offset == pytest.approx(offset, abs=0.5 / fps)


def test_other_scenes_and_repeated_movements_are_not_believed(tmp_path):
    count = SECONDS * 30
    films = {
        "one": activity(count, seed=1),
        "other": activity(count, seed=2, scene=9),
        "again": islice(cycle(list(activity(33, seed=3))), count),
        "again, later": islice(cycle(list(activity(33, seed=3))), 7, count + 7),
        "still": (np.full((120, 160, 3), 90, dtype=np.uint8) for _ in range(count)),
        "still too": (np.full((120, 160, 3), 30, dtype=np.uint8) for _ in range(count)),
    }
    paths = {name: write_film(tmp_path / f"{name}.mp4", film) for name, film in films.items()}
    for first, second in [
        ("one", "other"), ("again", "again, later"), ("one", "still"), ("still", "still too"),
    ]:  # fmt: skip
        found = offset_of(paths[first], paths[second])
        assert found is None or not found.sure, (first, second)


def test_what_stands_still_does_not_move(tmp_path):
    random = np.random.default_rng(0)
    ground = random.integers(60, 200, (120, 160, 1)).repeat(3, 2)
    noisy = (
        np.clip(ground + 3 * random.standard_normal((120, 160, 1)), 0, 255).astype(np.uint8)
        for _ in range(240)
    )
    source = Source(str(write_film(tmp_path / "film.mp4", noisy)))
    video = probe_video(source)
    assert video.index.key.sum() > 2
    (found,) = changes(video.reader(source), [(0.0, 8.0)], 30)
    # An encoder takes some frames to draw what stands still.
    assert not found[:, 60:].any()
