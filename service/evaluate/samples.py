"""Stored clips pooled over labelled intervals, a vector for each view: ego, each exo, both."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from service.evaluate.errors import EvaluationRefused
from service.evaluate.labels import Interval, Labels, said
from service.transfer.pooling import pooled
from service.transfer.stored import StoredFeatures
from takestream.facts import COLUMNS
from takestream.storage import S3Options
from takestream.stores import StoredTake, is_ego

Vectors = NDArray[np.float32]

EGO, EXO, BOTH = "ego", "exo mean", "ego + exo"
_AT_ONCE = 4
# Streams of glasses that are no picture of what the wearer sees as people do.
_SIDE = ("_slam-left", "_slam-right", "_et")
_MOST_EXO = 8
_PERSON = COLUMNS["participant_uid"]


@dataclass(frozen=True)
class Samples:
    """Labelled intervals, pooled.

    Attributes:
        views: By view, float32 [samples, D]; NaN rows where no clip of it is valid.
        labels: float32 [samples, classes], 1 where the sample has the label.
        classes: Names of the labels, by column.
        takes: int64 [samples], the number of each sample's take.
        take_uids: By that number.
        groups: int64 [samples], the number of what must not be on both sides of a split.
        people: int64 [samples], the number of the participant; of the take where none is named.
        splits: The official split of each sample's take; empty where it is not known.
        ungrouped: Takes left out as nothing says which group they are of.
    """

    views: dict[str, Vectors]
    labels: NDArray[np.float32]
    classes: tuple[str, ...]
    takes: NDArray[np.int64]
    take_uids: tuple[str, ...]
    groups: NDArray[np.int64]
    people: NDArray[np.int64]
    splits: NDArray[np.str_]
    ungrouped: int

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(self.labels)

    @property
    def several(self) -> bool:
        """Whether a sample has several labels at once."""
        return bool((self.labels.sum(axis=1) > 1).any())

    def view(self, name: str) -> Vectors:
        """The vectors of a view; of `BOTH` ego and the mean of exo, each of length 1, joined."""
        if name != BOTH:
            return self.views[name]
        return np.concatenate([unit(self.views[EGO]), unit(self.views[EXO])], axis=1)

    @property
    def names(self) -> list[str]:
        """The views, in the order of a table."""
        both = [BOTH] if {EGO, EXO} <= set(self.views) else []
        return [*self.views, *both]

    def only(self, rows: NDArray[np.bool_], columns: NDArray[np.bool_]) -> "Samples":
        """Some of the samples, with some of the classes."""
        return replace(
            self,
            views={name: vectors[rows] for name, vectors in self.views.items()},
            labels=self.labels[rows][:, columns],
            classes=tuple(np.array(self.classes, dtype=object)[columns]),
            takes=self.takes[rows],
            groups=self.groups[rows],
            people=self.people[rows],
            splits=self.splits[rows],
        )


def unit(vectors: Vectors) -> Vectors:
    """Vectors of length 1; zero where they are zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths != 0))


def read_samples(
    takes: Sequence[StoredTake], labels: Labels, group_by: str, s3: S3Options
) -> Samples:
    """Pool the clips of stores over labelled intervals, a store and stream at a time.

    Args:
        takes: Complete stores of one encoder.
        labels: Of them.
        group_by: A fact of takes (`takestream.facts.COLUMNS`), or `take_uid`.
        s3: How to reach the stores.

    Raises:
        EvaluationRefused: No take says which group it is of.
        StorageError: A store cannot be read.
    """
    groups = {take.uid: said(take, COLUMNS[group_by]) for take in takes}
    labelled = [take for take in takes if take.uid in labels.by_take]
    known = [take for take in labelled if groups[take.uid] is not None or group_by == "take_uid"]
    if not known:
        raise EvaluationRefused(
            f"none of {len(labelled)} labelled takes says its {group_by}, so nothing keeps one"
            " apart from the other: `takestream facts --refresh` fills in what the data set says,"
            " or choose another fact by --group-by"
        )
    of_take = [labels.by_take[take.uid] for take in known]
    rows = [(number, each) for number, mine in enumerate(of_take) for each in mine]
    names = sorted({label for _, (_, some) in rows for label in some})
    column = {name: number for number, name in enumerate(names)}
    indicator = np.zeros((len(rows), len(names)), dtype=np.float32)
    for row, (_, (_, some)) in enumerate(rows):
        indicator[row, [column[label] for label in some]] = 1
    takes_of = np.array([number for number, _ in rows], dtype=np.int64)
    splits = [said(take, COLUMNS["split"]) or "" for take in known]
    # Takes that name no participant count as takes of different people.
    people = [said(take, _PERSON) or f"take {take.uid}" for take in known]
    return Samples(
        _views(known, [[span for span, _ in mine] for mine in of_take], s3),
        indicator,
        tuple(names),
        takes_of,
        tuple(take.uid for take in known),
        _numbers([groups[take.uid] or take.uid for take in known])[takes_of],
        _numbers(people)[takes_of],
        np.array(splits)[takes_of],
        len(labelled) - len(known),
    )


def _numbers(names: Sequence[str]) -> NDArray[np.int64]:
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _views(
    takes: Sequence[StoredTake], spans: Sequence[Sequence[Interval]], s3: S3Options
) -> dict[str, Vectors]:
    count = sum(map(len, spans))
    starts = np.cumsum([0, *map(len, spans)])
    views: dict[str, Vectors] = {}
    exo_names = _common_exo(takes)

    def fill(name: str, first: int, vectors: Vectors) -> None:
        if name not in views:
            views[name] = np.full((count, vectors.shape[1]), np.nan, dtype=np.float32)
        views[name][first : first + len(vectors)] = vectors

    def read(number: int) -> tuple[int, dict[str, Vectors], dict[str, bool]]:
        store = StoredFeatures(takes[number].uri, s3)
        worn = {name: is_ego(store.attributes, name) for name in store.streams}
        shown = [n for n in store.streams if not n.endswith(_SIDE)] or list(store.streams)
        return number, {name: _pooled(store, name, spans[number]) for name in shown}, worn

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for number, found, worn in pool.map(read, range(len(takes))):
            first = int(starts[number])
            for view, wanted in ((EGO, True), (EXO, False)):
                mine = [vectors for name, vectors in found.items() if worn[name] is wanted]
                if mine:
                    fill(view, first, _mean(mine))
            for name, vectors in found.items():
                if name in exo_names and not worn[name]:
                    fill(name, first, vectors)
    order = [EGO, *sorted(exo_names), EXO]
    alone = EXO in views and len(exo_names) == 1
    return {n: views[n] for n in order if n in views and not (alone and n in exo_names)}


def _common_exo(takes: Sequence[StoredTake]) -> set[str]:
    """The exo streams that most takes with them have, by name: others are too few to compare."""
    counts: dict[str, int] = {}
    for take in takes:
        for name in take.streams:
            counts[name] = counts.get(name, 0) + 1
    often = [
        name for name, n in counts.items() if n * 4 >= len(takes) and not name.startswith("aria")
    ]
    return set(sorted(often, key=lambda name: (-counts[name], name))[:_MOST_EXO])


def _pooled(store: StoredFeatures, stream: str, spans: Sequence[Interval]) -> Vectors:
    features, valid = store.features(stream), store.valid(stream)
    times = store.start_time, store.end_time
    return np.stack([pooled(features, valid, *times, span, "mean") for span in spans])


def _mean(parts: Sequence[Vectors]) -> Vectors:
    """The mean over those that are there; NaN where none is."""
    stacked = np.stack(parts)
    there = np.isfinite(stacked).all(axis=2, keepdims=True)
    total = np.where(there, stacked, 0).sum(axis=0)
    count = there.sum(axis=0)
    return np.asarray(
        np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0), np.float32
    )
