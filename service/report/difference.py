"""How near two extractions of the same takes are, clip by clip, and which settings differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.load import SettingsError
from service.report.compare import cosines, linear_cka, neighbour_overlap
from takestream import schema
from takestream.errors import StorageNotFound
from takestream.storage import S3Options
from takestream.stores import encoder_id_of, find_stores, uid_of
from workers.store.errors import StoreError
from workers.store.metadata import UNDECODABLE, read_whole
from workers.store.takestore import TakeStore

# Clips whose vectors are less alike than that part. Two runtimes of one network stay above it.
ALIKE = 0.999
# More clips are thinned out for what compares each with each.
MOST_COMPARED = 2000

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class StreamDifference:
    """A stream of a take in two stores.

    Attributes:
        clips: That both have, by time.
        both: Of them, valid in both.
        only_a, only_b: Valid in one alone.
        equal: Of `both`, those whose vectors are the same number by number; None where the dims
            differ, as the next four.
        cosine_min, cosine_median: Over `both`.
        largest: The largest absolute difference of two numbers.
        parted: Clips of `both` whose cosine is below the bound.
        first: Of them, the first: its number in A and its start in seconds.
        worst: The least alike one, likewise.
        cka: Linear CKA over `both`.
        neighbours: Overlap of the ten nearest clips.
    """

    stream: str
    clips: int
    both: int
    only_a: int
    only_b: int
    equal: int | None = None
    cosine_min: float | None = None
    cosine_median: float | None = None
    largest: float | None = None
    parted: int | None = None
    first: tuple[int, float] | None = None
    worst: tuple[int, float] | None = None
    cka: float | None = None
    neighbours: float | None = None

    @property
    def alike(self) -> bool:
        """Whether no clip parts, and the same ones are valid."""
        return not (self.parted or self.only_a or self.only_b) and self.parted is not None


@dataclass(frozen=True)
class TakeDifference:
    """A take in two stores.

    Attributes:
        take: Its name.
        take_uid: Its uid.
        streams: That both stores have.
        only_a, only_b: Streams that one store alone has.
        same_clips: Whether both are cut into the same clips.
        settings: What their attributes say differently: by path, what A and B say.
    """

    take: str
    take_uid: str
    streams: tuple[StreamDifference, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    same_clips: bool
    settings: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def alike(self) -> bool:
        """Whether nothing but settings differs."""
        whole = self.same_clips and not (self.only_a or self.only_b)
        return whole and all(stream.alike for stream in self.streams)


@dataclass(frozen=True)
class Pairing:
    """The stores of two extractions, take by take.

    Attributes:
        pairs: By uid of the take, the stores of A and B.
        only_a, only_b: Uids of takes that one alone has.
    """

    pairs: Mapping[str, tuple[str, str]]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]


def paired(a: str, b: str, s3: S3Options) -> Pairing:
    """The stores at A and B, each a store or the folder of one encoder.

    Raises:
        StorageNotFound: No store, or no take that both have.
        SettingsError: Several encoders at one of them.
    """
    left, right = _by_take(a, s3), _by_take(b, s3)
    both = sorted(set(left) & set(right))
    if not both:
        raise StorageNotFound(f"{a} and {b} have no take in common")
    return Pairing(
        {uid: (left[uid], right[uid]) for uid in both},
        tuple(sorted(set(left) - set(right))),
        tuple(sorted(set(right) - set(left))),
    )


def difference(a: str, b: str, s3: S3Options, bound: float = ALIKE) -> TakeDifference:
    """What differs between two stores of a take.

    Args:
        a: One store.
        b: The other.
        s3: How to reach both.
        bound: The cosine below which two clips part.

    Raises:
        StorageError: One of them is no store, or cannot be reached.
    """
    left, right = TakeStore.open(a, s3), TakeStore.open(b, s3)
    rows = _common(left, right)
    names = [name for name in left.streams if name in right.streams]
    take = left.attributes.get("take", {})
    return TakeDifference(
        str(take.get("take_name") or uid_of(a)),
        uid_of(a),
        tuple(_stream(left, right, name, rows, bound) for name in names),
        tuple(sorted(set(left.streams) - set(right.streams))),
        tuple(sorted(set(right.streams) - set(left.streams))),
        left.attributes.get("clips_sha256") == right.attributes.get("clips_sha256"),
        dict(settings_apart(left.attributes, right.attributes)),
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
    left, right = TakeStore.open(a, s3), TakeStore.open(b, s3_of_b or s3)
    rows = _common(left, right)
    names = [name for name in left.streams if name in right.streams]
    found = [_both(left, right, name, rows)[2:] for name in names]
    if not found:
        return np.empty((0, left.dim), np.float32), np.empty((0, right.dim), np.float32)
    ours, theirs = (np.concatenate(parts) for parts in zip(*found, strict=True))
    kept = _thinned(len(ours))
    return ours[kept], theirs[kept]


def _by_take(where: str, s3: S3Options) -> dict[str, str]:
    stores = find_stores(where, s3)
    if len(ids := sorted({encoder_id_of(uri) for uri in stores})) > 1:
        raise SettingsError(
            f"{where} holds features of several encoders: name one, {where}/{ids[0]}"
        )
    return {uid_of(uri): uri for uri in stores}


def _common(a: TakeStore, b: TakeStore) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Numbers of the clips that both have: of the same times, to a microsecond."""
    spans = []
    for store in (a, b):
        begin, end = (
            read_whole(store.array(name), store.uri)
            for name in (schema.START_TIME, schema.END_TIME)
        )
        spans.append(np.round(np.stack([begin, end], axis=1) * 1e6).astype(np.int64))
    if np.array_equal(spans[0], spans[1]):
        every = np.arange(len(spans[0]))
        return every, every
    there = {tuple(span): number for number, span in enumerate(spans[1].tolist())}
    pairs = [
        (number, there[tuple(span)])
        for number, span in enumerate(spans[0].tolist())
        if tuple(span) in there
    ]
    found = np.array(pairs, np.intp).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _both(
    a: TakeStore, b: TakeStore, stream: str, rows: tuple[NDArray[np.intp], NDArray[np.intp]]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Floats, Floats]:
    """Valid in A, valid in B, bool [common clip]; features of clips valid in both, float32."""
    valid, features = [], []
    for store, numbers in zip((a, b), rows, strict=True):
        index = store.streams.index(stream)
        valid.append(_column(store, schema.VALID, index)[numbers])
        values = _column(store, schema.FEATURES, index)[numbers]
        features.append(values)
        # Of a store that is not complete, clips may be valid before their features are there.
        valid[-1] = valid[-1] & np.isfinite(values).all(axis=1)
    both = valid[0] & valid[1]
    ours, theirs = (values[both].astype(np.float32) for values in features)
    return valid[0], valid[1], ours, theirs


def _column(store: TakeStore, name: str, index: int) -> NDArray[Any]:
    try:
        return np.asarray(store.array(name)[:, index])
    except UNDECODABLE as error:
        where = f"{name} of {store.streams[index]}"
        raise StoreError(
            f"{store.uri}: {where} is damaged ({error}); `takestream verify --repair` mends it"
        ) from error


def _stream(
    a: TakeStore,
    b: TakeStore,
    stream: str,
    rows: tuple[NDArray[np.intp], NDArray[np.intp]],
    bound: float,
) -> StreamDifference:
    valid_a, valid_b, ours, theirs = _both(a, b, stream, rows)
    both = np.flatnonzero(valid_a & valid_b)
    kept = _thinned(len(ours))
    counts: dict[str, Any] = {
        "clips": len(rows[0]),
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
    begin = read_whole(a.array(schema.START_TIME), a.uri)

    def at(position: int) -> tuple[int, float]:
        number = int(rows[0][both[position]])
        return number, float(begin[number])

    return StreamDifference(
        stream,
        **counts,
        equal=int((ours == theirs).all(axis=1).sum()),
        cosine_min=float(alike.min()) if len(alike) else None,
        cosine_median=float(np.median(alike)) if len(alike) else None,
        largest=float(np.abs(ours - theirs).max(initial=0.0)),
        parted=len(parted),
        first=at(parted[0]) if len(parted) else None,
        worst=at(int(alike.argmin())) if len(parted) else None,
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
