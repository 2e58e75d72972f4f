"""How near two extractions of the same takes are, clip by clip, and which settings differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.report.compare import cosines, linear_cka, neighbour_overlap
from service.report.sides import (
    Floats,
    Place,
    Rows,
    Side,
    StoredSide,
    common_rows,
    opened,
    places,
)
from takestream.errors import StorageNotFound
from takestream.storage import S3Options

# Clips whose vectors are less alike than that part. Two runtimes of one network stay above it.
ALIKE = 0.999
# More clips are thinned out for what compares each with each.
MOST_COMPARED = 2000
# Clips that are named, the least alike first.
WORST = 5


@dataclass(frozen=True)
class Parting:
    """A clip whose vectors part.

    Attributes:
        clip: Its number in A.
        seconds: When it begins; None where neither side says.
        cosine: Of its vectors.
    """

    clip: int
    seconds: float | None
    cosine: float

    def __str__(self) -> str:
        when = "" if self.seconds is None else f" at {self.seconds:.2f} s"
        return f"clip {self.clip}{when}"


@dataclass(frozen=True)
class StreamDifference:
    """A stream of a take in two extractions.

    Attributes:
        clips: That both have, by time.
        clips_a, clips_b: That each has.
        both: Of them, valid in both.
        only_a, only_b: Valid in one alone.
        equal: Of `both`, those whose vectors are the same number by number; None where the dims
            differ, as the next four.
        cosine_min, cosine_median: Over `both`.
        largest: The largest absolute difference of two numbers.
        parted: Clips of `both` whose cosine is below the bound.
        first: Of them, the first.
        worst: Of them, the least alike ones.
        cka: Linear CKA over `both`.
        neighbours: Overlap of the ten nearest clips.
    """

    stream: str
    clips: int
    clips_a: int
    clips_b: int
    both: int
    only_a: int
    only_b: int
    equal: int | None = None
    cosine_min: float | None = None
    cosine_median: float | None = None
    largest: float | None = None
    parted: int | None = None
    first: Parting | None = None
    worst: tuple[Parting, ...] = ()
    cka: float | None = None
    neighbours: float | None = None

    @property
    def alike(self) -> bool:
        """Whether no clip parts, and the same ones are valid."""
        return not (self.parted or self.only_a or self.only_b) and self.parted is not None


@dataclass(frozen=True)
class TakeDifference:
    """A take in two extractions.

    Attributes:
        take: Its name.
        take_uid: Its uid.
        streams: That both have.
        only_a, only_b: Streams that one alone has.
        same_clips: Whether both are cut into the same clips.
        settings: What their attributes say differently: by path, what A and B say.
        stored: Whether both are stores. A folder of files holds what somebody chose to download, so
            streams that it lacks do not count as a difference.
    """

    take: str
    take_uid: str
    streams: tuple[StreamDifference, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    same_clips: bool
    settings: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    stored: bool = True

    @property
    def alike(self) -> bool:
        """Whether nothing but settings differs."""
        apart = (self.only_a or self.only_b) if self.stored else not self.streams
        return self.same_clips and not apart and all(stream.alike for stream in self.streams)


@dataclass(frozen=True)
class Pairing:
    """Two extractions, take by take.

    Attributes:
        pairs: By uid of the take, where A and B have it.
        only_a, only_b: Uids of takes that one alone has.
    """

    pairs: Mapping[str, tuple[Place, Place]]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]

    @property
    def stored(self) -> bool:
        """Whether both are stores."""
        return all(isinstance(place, str) for pair in self.pairs.values() for place in pair)


def paired(a: str, b: str, s3: S3Options) -> Pairing:
    """What there is at A and B: a store, the folder of one encoder, or official feature files.

    Raises:
        StorageNotFound: Nothing of that, or no take that both have.
        SettingsError: Several encoders at one of them.
    """
    left = places(a, s3)
    right = places(b, s3, left)
    if not any(isinstance(place, str) for place in left.values()):
        # Its names end where the takes of B say, where B knows them.
        left = places(a, s3, right)
    both = sorted(set(left) & set(right))
    if not both:
        raise StorageNotFound(f"{a} and {b} have no take in common")
    return Pairing(
        {uid: (left[uid], right[uid]) for uid in both},
        tuple(sorted(set(left) - set(right))),
        tuple(sorted(set(right) - set(left))),
    )


def difference(a: Place, b: Place, s3: S3Options, bound: float = ALIKE) -> TakeDifference:
    """What differs between two extractions of a take.

    Args:
        a: One, as `paired` has it.
        b: The other.
        s3: How to reach both.
        bound: The cosine below which two clips part.

    Raises:
        StorageError: One of them is no store, or cannot be reached.
        SettingsError: Files that hold no features, or were made of other clips.
    """
    left, right = opened(a, s3), opened(b, s3)
    names = [name for name in left.streams if name in right.streams]
    streams = tuple(_stream(left, right, name, bound) for name in names)
    take = left.attributes.get("take") or right.attributes.get("take") or {}
    stored = left.spans is not None and right.spans is not None
    if stored:
        same = left.attributes.get("clips_sha256") == right.attributes.get("clips_sha256")
    else:
        same = all(one.clips_a == one.clips_b for one in streams)
    return TakeDifference(
        str(take.get("take_name") or left.uid),
        left.uid,
        streams,
        tuple(sorted(set(left.streams) - set(right.streams))),
        tuple(sorted(set(right.streams) - set(left.streams))),
        same,
        # Files say nothing of how they were made.
        dict(settings_apart(left.attributes, right.attributes)) if stored else {},
        stored,
    )


def settings_apart(
    a: Mapping[str, Any], b: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """What the attributes of two stores say differently of encoder, grid, provenance and sync.

    By path, as `encoder.frames`; what one does not say is None there.
    """
    for part in ("encoder", "grid", "provenance", "sync"):
        left, right = dict(_flat(a.get(part), part)), dict(_flat(b.get(part), part))
        for path in (*left, *(path for path in right if path not in left)):
            if left.get(path) != right.get(path):
                yield path, (left.get(path), right.get(path))


def common_features(
    a: str, b: str, s3: S3Options, s3_of_b: S3Options | None = None
) -> tuple[Floats, Floats]:
    """Features float32 [n, D] and [n, E] of the clips of a take that are valid in both stores.

    Of all streams that both have; thinned out to `MOST_COMPARED`.
    """
    left, right = StoredSide(a, s3), StoredSide(b, s3_of_b or s3)
    names = [name for name in left.streams if name in right.streams]
    found = [_both(left, right, name)[3:] for name in names]
    if not found:
        return np.empty((0, left.dim), np.float32), np.empty((0, right.dim), np.float32)
    ours, theirs = (np.concatenate(parts) for parts in zip(*found, strict=True))
    kept = _thinned(len(ours))
    return ours[kept], theirs[kept]


def _both(
    a: Side, b: Side, stream: str
) -> tuple[Rows, NDArray[np.bool_], NDArray[np.bool_], Floats, Floats]:
    """Of the clips that both have: their numbers in A, bool whether valid in A and in B.

    And the features of those that are valid in both, float32 [n, D].
    """
    rows = common_rows(a, b, stream)
    found = []
    for side, numbers in zip((a, b), rows, strict=True):
        valid, values = side.read(stream)
        found.append((valid[numbers], values[numbers]))
    (valid_a, ours), (valid_b, theirs) = found
    both = valid_a & valid_b
    return rows[0], valid_a, valid_b, ours[both].astype(np.float32), theirs[both].astype(np.float32)


def _stream(a: Side, b: Side, stream: str, bound: float) -> StreamDifference:
    rows, valid_a, valid_b, ours, theirs = _both(a, b, stream)
    both = np.flatnonzero(valid_a & valid_b)
    kept = _thinned(len(ours))
    counts: dict[str, Any] = {
        "clips": len(rows),
        "clips_a": a.clips(stream),
        "clips_b": b.clips(stream),
        "both": len(both),
        "only_a": int((valid_a & ~valid_b).sum()),
        "only_b": int((valid_b & ~valid_a).sum()),
        "cka": linear_cka(ours[kept], theirs[kept]),
        "neighbours": neighbour_overlap(ours[kept], theirs[kept]),
    }
    if a.dim != b.dim:
        return StreamDifference(stream, **counts)
    alike = cosines(ours, theirs)
    parted = np.flatnonzero(alike < bound)
    times = a.spans if a.spans is not None else b.spans

    def at(position: int) -> Parting:
        number = int(rows[both[position]])
        seconds = None if times is None else float(times[number, 0]) / 1e6
        return Parting(number, seconds, float(alike[position]))

    least = parted[np.argsort(alike[parted], kind="stable")[:WORST]]
    return StreamDifference(
        stream,
        **counts,
        equal=int((ours == theirs).all(axis=1).sum()),
        cosine_min=float(alike.min()) if len(alike) else None,
        cosine_median=float(np.median(alike)) if len(alike) else None,
        largest=float(np.abs(ours - theirs).max(initial=0.0)),
        parted=len(parted),
        first=at(parted[0]) if len(parted) else None,
        worst=tuple(at(position) for position in least),
    )


def _thinned(count: int) -> NDArray[np.intp]:
    if count <= MOST_COMPARED:
        return np.arange(count)
    return np.linspace(0, count - 1, MOST_COMPARED).round().astype(np.intp)


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{path}.{name}")
    elif value is not None and value != {}:
        yield path, value
