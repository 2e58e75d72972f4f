"""The picture: what it shows is where and what the store says."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.report import picture
from service.report.picture import WIDTH, draw_store
from service.report.similarity import curves, mean_of, read_clips, similarity
from takestream.likeness import NAME, mean_cosines
from takestream.schema import Reason
from workers.store.errors import StoreError, StoreNotFound
from workers.store.layout import StoreLayout
from workers.store.takestore import TakeStore

ROOT = Path(__file__).parents[3]
STREAMS = ("aria01_rgb", "cam01_0", "cam02_0")
PINK = (0xE9, 0xBA, 0xD3)
"""The face of damaged clips."""


def make_store(
    folder, streams=STREAMS, clips=100, reasons=None, dim=8, skip=(), name="take", unit=64
):
    """A store of made-up features. reasons: {(stream, first, stop): reason}."""
    start = np.arange(clips, dtype=np.int64) * 16
    layout = StoreLayout(
        streams=tuple(streams),
        dim=dim,
        dtype="float16",
        unit_clips=unit,
        start_frame=start,
        stop_frame=start + 32,
        start_time=start / 30,
        end_time=(start + 32) / 30,
        attributes={
            "take": {"take_uid": name, "take_name": name},
            "grid": {"fps": 30.0, "window": 32, "stride": 16, "tail": "drop"},
            "encoder": {"encoder_id": "tiny-0123456789"},
        },
    )
    store = TakeStore.create(str(folder / f"{name}.zarr"), layout)
    rng = np.random.default_rng(7)
    features = rng.normal(size=(clips, len(streams), dim)) + 1
    why = np.zeros((clips, len(streams)), np.uint8)
    for (stream, first, stop), reason in (reasons or {}).items():
        why[first:stop, streams.index(stream)] = reason
    for gap in store.missing():
        rows = slice(gap.start, gap.stop)
        for stream in gap.streams:
            index = streams.index(stream)
            if (stream, gap.start) not in skip:
                store.write(
                    stream,
                    gap.start,
                    features=features[rows, index],
                    valid=why[rows, index] == 0,
                    frame_time=start[rows] / 30,
                    reason=why[rows, index],
                )
    store.finish()
    return store


def drawn(store, folder, **options):
    """The picture's pixels, uint8 [height, width, 3]."""
    path = folder / "pictures" / "one.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_store(store, path, **options)
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def pink_of_lane(pixels, rows=None):
    """bool [height, width] of the damaged colour, in the rows of the lane (not of the legend)."""
    pink = (pixels == PINK).all(axis=2)
    if rows is None:
        rows = np.flatnonzero(pink.sum(axis=1) > 200)
    return rows, pink[rows]


def test_invalid_spans_are_drawn_where_they_are(tmp_path):
    def store(first, stop):
        reasons = {("cam01_0", first, stop): Reason.DAMAGED_FRAME}
        return make_store(tmp_path, name=f"{first}-{stop}", reasons=reasons)

    rows, lane = pink_of_lane(drawn(store(0, 100), tmp_path))
    columns = np.flatnonzero(lane.any(axis=0))
    left, width = columns[0], columns[-1] - columns[0] + 1
    # Clip i stands for the time around its middle: frames 16 i + 8 to 16 i + 24 of the 1616; the
    # first and the last clip reach to the ends.
    for first, stop, begin, end in ((0, 5, 0, 88), (30, 40, 488, 648), (90, 100, 1448, 1616)):
        pixels = drawn(store(first, stop), tmp_path)
        found = np.flatnonzero(pink_of_lane(pixels, rows)[1].any(axis=0))
        assert found[0] == pytest.approx(left + width * begin / 1616, abs=3)
        assert found[-1] == pytest.approx(left + width * end / 1616, abs=3)
        # And in no other stream.
        others = np.setdiff1d(np.arange(rows[0], len(pixels)), rows)
        assert not (pixels[others] == PINK).all(axis=2).any()
    valid = drawn(make_store(tmp_path, name="valid"), tmp_path)
    assert not pink_of_lane(valid, rows)[1].any()


def test_one_invalid_clip_of_thousands_is_seen(tmp_path):
    def lane(name, span):
        reasons = {("cam01_0", *span): Reason.DAMAGED_FRAME}
        store = make_store(tmp_path, clips=5000, reasons=reasons, dim=2, name=name, unit=5000)
        return drawn(store, tmp_path)

    rows, _ = pink_of_lane(lane("whole", (0, 5000)))
    found = np.flatnonzero(pink_of_lane(lane("one", (2500, 2501)), rows)[1].any(axis=0))
    assert 1 <= found[-1] - found[0] <= 5


def test_every_reason_looks_different(tmp_path):
    def picture(reason):
        reasons = {("cam02_0", 20, 80): reason}
        store = make_store(tmp_path, reasons=reasons, name=reason.name.lower())
        # Below the legend and beside the names, so that only the lanes count.
        return drawn(store, tmp_path)[200:, 250:1000].tobytes()

    assert len({picture(reason) for reason in Reason}) == len(Reason)


def test_missing_chunks_are_drawn_as_not_extracted(tmp_path):
    reasons = {("cam01_0", 64, 100): Reason.NOT_EXTRACTED}
    told = drawn(make_store(tmp_path, reasons=reasons, name="a"), tmp_path)
    store = make_store(tmp_path, name="b")
    # Its `valid` and `reason` are there, as after a crash in the middle of a write.
    Path(store.uri, "features/c/1/1/0").unlink()
    lacking = drawn(store, tmp_path)
    unwritten = drawn(make_store(tmp_path, skip=[("cam01_0", 64)], name="c"), tmp_path)
    # Below title and status they are the same picture.
    assert np.array_equal(told[80:], lacking[80:])
    assert np.array_equal(told[80:], unwritten[80:])


@pytest.mark.parametrize(
    ("streams", "clips", "reasons"),
    [
        (STREAMS, 1, {}),
        (("cam01_0",), 1, {}),
        (("cam01_0",), 90, {("cam01_0", 3, 9): Reason.MISSING_FRAME}),
        (STREAMS, 0, {}),
        (STREAMS, 20, {(s, 0, 20): Reason.STREAM_ABSENT for s in STREAMS}),
        (tuple(f"cam{i:02}_0" for i in range(12)), 701, {}),
        # Broken TeX, which matplotlib reads between dollars unless it is told not to.
        (("$\\frac$", "[b]$\\x{$"), 20, {}),
        (tuple(f"a-very-long-camera-name-{i}_slam-left" for i in range(20)), 1, {}),
    ],
    ids=[
        "one clip",
        "one of each",
        "one stream",
        "no clips",
        "all invalid",
        "many",
        "odd names",
        "too many",
    ],
)
def test_every_shape_of_take_gets_a_picture(tmp_path, streams, clips, reasons):
    name = "take [b] $\\frac$ %d"
    store = make_store(tmp_path, streams, clips, reasons, name=name, unit=1024)
    height, width, _ = drawn(store.uri, tmp_path).shape
    assert width == WIDTH
    assert 200 < height < 2500


def test_similarity_is_the_cosine_of_valid_pairs(tmp_path):
    reasons = {("cam01_0", 10, 70): Reason.PAST_END}
    store = make_store(tmp_path, reasons=reasons)
    why = store.array("reason")[:]
    found = similarity(store, why)
    features = store.array("features")[:].astype(np.float64)
    for clip in (0, 9, 10, 69, 70, 99):
        for a in range(3):
            for b in range(3):
                one, other = features[clip, a], features[clip, b]
                cosine = one @ other / np.sqrt((one @ one) * (other @ other))
                assert np.isnan(found[clip, a, b]) == (10 <= clip < 70 and 1 in (a, b))
                np.testing.assert_allclose(found[clip, a, b], cosine, rtol=1e-5)


def test_the_first_ego_stream_with_valid_clips_is_the_reference(tmp_path):
    streams = ("cam01_0", "aria01_rgb", "aria01_slam-left")
    store = make_store(tmp_path, streams, name="a")
    by_default = drawn(store, tmp_path)
    assert np.array_equal(by_default, drawn(store, tmp_path, reference="aria01_rgb"))
    assert not np.array_equal(by_default, drawn(store, tmp_path, reference="cam01_0"))

    absent = {("aria01_rgb", 0, 100): Reason.STREAM_ABSENT}
    store = make_store(tmp_path, streams, reasons=absent, name="b")
    second = drawn(store, tmp_path, reference="aria01_slam-left")
    assert np.array_equal(drawn(store, tmp_path), second)


def test_what_cannot_be_drawn_says_why(tmp_path):
    store = make_store(tmp_path)
    with pytest.raises(StoreError, match=r"no stream 'cam9'.*cam01_0"):
        draw_store(store, tmp_path / "x.png", reference="cam9")
    with pytest.raises(StoreNotFound):
        draw_store(str(tmp_path / "none.zarr"), tmp_path / "x.png")
    Path(store.uri, "features/c/0/1/0").write_bytes(b"damage")
    with pytest.raises(StoreError, match="damaged"):
        draw_store(store, tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_pyplot_is_left_alone():
    # It would choose a window system, and keep every figure.
    code = "import sys, service.report.picture; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def pinkish(path: Path) -> int:
    """How many pixels have the colour of damaged clips."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return int((np.abs(pixels - PINK).max(axis=-1) < 8).sum())


def test_few_clips_colour_few_pixels(tmp_path: Path) -> None:
    reasons = {("cam01_0", i, i + 1): Reason.DAMAGED_FRAME for i in range(0, 3000, 30)}
    draw_store(make_store(tmp_path, clips=3000, reasons=reasons), tmp_path / "few.png")
    whole = {("cam01_0", 0, 3000): Reason.DAMAGED_FRAME}
    draw_store(make_store(tmp_path, clips=3000, reasons=whole, name="b"), tmp_path / "all.png")
    assert 50 < pinkish(tmp_path / "few.png") < pinkish(tmp_path / "all.png") / 4


def test_many_cameras_have_a_scale_and_no_numbers(tmp_path: Path) -> None:
    streams = [f"cam{number:02}_0" for number in range(48)]
    store = make_store(tmp_path, streams, clips=20)
    figure = picture._draw(store, read_clips(store), 0)
    matrix = figure.axes[0]
    assert not matrix.texts
    assert matrix.get_xlabel().startswith("dark ")
    few = make_store(tmp_path, streams[:12], clips=20, name="few")
    numbered = picture._draw(few, read_clips(few), 0).axes[0]
    assert (len(numbered.texts), numbered.get_xlabel()) == (144, "")


def test_each_curve_says_what_it_is(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    labels = [one.get_label() for one in picture._legend(read_clips(store), 0)]
    assert labels[:2] == [f"cosine to {store.streams[0]}, the reference", NAME]


def test_the_users_matplotlib_is_no_concern(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfont.size: 40\n")
    code = """
import sys
from pathlib import Path
from service.report.drawing import draw_store
draw_store(sys.argv[1], Path(sys.argv[2]))
"""
    for name, settings in {
        "plain": {},
        "misspelt": {"MPLBACKEND": "inlin"},
        "styled": {"MATPLOTLIBRC": str(tmp_path)},
    }.items():
        command = [sys.executable, "-c", code, store.uri, str(tmp_path / f"{name}.png")]
        subprocess.run(command, env={**os.environ, **settings}, check=True, timeout=120, cwd=ROOT)
        assert (tmp_path / f"{name}.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_the_page_has_the_picture_s_similarity(tmp_path: Path) -> None:
    reasons = {("cam01_0", 10, 70): Reason.PAST_END, ("cam02_0", 30, 50): Reason.DAMAGED_FRAME}
    store = make_store(tmp_path, reasons=reasons)
    clips = read_clips(store)
    drawn = np.stack([mean_of(np.delete(clips.similarity[:, i], i, 1), 1) for i in range(3)], 1)
    valid = clips.reasons == Reason.VALID
    shown = mean_cosines(store.array("features")[:], valid)
    np.testing.assert_allclose(shown, drawn, atol=1e-5)
    for i in range(1, 3):
        np.testing.assert_array_equal(curves(clips, i, 0)[1], drawn[:, i])
