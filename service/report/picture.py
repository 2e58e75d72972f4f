"""A picture of a store: streams × time, where clips are invalid, how alike the cameras see it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator, MultipleLocator

from service.report.inspect import clock, encoder_id, fps_words, reason_words, take_word
from service.report.similarity import (
    BINS,
    MOST_POINTS,
    Clips,
    Floats,
    binned,
    curves,
    limits,
    mean_of,
    read_clips,
    runs,
)
from service.report.sync import shift_words
from takestream.drawing import LOOKS
from takestream.likeness import NAME
from takestream.schema import Reason
from takestream.storage import S3Options
from takestream.sync import REFERENCE, TakeSync, offset_words
from workers.store.errors import StoreError
from workers.store.takestore import TakeStore

WIDTH = 1600
"""Of the picture, in pixels."""

_DPI = 100
# In pixels too. Title and facts are above the legend; lanes and cells share the room they have.
_MARGIN = 28
_LEGEND_TOP, _LEGEND_ROW = 86, 25
_LANE, _LANES_HEIGHT = (62, 140), 640
_CELL, _MATRIX_WIDTH, _WIDEST_MATRIX = (42, 92), 504, 760
_LANE_GAP = 8
_LONGEST_NAME = 24

# Okabe and Ito's colours, told apart by every kind of colour vision; hatches for print.
_TO_REFERENCE, _TO_OTHERS = "#0072B2", "#D55E00"
_INK, _MUTED, _FAINT = "#1A1A1A", "#666666", "#D9D9D9"

_MARKED_POINTS = 60
# So that one invalid clip of thousands is seen: at the foot of its lane, a part of its height.
_LEAST_PIXELS = 3
_FOOT = 0.2
# Narrower cells have no room for a number.
_NUMBERED_CELL = 26


def draw_store(
    store: TakeStore | str,
    path: Path,
    s3: S3Options | None = None,
    *,
    reference: str | None = None,
) -> None:
    """Draw a store as a PNG at `path`, `WIDTH` pixels wide; the height grows with the streams.

    Each stream has a lane along time: the cosine of its clips to the same clips of `reference`
    (default: the first ego stream with valid clips), their similarity (the mean cosine to all other
    streams), and its invalid clips by reason. Beside it, its mean cosine to each stream.

    Raises StoreError (or one of its kinds), also for a `reference` that the store does not have,
    and OSError when `path` cannot be written.
    """
    if isinstance(store, str):
        store = TakeStore.open(store, s3)
    if reference is not None and reference not in store.streams:
        names = ", ".join(store.streams)
        raise StoreError(f"{store.uri} has no stream {reference!r}; it has {names}")
    clips = read_clips(store)
    figure = _draw(store, clips, clips.streams.index(reference or _reference(store, clips)))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")


def _reference(store: TakeStore, clips: Clips) -> str:
    """The first ego stream with valid clips, else the first stream with some, else the first."""
    valid = (clips.reasons == Reason.VALID).any(axis=0)
    some = [name for name, any_valid in zip(clips.streams, valid, strict=True) if any_valid]
    facts = store.attributes.get("provenance", {}).get("streams", {})
    ego = [name for name in some if facts.get(name, {}).get("is_ego", name.startswith("aria"))]
    return (ego or some or list(clips.streams))[0]


def _draw(store: TakeStore, clips: Clips, reference: int) -> Figure:
    count = len(clips.streams)
    lane = int(np.clip(_LANES_HEIGHT / count, *_LANE))
    cell = min(int(np.clip(_MATRIX_WIDTH / count, *_CELL)), _WIDEST_MATRIX // count)
    names = [_shortened(name) for name in clips.streams]
    synced = _synced(store)
    page = _Page()
    page.say(_MARGIN, 22, _shortened(take_word(store, "name"), 96), 17, _INK, "bold")
    page.say(_MARGIN, 54, _facts(store, clips), 11, _MUTED)
    rows = page.legend(_legend(clips, reference))
    top = _LEGEND_TOP + rows * _LEGEND_ROW + 44
    right = 0.0
    for index, name in enumerate(names):
        middle = top + index * lane + (lane - _LANE_GAP) / 2
        valid = int((clips.reasons[:, index] == Reason.VALID).sum())
        words = f"{valid} of {store.clips} valid"
        if index == reference and count > 1:
            words = f"reference, {words}"
        right = max(right, page.say(_MARGIN, middle - 19, name, 12, _INK, "bold"))
        right = max(right, page.say(_MARGIN, middle + 3, words, 9.5, _MUTED))
        if name_sync := synced.get(clips.streams[index]):
            right = max(right, page.say(_MARGIN, middle + 19, name_sync, 9.5, _MUTED))
    left, matrix = int(right) + 14, WIDTH - _MARGIN - cell * count
    bottom = 66.0
    if count > 1:
        heading = "Mean cosine" if count < 5 else "Mean cosine of clips valid in both"
        page.say(matrix, top - 27, heading, 11, _INK)
        axes = page.place(matrix, top, cell * count, lane * count - _LANE_GAP)
        bottom = max(bottom, _draw_matrix(axes, clips.similarity, names, cell))
    heading = "Along time" if count > 1 else "Clips along time"
    if count > 1 and len(clips.middle) > MOST_POINTS:
        heading += f": mean and range of every {round(len(clips.middle) / BINS)} clips"
    page.say(left, top - 27, heading, 11, _INK)
    width = (matrix - 76 if count > 1 else WIDTH - _MARGIN) - left
    low, high = limits(clips, reference)
    lanes = []
    for index in range(count):
        axes = page.place(left, top + index * lane, width, lane - _LANE_GAP)
        _draw_lane(axes, clips, index, reference, width)
        axes.set_ylim(low - 0.04 * (high - low), high + 0.04 * (high - low))
        lanes.append(axes)
    _draw_time(lanes, clips)
    return page.cut(top + lane * count + bottom)


class _Page:
    """A figure that is laid out in pixels from its top left corner, and cut to its height last."""

    def __init__(self) -> None:
        self._figure = Figure(figsize=(WIDTH / _DPI, WIDTH / _DPI), dpi=_DPI, facecolor="white")
        self._renderer = FigureCanvasAgg(self._figure).get_renderer()  # type: ignore[no-untyped-call]
        self._settle: list[Callable[[float], None]] = []

    def say(
        self, x: float, y: float, text: str, size: float, color: str, weight: str = "normal"
    ) -> float:
        """Put a text; the x at which it ends."""
        made = self._figure.text(
            0, 0, text, size=size, color=color, weight=weight, va="top", parse_math=False
        )
        self._settle.append(lambda page: made.set_position((x / WIDTH, 1 - y / page)))
        return x + float(made.get_window_extent(self._renderer).width)

    def place(self, x: float, y: float, width: float, height: float) -> Axes:
        """Put axes."""
        axes = self._figure.add_axes((0, 0, 1, 1))
        self._settle.append(
            lambda page: axes.set_position(
                (x / WIDTH, 1 - (y + height) / page, width / WIDTH, height / page)
            )
        )
        return axes

    def legend(self, handles: Sequence[Line2D | Patch]) -> int:
        """Put the legend in as few rows as it fits in; how many."""
        if not handles:
            return 0
        for rows in range(1, len(handles) + 1):
            made = self._figure.legend(
                handles=handles,
                loc="upper left",
                borderpad=0,
                borderaxespad=0,
                ncols=-(-len(handles) // rows),
                fontsize=10.5,
                frameon=False,
                handlelength=2.2,
                columnspacing=1.8,
                labelcolor=_INK,
            )
            for text in made.get_texts():
                text.set_parse_math(False)
            if made.get_window_extent(self._renderer).width <= WIDTH - 2 * _MARGIN:
                break
            made.remove()
        at = made.set_bbox_to_anchor
        self._settle.append(lambda page: at((_MARGIN / WIDTH, 1 - _LEGEND_TOP / page)))
        return rows

    def cut(self, height: float) -> Figure:
        """The figure, with everything where it belongs on a page of this height."""
        self._figure.set_size_inches(WIDTH / _DPI, round(height) / _DPI)
        for settle in self._settle:
            settle(round(height))
        return self._figure


def _draw_lane(axes: Axes, clips: Clips, index: int, reference: int, pixels: float) -> None:
    span = (clips.right[-1] - clips.left[0]) if len(clips.middle) else 1.0
    for reason, (face, lines, hatch) in LOOKS.items():
        mask = clips.reasons[:, index] == reason
        least = span * _LEAST_PIXELS / pixels
        spans = runs(clips, mask, 0)
        thin = [] if reason is Reason.VALID else [one for one in spans if one[1] < least]
        wide = [one for one in spans if not thin or one[1] >= least]
        # Few clips of many colour no more of the lane than they are; at its foot they are seen.
        foot = runs(clips, mask, least) if thin else []
        for part, height, lined in ((wide, 1, hatch), (thin, 1, ""), (foot, _FOOT, hatch)):
            axes.broken_barh(
                part,
                (0, height),
                transform=axes.get_xaxis_transform(),
                facecolor=face,
                edgecolor=lines,
                hatch=lined or None,
                linewidth=0,
                # The grid, at 0.5, is for what is valid.
                zorder=0.3 if reason is Reason.VALID else 1,
            )
    to_reference, to_others = curves(clips, index, reference)
    _draw_line(axes, clips, to_others, _TO_OTHERS, 1.3)
    _draw_line(axes, clips, to_reference, _TO_REFERENCE, 1.9)
    axes.set_axisbelow(True)
    ticks = 2 if len(clips.streams) > 6 else 4
    axes.yaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10]))
    axes.yaxis.tick_right()
    axes.tick_params(labelsize=9, colors=_MUTED, length=3, color=_FAINT)
    axes.grid(axis="y", color=_FAINT, linewidth=0.6)
    for side in axes.spines.values():
        side.set_color("#BFBFBF")
    if len(clips.streams) == 1:
        axes.set_yticks([])


def _draw_line(axes: Axes, clips: Clips, values: Floats, color: str, width: float) -> None:
    # No line across time that no clip covers, as between annotated segments.
    apart = np.flatnonzero(clips.left[1:] > clips.right[:-1] + 1e-6) + 1
    times = np.insert(clips.middle, apart, clips.right[apart - 1])
    values = np.insert(values, apart, np.nan)
    if len(clips.middle) > MOST_POINTS:
        times, values, least, most = binned(times, values)
        axes.fill_between(times, least, most, color=color, alpha=0.18, linewidth=0, zorder=2)
    axes.plot(times, values, color=color, linewidth=width, zorder=3, solid_capstyle="round")
    there = np.concatenate([[False], np.isfinite(values), [False]])
    alone = there[1:-1] & ~there[:-2] & ~there[2:]
    marked = alone if len(times) > _MARKED_POINTS else there[1:-1]
    size = width * (2.2 if len(clips.middle) > 10 else 3.6)
    axes.plot(times[marked], values[marked], "o", color=color, markersize=size, zorder=3, mew=0)


def _draw_time(lanes: Sequence[Axes], clips: Clips) -> None:
    for axes in lanes:
        axes.set_xlim(*((clips.left[0], clips.right[-1]) if len(clips.middle) else (0, 1)))
        axes.xaxis.set_major_locator(_time_ticks(axes))
        axes.tick_params(axis="x", labelbottom=axes is lanes[-1], length=3, labelsize=10)
        axes.grid(axis="x", color=_FAINT, linewidth=0.6)
    low, high = lanes[-1].get_xlim()
    in_minutes = high - low >= 120
    if in_minutes:
        lanes[-1].xaxis.set_major_formatter(lambda value, _: _minutes(value))
    label = "take time, min:s" if high < 3600 else "take time, h:min:s"
    lanes[-1].set_xlabel(label if in_minutes else "take time, s", size=10.5, color=_MUTED)


def _time_ticks(axes: Axes) -> MultipleLocator | MaxNLocator:
    low, high = axes.get_xlim()
    for step in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200):
        if 5 * step <= high - low <= 12 * step:
            return MultipleLocator(step)
    return MaxNLocator(10, steps=[1, 2, 5, 10])


def _minutes(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    text = f"{rest // 60}:{rest % 60:02}"
    return f"{hours}:{text:0>5}" if hours else text


def _draw_matrix(axes: Axes, alike: Floats, names: Sequence[str], cell: int) -> float:
    """Draw it; how many pixels the names below it need."""
    mean = mean_of(alike, axis=0)
    count = len(names)
    between = mean[~np.eye(count, dtype=bool)]
    between = between[np.isfinite(between)]
    low, high = (float(between.min()), float(between.max())) if len(between) else (0.0, 1.0)
    # A range of nothing would show noise in the loudest colours.
    low = min(low, high - 0.1)
    if cell < _NUMBERED_CELL:
        axes.set_xlabel(
            f"dark {low:.2f} to light {high:.2f}; grey: the same stream, or none valid in both",
            size=9.5, color=_MUTED, loc="right",
        )  # fmt: skip
    colors = colormaps["cividis"]
    for row in range(count):
        for column in range(count):
            value = mean[row, column]
            if not np.isfinite(value):
                face, ink, text = "#F7F7F7", _MUTED, "–"
            elif row == column:
                face, ink, text = "#E6E6E6", _MUTED, "1"
            else:
                red, green, blue, _ = colors((value - low) / (high - low))
                face = to_hex((red, green, blue))
                ink = "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else _INK
                text = f"{value:.2f}"
            axes.add_patch(
                Rectangle((column, row), 1, 1, facecolor=face, edgecolor="white", lw=1.5)
            )
            size = 12 if cell >= 60 else 10 if cell >= _CELL[0] else 7
            if cell < _NUMBERED_CELL:
                continue
            axes.text(column + 0.5, row + 0.5, text, color=ink, size=size, ha="center", va="center")
    axes.set_xlim(0, count)
    axes.set_ylim(count, 0)
    axes.set_yticks([])
    axes.set_xticks(np.arange(count) + 0.5)
    size = 10 if cell >= _NUMBERED_CELL else 7
    longest = 0.8 * size * max(map(len, names))
    level = longest < cell
    axes.set_xticklabels(
        names,
        size=size,
        color=_INK,
        rotation=0 if level else 45,
        ha="center" if level else "right",
        rotation_mode="anchor",
        parse_math=False,
    )
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    below = 40 if level else 40 + 0.71 * longest
    return below if cell >= _NUMBERED_CELL else below + 24


def _legend(clips: Clips, reference: int) -> list[Line2D | Patch]:
    handles: list[Line2D | Patch] = []
    if len(clips.streams) > 1:
        name = _shortened(clips.streams[reference])
        for color, width, to in (
            (_TO_REFERENCE, 2.2, f"cosine to {name}, the reference"),
            (_TO_OTHERS, 1.8, NAME),
        ):
            handles.append(Line2D([], [], color=color, linewidth=width, label=to))
    for reason, (face, lines, hatch) in LOOKS.items():
        if n := int((clips.reasons == reason).sum()):
            words = f"{reason_words(reason.name)} ({n})"
            look = Patch(facecolor=face, edgecolor=lines, hatch=hatch, linewidth=0, label=words)
            handles.append(look)
    return handles


def _facts(store: TakeStore, clips: Clips) -> str:
    grid = store.attributes.get("grid")
    grid = grid if isinstance(grid, dict) else {}
    facts = [encoder_id(store), f"{store.clips} clip{'s' * (store.clips != 1)}"]
    if {"window", "stride"} <= set(grid):
        facts[-1] += f" of {grid['window']} frames, one every {grid['stride']}"
    if grid.get("fps"):
        facts.append(f"{fps_words(grid['fps'])} fps")
    facts.append(f"{len(store.streams)} stream{'s' * (len(store.streams) != 1)}")
    if len(clips.middle):
        facts.append(clock(float(clips.right[-1] - clips.left[0])))
    return "   ·   ".join([*facts, store.status])


def _synced(store: TakeStore) -> dict[str, str]:
    """By stream, how far it is from the take's reference, where that was measured."""
    sync = TakeSync.of(store.attributes)
    words = {}
    for name, one in ({} if sync is None else sync.streams).items():
        if one.witness == REFERENCE:
            words[name] = "others are timed by it"
        elif one.offset_ms is None:
            words[name] = "offset not told"
        else:
            shown = f"{offset_words(one.offset_ms)} ms, {one.confidence} trust"
            words[name] = shown + shift_words(one.shift_frames)
    return words


def _shortened(name: str, most: int = _LONGEST_NAME) -> str:
    return name if len(name) <= most else f"{name[: most // 2]}…{name[1 - most // 2 :]}"
