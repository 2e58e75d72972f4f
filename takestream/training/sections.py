"""Which clips of many stores are read together, and reading them. Without torch.

A window is a run of clips of one take. A section is the windows of one take that begin in the same
chunk or chunks, so that a chunk is read once for all of them.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from takestream import schema
from takestream.access import asked, shared_s3
from takestream.facts import in_span
from takestream.schema import Reason
from takestream.storage import S3Options
from takestream.stores import StoredTake, sources_of

# Where windows reach into the next chunk, so many chunks make a section: the chunk between two
# sections is read for both.
_CHUNKS_TOGETHER = 8


@dataclass(frozen=True)
class Section:
    """What was read. Rows are clips from `first` on, columns the take's own streams.

    features: float [rows, streams, D], 0 where invalid. mask: bool [rows, streams].
    start_time, end_time: float64 [rows], seconds. columns: where its streams are in the data set's.
    labels: of the segments that clips show, where they were asked for. beside: the same clips by
    other encoders.
    """

    take: StoredTake
    first: int
    features: NDArray[Any]
    mask: NDArray[np.bool_]
    start_time: NDArray[np.float64]
    end_time: NDArray[np.float64]
    columns: tuple[int, ...]
    labels: tuple[str, ...] = ()
    beside: tuple["Section", ...] = ()


@dataclass(frozen=True)
class Cut:
    """How takes are cut into windows of `length` clips, one every `step` clips.

    The last window ends with the last clip, so it may begin less than `step` after the one before.
    A take shorter than `length` is one window.
    """

    length: int
    step: int

    def count(self, clips: int) -> int:
        """How many windows a take of so many clips has."""
        if clips <= self.length:
            return min(1, clips)
        return -(-(clips - self.length) // self.step) + 1

    def start(self, window: int, clips: int) -> int:
        """The first clip of a window."""
        return max(0, min(window * self.step, clips - self.length))

    def stop(self, window: int, clips: int) -> int:
        """The clip after its last one."""
        return min(clips, self.start(window, clips) + self.length)

    def sections(self, clips: int, chunk: int) -> list[tuple[int, int]]:
        """Windows `[begin, end)` of each section of a take."""
        chunks = together = max(1, -(-clips // chunk))
        if chunk % self.step == 0 and self.length <= self.step:
            together = 1
        elif chunks > _CHUNKS_TOGETHER:
            few = max(_CHUNKS_TOGETHER, -(-4 * self.length // chunk))
            together = -(-chunks // -(-chunks // few))
        rows = range(0, clips + together * chunk, together * chunk)
        bounds = [self._before(row, clips) for row in rows]
        return [(a, b) for a, b in itertools.pairwise(bounds) if a < b]

    def _before(self, clip: int, clips: int) -> int:
        """How many windows begin before this clip."""
        if clip <= 0:
            return 0
        return self.count(clips) if clips - self.length < clip else -(-clip // self.step)


class Plan:
    """All sections of a data set; three int64 arrays, because there may be very many.

    cut: None for one section, and one window, per take.
    """

    def __init__(self, takes: Sequence[StoredTake], cut: Cut | None) -> None:
        rows: list[tuple[int, int, int]] = []
        for number, take in enumerate(takes):
            parts = [(0, 1)] if cut is None else cut.sections(take.clips, take.chunk)
            rows += [(number, begin, end) for begin, end in parts if take.clips]
        self._rows = np.array(rows, dtype=np.int64).reshape(-1, 3)

    @property
    def windows(self) -> int:
        return int((self._rows[:, 2] - self._rows[:, 1]).sum())

    def share(
        self,
        order: NDArray[np.int64] | None,
        parts: Sequence[tuple[int, int]],
        even: bool,
        batch: int = 1,
    ) -> list[tuple[int, int, int]]:
        """Somebody's part of the sections: (take, first window, window after the last).

        order: of the sections. parts: (index, of how many), first among the ranks, then among the
        workers of the rank. All parts together are everything, and no two differ by more than one
        window: a section on a border is cut. even: ranks have the same number, the last few
        windows are left out. batch: workers get so many windows at a time instead of one.
        """
        rows = self._rows if order is None else self._rows[order]
        ends = np.cumsum(rows[:, 2] - rows[:, 1])
        low, high = share_of(self.windows, parts, even, batch)
        if low >= high:
            return []
        found = rows[np.searchsorted(ends, low, "right") : np.searchsorted(ends, high, "left") + 1]
        found = found.copy()
        begins = ends - (rows[:, 2] - rows[:, 1])
        first = np.searchsorted(ends, low, "right")
        last = first + len(found) - 1
        found[-1, 2] -= ends[last] - high
        found[0, 1] += low - begins[first]
        return [(int(take), int(a), int(b)) for take, a, b in found]

    def order(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """The sections in random order, the same everywhere for the same seed and epoch."""
        return np.random.default_rng([seed, epoch]).permutation(len(self._rows))

    def largest(self, takes: Sequence[StoredTake], cut: Cut | None) -> int:
        """The bytes of features of the largest section."""
        sizes = [0]
        for number, begin, end in self._rows.tolist():
            take = takes[number]
            clips = take.clips
            if cut is not None:
                clips = cut.stop(end - 1, clips) - cut.start(begin, clips)
            sizes.append(clips * take.weight)
        return max(sizes)


def share_of(
    total: int, parts: Sequence[tuple[int, int]], even: bool, batch: int = 1
) -> tuple[int, int]:
    """The windows `[low, high)` of one part; see `Plan.share`."""
    low, high = 0, total
    for level, (index, count) in enumerate(parts):
        size = high - low
        if even and level == 0:
            size -= size % count
        step = batch if level else 1
        steps = -(-size // step)
        first, last = steps * index // count * step, steps * (index + 1) // count * step
        low, high = low + min(size, first), low + min(size, last)
    return low, high


def zarr_store(uri: str, s3: S3Options) -> Any:
    """What zarr opens a store by. All threads of a process share the connections to S3."""
    if not uri.startswith("s3://"):
        return uri
    from zarr.storage import FsspecStore

    path = uri.removeprefix("s3://")
    return FsspecStore(shared_s3(s3), read_only=True, path=path)


def read(
    take: StoredTake,
    first: int,
    stop: int,
    streams: Sequence[str],
    s3: S3Options,
    labels: bool = False,
) -> Section:
    """Clips `[first, stop)` of a take, those of `streams` that it has, with labels where asked for.

    Raises ValueError when the store changed since it was found, or lacks a chunk; ConnectionError
    and PermissionError of S3.
    """
    try:
        return asked(take.uri, s3, lambda: _read(take, first, stop, streams, s3, labels))
    except Exception as error:
        error.add_note(f"while reading clips {first} to {stop} of take {take.name}, {take.uri}")
        raise


def _read(
    take: StoredTake, first: int, stop: int, streams: Sequence[str], s3: S3Options, labels: bool
) -> Section:
    import zarr

    group = zarr.open_group(zarr_store(take.uri, s3), mode="r", zarr_format=3)
    names = list(group.attrs.get("streams", []))  # type: ignore[arg-type]
    changed = ValueError(f"{take.uri} is not what it was: make the data set anew")
    if group.attrs.get("clips_sha256") != take.digest or not set(take.streams) <= set(names):
        raise changed
    attributes: dict[str, Any] = dict(group.attrs)
    if take.complete and attributes.get("status") != schema.COMPLETE:
        raise ValueError(
            f"{take.uri} was complete and is being written again: make the data set anew when that"
            " has ended"
        )
    now, before = sources_of(attributes), dict(take.sources)
    if any(now.get(name) != before.get(name) for name in streams if name in take.streams):
        raise ValueError(
            f"{take.uri} was extracted again from other videos: make the data set anew"
        )
    coordinate: Any = group[schema.STREAM]
    # Read at each opening: a job may rewrite it during training and leave the attributes as is.
    if [str(name) for name in coordinate[:]] != names:
        raise ValueError(
            f"{take.uri}: its array {schema.STREAM} does not hold the names in its attributes, so"
            " nothing says which features are whose; `takestream verify` says more"
        )
    sizes = replace(take.sizes, streams=len(names))
    rows = slice(first, stop)
    mine = [name for name in streams if name in take.streams]
    columns = [names.index(name) for name in mine]
    whole = columns == list(range(len(names)))

    def opened(name: str) -> Any:
        array: Any = group[name]
        spec = schema.SPECS[name]
        expected = spec.shape(sizes), spec.chunk_shape(sizes), spec.dtype(sizes)
        if (array.shape, array.chunks, str(array.dtype)) != expected:
            raise changed
        return array

    def part(name: str, more: tuple[slice, ...] = ()) -> NDArray[Any]:
        array = opened(name)
        picked = array[rows] if whole else array.oindex[(rows, columns, *more)]
        return np.asarray(picked)

    features, mask = part(schema.FEATURES, (slice(None),)), part(schema.VALID)
    times = [np.asarray(opened(name)[rows]) for name in (schema.START_TIME, schema.END_TIME)]
    # An object that is not there reads as NaN.
    absent = mask & np.isnan(features[:, :, 0])
    if absent.any():
        if take.complete:
            raise ValueError(
                f"{take.uri}: chunks of {mine[int(absent.any(axis=0).argmax())]} are missing;"
                " `takestream verify` names them"
            )
        mask = mask & ~absent
    if take.complete and (~mask & np.isfinite(features[:, :, 0])).any():
        raise ValueError(
            f"{take.uri}: chunks of {schema.VALID} are missing, so features that are there read as"
            " invalid; `takestream verify` names them"
        )
    if take.complete and not all(np.isfinite(column).all() for column in times):
        raise ValueError(f"{take.uri}: times of clips are missing; `takestream verify` names them")
    if take.complete and not mask.all():
        reason = part(schema.REASON)
        # Streams that could not be read are not extracted in a store that is complete.
        unread = attributes.get("provenance", {}).get(schema.UNREAD, [])
        extracted = np.array([name not in unread for name in mine])
        lost = (reason == Reason.VALID) | ((reason == Reason.NOT_EXTRACTED) & extracted)
        if (lost & ~mask).any():
            raise ValueError(
                f"{take.uri}: chunks of {schema.VALID} or {schema.REASON} are missing;"
                " `takestream verify` names them"
            )
    if take.span is not None:
        # Annotated segments need not follow each other: some between others may lie outside.
        mask = mask & in_span(times[0], times[1], take.span)[:, None]
    features[~mask] = 0
    wanted = tuple(list(streams).index(name) for name in mine)
    texts: Any = group[schema.SEGMENT_LABEL] if labels else ()
    said = tuple(str(text) for text in texts[rows])
    # No labels may be the truth, or an object that is not there.
    if labels and not any(said) and texts.nchunks_initialized < texts.nchunks:
        raise ValueError(
            f"{take.uri}: chunks of {schema.SEGMENT_LABEL} are missing; `takestream verify` names"
            " them"
        )
    return Section(take, first, features, mask, times[0], times[1], wanted, said)
