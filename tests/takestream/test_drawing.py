"""A take as a picture, and the one similarity of its streams."""

import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_rgb

import takestream
from takestream import likeness
from takestream.drawing import LOOKS
from takestream.schema import Reason
from tests.support.feature_stores import facts_of, feature_store

STREAMS = ("aria01_rgb", "cam01_0", "cam02_0")
RANDOM = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    mpl.use("Agg")
    monkeypatch.setattr(plt, "show", None)


@pytest.fixture
def take(tmp_path: Path) -> xr.Dataset:
    """Twenty clips of a second, some invalid."""
    valid = np.ones((20, 3), bool)
    valid[15:, 2] = valid[3, 1] = False
    features = RANDOM.normal(size=(20, 3, 8)) + 2
    store = feature_store(
        str(tmp_path), facts_of("uid-a", take_name="$a_1$"), features, STREAMS, valid=valid
    )
    return takestream.open(store.uri)


@pytest.mark.parametrize("block", [1, 2**24])
def test_similarity_is_the_mean_cosine_to_the_other_streams(
    take: xr.Dataset, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likeness, "_BLOCK", block)
    found = takestream.similarity(take.transpose("feature", "stream", "clip"))
    assert (found.dims, found.dtype) == (("clip", "stream"), np.float32)
    assert found.stream.values.tolist() == list(STREAMS)
    unit = take.features.values / np.linalg.norm(take.features.values, axis=-1, keepdims=True)
    for clip, stream, others in ((0, 0, (1, 2)), (3, 0, (2,)), (17, 1, (0,))):
        expected = np.mean([unit[clip, stream] @ unit[clip, other] for other in others])
        assert float(found[clip, stream]) == pytest.approx(expected, abs=1e-5)
    assert np.isnan(found.values).sum() == 6
    assert found[0].equals(takestream.similarity(take.isel(clip=slice(0, 1)))[0])
    assert found.sel(stream="cam01_0").plot() is not None
    plt.close("all")


def test_a_lane_for_each_stream_with_its_invalid_clips(take: xr.Dataset) -> None:
    axes = takestream.plot(take)
    assert [lane.get_ylabel() for lane in axes] == [
        "aria01_rgb\nego", "cam01_0\nexo", "cam02_0\nexo"
    ]  # fmt: skip
    spans = [[patch.get_extents() for patch in lane.patches] for lane in axes]
    assert [len(one) for one in spans] == [0, 1, 1]
    damaged = axes[2].patches[0]
    assert damaged.get_facecolor()[:3] == to_rgb(LOOKS[Reason.MISSING_FRAME][0])
    assert (damaged.get_x(), damaged.get_x() + damaged.get_width()) == (15.0, 20.0)
    similarity = takestream.similarity(take)
    for lane, name in zip(axes, STREAMS, strict=True):
        x, y = lane.lines[0].get_data()
        np.testing.assert_allclose(x, np.arange(20) + 0.5)
        np.testing.assert_array_equal(y, similarity.sel(stream=name))
    # One scale for all, told on the axis; what it is is told in words.
    (low, high), finite = axes[0].get_ylim(), similarity.values[np.isfinite(similarity.values)]
    assert low <= finite.min()
    assert finite.max() <= high
    assert {(*lane.get_ylim(), *lane.get_yticks()) for lane in axes} == {(low, high, low, high)}
    figure = axes[0].figure
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == [likeness.NAME, f"{Reason.MISSING_FRAME.words} (6 clips)"]
    assert figure.get_suptitle() == "$a_1$, made-0123456789"
    assert axes[-1].get_xlabel() == "seconds on the take's clock"
    figure.canvas.draw()  # a name that looks like a formula is none
    plt.close(figure)


def test_it_keeps_to_the_style_that_is_chosen(take: xr.Dataset) -> None:
    found = []
    for style in ("default", "dark_background"):
        with plt.style.context(style):
            figure = takestream.plot(take)[0].figure
            figure.canvas.draw()
            pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)
            plt.close(figure)
        face = np.array(to_rgb(LOOKS[Reason.MISSING_FRAME][0])) * 255
        assert (np.abs(pixels - face).max(-1) < 4).sum() > 500
        found.append(np.median(pixels))
    assert found == [255, 0]


def test_segments_in_any_order_and_a_stream_alone(take: xr.Dataset) -> None:
    turned = take.isel(clip=slice(None, None, -1), stream=[2])
    (lane,) = takestream.plot(turned)
    assert lane.patches[0].get_x() == 15.0
    assert lane.figure.legends[0].get_texts()[0].get_text().startswith(Reason.MISSING_FRAME.words)
    assert len(lane.get_yticks()) == 0  # nothing to compare with
    plt.close("all")


def test_what_cannot_be_drawn_is_said(take: xr.Dataset) -> None:
    other = take.assign_attrs(take={"take_uid": "uid-b"})
    with pytest.raises(ValueError, match="plot draws one take, and this dataset holds 2"):
        takestream.plot(takestream.concat([take, other]))
    one = takestream.concat([take, other])
    takestream.plot(one.isel(clip=one.take_uid == "uid-a"))
    plt.close("all")
    for nothing in (take.isel(clip=[]), take.isel(stream=[])):
        with pytest.raises(ValueError, match="nothing to draw"):
            takestream.plot(nothing)


def test_without_matplotlib_it_says_what_to_install(take: xr.Dataset) -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None; import takestream, xarray\n"
        "try: takestream.plot(xarray.Dataset())\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "plot needs matplotlib: install it (pip install matplotlib)\n"
