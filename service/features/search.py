"""A search over the takes of an output: by the means of their streams, then by their clips."""

import asyncio
import fnmatch
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cachetools import LRUCache

from service.errors import Unknown
from service.features import analysis
from service.features.block import Clips
from service.features.catalogue import Catalogue, Variant
from service.features.compute import Features
from service.features.request import FeaturePlan, FeatureRequest, TooManyClips
from takestream.catalogue import changes_in
from takestream.storage import S3Options, join
from workers.dataset.take import Take
from workers.store.errors import StoreError
from workers.store.means import MeansTable, Score, identity_of

# Moments this near to a better one show the same thing.
APART_SECONDS = 1.0
# Moments of one take that are told at most; takes that are read at the same time; tables that are
# kept, each with `KEPT_BYTES` at most.
EACH, AT_ONCE, TABLES = 3, 4, 2


@dataclass(frozen=True)
class Sought:
    """What is looked for.

    Attributes:
        score: From features [n, D] to their cosines to it, [n].
        bounded: Whether that is the cosine to one vector in the space of the features, so that a
            mean and its reach bound it.
    """

    score: Score
    bounded: bool


@dataclass(frozen=True)
class TakeMoment:
    """A clip that was found.

    Attributes:
        take: Whose.
        stream: That shows it best.
        clip: Its number in the take.
        start, end: Seconds on the take's clock.
        score: Its cosine to what was looked for.
    """

    take: Take
    stream: str
    clip: int
    start: float
    end: float
    score: float


@dataclass(frozen=True)
class TakesFound:
    """What a search over takes found.

    Attributes:
        moments: The most alike first.
        compared: Takes whose means were compared.
        looked_at: Takes whose clips were.
        lacking: Takes with a store and without a mean that is up to date.
        exact: Whether no clip of any take can be among the best and is not told.
    """

    moments: list[TakeMoment]
    compared: int
    looked_at: int
    lacking: int
    exact: bool


class TakeSearch:
    """Searches the takes of an output. May be used from several threads."""

    def __init__(self, catalogue: Catalogue, features: Features) -> None:
        self._catalogue, self._features = catalogue, features
        self._tables: LRUCache[str, MeansTable] = LRUCache(TABLES)
        self._lock = threading.Lock()

    async def search(
        self,
        variant: Variant,
        sought: Sought,
        *,
        streams: Sequence[str] = (),
        top: int,
        most: int,
        without: str | None = None,
    ) -> TakesFound:
        """The moments of all takes that are most like what is looked for.

        Args:
            variant: Whose features.
            sought: What is looked for.
            streams: Names or patterns of streams, all without any.
            top: How many moments.
            most: Takes whose clips are looked at, at most.
            without: uid of a take that is left out.

        Raises:
            Unknown: There are no stores, no means of them, or no such stream.
            StorageError: The storage fails.
        """
        ranked, lacking, compared = await asyncio.to_thread(
            self._ranked, variant, sought, streams, without
        )
        found: list[TakeMoment] = []
        looked, unread, left = 0, 0, list(ranked)
        while left and looked < most:
            some, left = left[: min(AT_ONCE, most - looked)], left[min(AT_ONCE, most - looked) :]
            parts = await asyncio.gather(
                *(self._moments(take, variant, sought, streams) for _, _, take in some)
            )
            looked += len(some)
            unread += sum(part is None for part in parts)
            found = sorted(
                [*found, *(moment for part in parts for moment in part or ())],
                key=lambda moment: -moment.score,
            )[:top]
            if len(found) == top:
                left = [one for one in left if one[1] > found[-1].score]
        return TakesFound(found, compared, looked, lacking, not (left or lacking or unread))

    def _ranked(
        self, variant: Variant, sought: Sought, streams: Sequence[str], without: str | None
    ) -> tuple[list[tuple[float, float, Take]], int, int]:
        """Takes with their mean's cosine and the most that a clip of theirs can have; best first.

        Then how many takes have a store and no mean, and how many were compared.
        """
        encoder_id, s3 = variant.encoder_id, self._catalogue.output_s3
        folder = join(self._catalogue.output, encoder_id)
        takes = {take.uid: take for take in self._catalogue.takes() if take.uid != without}
        stored = self._catalogue.stores().get(encoder_id, frozenset()) & takes.keys()
        if not stored:
            raise Unknown(f"no other take has features of {encoder_id}")
        table = self._table(encoder_id, folder, s3)
        if not table.takes:
            raise Unknown(
                f"{folder} has no means of its takes yet: `takestream catalogue` makes them, and"
                " so does the end of a job"
            )
        known = {name for name in table.streams if _fits(name, streams)}
        if not known:
            raise Unknown(f"no take of {encoder_id} has a stream {', '.join(streams)[:200]}")
        scores = table.scores(sought.score)
        most = table.most(scores) if sought.bounded else np.full(len(scores), np.inf)
        best: dict[str, tuple[float, float]] = {}
        for uid, name, score, bound in zip(
            table.takes, table.streams, scores.tolist(), most.tolist(), strict=True
        ):
            if uid in stored and name in known:
                mean, reached = best.get(uid, (-np.inf, -np.inf))
                best[uid] = max(mean, score), max(reached, bound)
        changed = {name.rpartition(".")[0] for name in changes_in(folder, s3)}
        fresh = stored & set(table.takes) - changed
        ranked = sorted(
            ((mean, bound, takes[uid]) for uid, (mean, bound) in best.items()),
            key=lambda one: (-one[0], one[2].uid),
        )
        return ranked, len(stored) - len(fresh), len(ranked)

    def _table(self, encoder_id: str, folder: str, s3: S3Options) -> MeansTable:
        with self._lock:
            known = self._tables.get(encoder_id)
        if known is None or known.identity != identity_of(folder, s3):
            known = MeansTable(folder, s3)
            with self._lock:
                self._tables[encoder_id] = known
        return known

    async def _moments(
        self, take: Take, variant: Variant, sought: Sought, streams: Sequence[str]
    ) -> list[TakeMoment] | None:
        """The best moments of one take; None of one whose store cannot be read."""
        names = tuple(stream.key for stream in take.streams if _fits(stream.key, streams))
        try:
            plan = await self._features.stored(FeatureRequest(take, variant, names))
        except (Unknown, TooManyClips, StoreError):
            return None
        return await asyncio.to_thread(_best_of, take, plan, sought)


def gap_of(clips: Clips) -> int:
    """How many clips apart two moments of a take have to be, to be two."""
    step = float(np.median(np.diff(clips.start_time))) if len(clips.clip) > 1 else 1.0
    return max(1, round(APART_SECONDS / max(step, 1e-6)))


def _best_of(take: Take, plan: FeaturePlan, sought: Sought) -> list[TakeMoment]:
    n, streams, dim = plan.block.features.shape
    if not n or not streams:
        return []
    scores = sought.score(plan.block.features.reshape(-1, dim)).reshape(n, streams)
    scores = np.where(plan.block.valid, np.nan_to_num(scores, nan=-np.inf), -np.inf)
    # Cameras of a take show the same moment: the one that shows it best stands for all.
    camera = scores.argmax(axis=1)
    seen = scores[np.arange(n), camera][:, None]
    (best,) = analysis.best(seen, np.isfinite(seen), top=EACH, gap=gap_of(plan.clips))
    return [
        TakeMoment(
            take=take,
            stream=plan.request.streams[int(camera[row])],
            clip=int(plan.clips.clip[row]),
            start=float(plan.clips.start_time[row]),
            end=float(plan.clips.end_time[row]),
            score=score,
        )
        for row, score in best
    ]


def _fits(stream: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(stream, pattern) for pattern in patterns)
