"""What a dataset holds, at a glance: as text, and as HTML in a notebook."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from takestream import schema
from takestream.facts import notes_of, task_span
from takestream.licence import Licences
from takestream.stores import is_ego

if TYPE_CHECKING:
    import xarray

# Pixels of a timeline, and the narrowest mark on it.
_WIDTH, _HEIGHT, _LEAST = 240, 12, 1.5


@dataclass(frozen=True)
class StreamFacts:
    """A camera stream of a dataset.

    Attributes:
        name: `<cam_id>_<stream>`.
        worn: Whether the camera is worn.
        valid: bool [clip].
        problems: Sentences.
        video: Its video, as the store names it; empty where it does not.
    """

    name: str
    worn: bool
    valid: NDArray[np.bool_]
    problems: tuple[str, ...]
    video: str


@dataclass(frozen=True)
class Overview:
    """A dataset at a glance; a notebook shows it as a table with a timeline of each camera.

    Attributes:
        title: The take, its encoder and whether the store is complete.
        facts: What else is worth knowing: (what, in words).
        streams: The cameras.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    streams: tuple[StreamFacts, ...]

    def __repr__(self) -> str:
        lines = [self.title, *(f"  {name}: {words}" for name, words in self.facts)]
        longest = max((len(stream.name) for stream in self.streams), default=0)
        for stream in self.streams:
            counts = f"{int(stream.valid.sum())} of {len(stream.valid)} clips valid"
            view = "ego" if stream.worn else "exo"
            lines.append(f"  {stream.name:<{longest}}  {view}  {counts}")
            lines += [f"  {'':<{longest}}  {sentence}" for sentence in stream.problems]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        facts = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th>"
            f"<td style='text-align:left'>{escape(words)}</td></tr>"
            for name, words in self.facts
        )
        heads = ("stream", "view", "valid clips", "along the take", "problems", "video")
        head = "".join(f"<th scope='col' style='text-align:left'>{name}</th>" for name in heads)
        rows = "".join(_row(stream) for stream in self.streams)
        return (
            f"<div><strong>{escape(self.title)}</strong><table>{facts}</table>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        )


def overview(dataset: "xarray.Dataset") -> Overview:
    """Cameras, validity and provenance of a dataset at a glance. Reads no features.

    Args:
        dataset: As `takestream.open` or `Client.features` give it.
    """
    attributes = dataset.attrs
    valid = dataset[schema.VALID].transpose(schema.CLIP, schema.STREAM).values
    facts = attributes.get("provenance", {}).get("streams", {})
    streams = tuple(
        StreamFacts(
            str(name),
            is_ego(attributes, str(name)),
            valid[:, column],
            tuple(attributes.get("problems", {}).get(str(name), ())),
            str(facts.get(str(name), {}).get("uri") or ""),
        )
        for column, name in enumerate(dataset[schema.STREAM].values)
    )
    take, encoder = attributes.get("take", {}), attributes.get("encoder", {})
    parts = [take.get("take_name") or take.get("take_uid"), encoder.get("encoder_id")]
    title = ", ".join(str(part) for part in [*parts, attributes.get("status")] if part)
    return Overview(title or "features", tuple(_facts(dataset)), streams)


def _facts(dataset: "xarray.Dataset") -> Sequence[tuple[str, str]]:
    attributes = dataset.attrs
    grid, encoder = attributes.get("grid", {}), attributes.get("encoder", {})
    provenance: Mapping[str, Any] = attributes.get("provenance", {})
    features = dataset[schema.FEATURES]
    clips = f"{dataset.sizes[schema.CLIP]}"
    if {"window", "stride"} <= set(grid):
        clips += f" of {grid['window']} frames, one every {grid['stride']}"
    if fps := grid.get("fps"):
        clips += f", at {fps:g} fps" if isinstance(fps, int | float) else f", at {fps} fps"
    made = [str(provenance.get("runtime") or "")]
    if commit := provenance.get("git_commit"):
        made.insert(0, f"commit {str(commit)[:10]}")
    if version := provenance.get("versions", {}).get("takestream"):
        made.insert(0, f"takestream {version}")
    weights = [str(encoder.get("weights") or "")]
    if digest := encoder.get("sha256"):
        weights.append(f"SHA-256 {str(digest)[:12]}…")
    take = attributes.get("take", {})
    task = [str(take.get("task_name") or "")]
    if (span := task_span(take)) is not None:
        task.append(f"from {span[0]:g} to {span[1]:g} s")
    found = [
        ("take", str(attributes.get("take", {}).get("take_uid") or "")),
        ("task", ", ".join(filter(None, task))),
        ("participant", str(take.get("participant_uid") or "")),
        ("split", str(take.get("split") or "")),
        ("notes", "; ".join(notes_of(take))),
        ("clips", clips),
        ("features", f"{features.sizes[schema.FEATURE]} numbers, {features.dtype}"),
        ("weights", ", ".join(filter(None, weights))),
        ("made by", ", ".join(filter(None, made))),
        ("licences", Licences.of(attributes).words()),
    ]
    return [(name, words) for name, words in found if words]


def _row(stream: StreamFacts) -> str:
    count, valid = len(stream.valid), int(stream.valid.sum())
    cells = (
        escape(stream.name),
        "ego" if stream.worn else "exo",
        f"<span style='white-space:nowrap'>{valid} of {count}</span>",
        _timeline(stream.valid),
        "<br>".join(map(escape, stream.problems)),
        escape(stream.video),
    )
    return "<tr>" + "".join(f"<td style='text-align:left'>{cell}</td>" for cell in cells) + "</tr>"


def _timeline(valid: NDArray[np.bool_]) -> str:
    """An SVG in which valid clips are green and invalid ones purple, told in words too."""
    count, invalid = len(valid), int((~valid).sum())
    steps = np.diff(np.concatenate([[False], ~valid, [False]]).astype(np.int8))
    scale = _WIDTH / max(1, count)
    marks = "".join(
        f"<rect x='{first * scale:.1f}' y='0' height='{_HEIGHT}'"
        f" width='{max(_LEAST, (after - first) * scale):.1f}' fill='#A63F78'/>"
        for first, after in zip(np.flatnonzero(steps > 0), np.flatnonzero(steps < 0), strict=True)
    )
    words = f"{invalid} of {count} clips are invalid" if invalid else "all clips are valid"
    return (
        f"<svg role='img' aria-label='{words}' width='{_WIDTH}' height='{_HEIGHT}'>"
        f"<title>{words}</title>"
        f"<rect width='{_WIDTH}' height='{_HEIGHT}' fill='#CFE3D4'/>{marks}</svg>"
    )
