"""A take as a picture for a notebook: where its streams are invalid, how alike they see it."""

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from takestream import schema
from takestream.likeness import NAME, similarity
from takestream.schema import Reason
from takestream.stores import is_ego

if TYPE_CHECKING:
    import xarray

# How clips are drawn, by why they are invalid: face, lines of the hatch, hatch. Okabe and Ito's
# colours, told apart by every kind of colour vision; hatches for print.
LOOKS: Final = {
    Reason.VALID: ("#EEF4EF", "#EEF4EF", ""),
    Reason.NOT_EXTRACTED: ("#FFFFFF", "#A8A8A8", "..."),
    Reason.STREAM_ABSENT: ("#C8C8C8", "#C8C8C8", ""),
    Reason.STREAM_UNREADABLE: ("#5A5A5A", "#D0D0D0", "xx"),
    Reason.PAST_END: ("#B9DFF5", "#3A8FC2", "//"),
    Reason.MISSING_FRAME: ("#F7D588", "#B57A00", "\\\\"),
    Reason.DAMAGED_FRAME: ("#E9BAD3", "#A63F78", "xx"),
}
# Inches.
_WIDTH, _LANE, _LANES, _REST = 10.0, 0.8, 12.0, 1.4
# With more clips points touch each other, and lines are a smear unless they are thin.
_MARKED, _THIN = 120, 1500


def plot(dataset: "xarray.Dataset") -> NDArray[Any]:
    """Draw a take: a lane for each stream, along the take's clock.

    In each lane stand the similarity (`takestream.similarity`) and the invalid clips, by reason.
    Colours of text and lines are those of matplotlib's style; `plt.style.use("dark_background")`
    makes it dark.

    Args:
        dataset: Of one take, as `takestream.open` or `Client.features` give it. Its features are
            read.

    Returns:
        matplotlib's axes, one for each stream; `axes[0].figure.savefig("take.png")` keeps them.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        ValueError: The dataset is of several takes, or has no clips or no streams.
    """
    try:
        import matplotlib.pyplot as plt
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "plot needs matplotlib: install it (pip install matplotlib)"
        ) from error
    takes = np.unique(dataset["take_uid"].values) if "take_uid" in dataset.coords else ()
    if len(takes) > 1:
        raise ValueError(
            f"plot draws one take, and this dataset holds {len(takes)}: choose one of them with"
            " ds.isel(clip=ds.take_uid == UID)"
        )
    streams = [str(name) for name in dataset[schema.STREAM].values]
    if not streams or not dataset.sizes[schema.CLIP]:
        raise ValueError("there is nothing to draw: the dataset has no clips or no streams")
    order, left, middle, right = spans(
        dataset[schema.START_TIME].values, dataset[schema.END_TIME].values
    )
    alike = similarity(dataset).values[order]
    reasons = _reasons(dataset)[order]
    low, high = limits(alike)
    height = min(_LANE, _LANES / len(streams)) * len(streams) + _REST
    figure, grid = plt.subplots(
        len(streams), 1, sharex=True, squeeze=False, figsize=(_WIDTH, height), layout="constrained"
    )
    axes: NDArray[Any] = grid[:, 0]
    line: dict[str, Any] = {"linewidth": 1.4 if len(middle) < _THIN else 0.5, "color": "C0"}
    if len(middle) <= _MARKED:
        line |= {"marker": "o", "markersize": 2.5}
    drawn: set[Reason] = set()
    for column, (name, lane) in enumerate(zip(streams, axes, strict=True)):
        for reason in map(Reason, np.unique(reasons[:, column])):
            if reason is Reason.VALID:
                continue
            drawn.add(reason)
            face, lines, hatch = LOOKS[reason]
            for begin, end in _runs(reasons[:, column] == reason, left, right):
                lane.axvspan(
                    begin, end, facecolor=face, edgecolor=lines, hatch=hatch, linewidth=0.6
                )
        lane.plot(middle, alike[:, column], **line)
        view = "ego" if is_ego(dataset.attrs, name) else "exo"
        # Names are no formulas.
        lane.set_ylabel(f"{name}\n{view}", rotation=0, ha="right", va="center", parse_math=False)
        lane.set_ylim(low, high)
        lane.set_yticks([low, high] if np.isfinite(alike).any() else [])
    axes[-1].set_xlim(left[0], right.max())
    axes[-1].set_xlabel("seconds on the take's clock")
    handles: list[Any] = []
    if np.isfinite(alike).any():
        handles.append(Line2D([], [], label=NAME, **line))
    for reason in sorted(drawn):
        face, lines, hatch = LOOKS[reason]
        count = int((reasons == reason).sum())
        words = f"{reason.words} ({count} clip{'s' * (count != 1)})"
        handles.append(Patch(facecolor=face, edgecolor=lines, hatch=hatch, label=words))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    take, encoder = dataset.attrs.get("take", {}), dataset.attrs.get("encoder", {})
    parts = [take.get("take_name") or take.get("take_uid"), encoder.get("encoder_id")]
    figure.suptitle(", ".join(str(part) for part in parts if part), parse_math=False)
    return axes


def spans(
    start: NDArray[np.float64], end: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """In which order clips follow each other, and of each then its left end, middle and right end.

    Windows overlap: each clip gets the time around its middle, up to halfway to the next.

    Args:
        start, end: Of the clips, seconds; float64 [n].
    """
    order = np.argsort(start + end, kind="stable")
    start, end = start[order], end[order]
    middle = (start + end) / 2
    halfway = (middle[1:] + middle[:-1]) / 2
    left = np.maximum(start, np.concatenate([start[:1], halfway]))
    right = np.minimum(end, np.concatenate([halfway, end[-1:]]))
    return order, left, middle, right


def limits(values: NDArray[np.floating]) -> tuple[float, float]:
    """A range on tenths that holds the values."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    low = math.floor(finite.min() * 10) / 10
    return low, max(math.ceil(finite.max() * 10 - 1e-3) / 10, low + 0.1)


def _reasons(dataset: "xarray.Dataset") -> NDArray[np.uint8]:
    """uint8 [clip, stream]; what is invalid without a reason is not extracted."""
    dims = (schema.CLIP, schema.STREAM)
    valid = dataset[schema.VALID].transpose(*dims).values
    reasons = np.full(valid.shape, int(Reason.NOT_EXTRACTED), dtype=np.uint8)
    if schema.REASON in dataset:
        said = dataset[schema.REASON].transpose(*dims).values
        reasons = np.where(said == Reason.VALID, reasons, said).astype(np.uint8)
    reasons[valid] = Reason.VALID
    return reasons


def _runs(
    mask: NDArray[np.bool_], left: NDArray[np.float64], right: NDArray[np.float64]
) -> list[tuple[float, float]]:
    """Where runs in a mask begin and end, seconds."""
    steps = np.diff(np.concatenate([[0], mask.astype(np.int8), [0]]))
    begins, ends = np.flatnonzero(steps > 0), np.flatnonzero(steps < 0) - 1
    return [(float(left[a]), float(right[b])) for a, b in zip(begins, ends, strict=True)]
