"""Features judged on labels: every view and probe on the same folds, with floors and intervals."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.evaluate.errors import EvaluationRefused, need_scikit_learn
from service.evaluate.folds import (
    LEAST_SAMPLES,
    Fold,
    Refused,
    grouped_folds,
    official_fold,
    shared_people,
    usable,
)
from service.evaluate.labels import FROM_FACTS, Labels, labels_of
from service.evaluate.probes import linear_scores, neighbour_scores
from service.evaluate.samples import BOTH, Samples, Vectors, read_samples
from service.evaluate.scores import (
    Figure,
    Judged,
    accuracy,
    confusion,
    drawn_weights,
    macro_f1,
    mean_average_precision,
)
from service.transfer.stored import Chosen
from takestream.storage import S3Options

NEIGHBOURS, LINEAR, ZERO_SHOT = "nearest neighbours", "linear probe", "zero-shot"
_TOP = 5
# Shuffled labels above the majority by more than this are no accident of the draw.
_LEAK_DEVIATIONS, _LEAK_LEAST = 4.0, 0.05
_WORST = 10

ZeroShot = Callable[[Vectors], NDArray[np.float32]]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How features are judged.

    Attributes:
        labels: A word of `labels.FROM_FACTS`, or the URI of a file.
        group_by: A fact of takes that is kept on one side of every fold, or `take_uid`.
        folds: `grouped`, or `official` for the official splits.
        test: The official splits to be judged on.
        task_only: Of labels from facts, only the task's span of a take where it is known.
        seed: Of folds, shuffled labels and draws.
    """

    labels: str = "parent_task"
    group_by: str = "participant_uid"
    folds: str = "grouped"
    test: tuple[str, ...] = ("val",)
    task_only: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Row:
    """One view of the takes, judged by one probe.

    Attributes:
        view: `ego`, a stream, `exo mean`, or `ego + exo`.
        probe: What learnt from it.
        samples, takes: That were tested.
        top1, top5: Shares of samples with a right first guess, or one among five; top5 with more
            than five classes.
        macro_f1: Where every sample has one label.
        mean_ap: Mean average precision, where samples have several.
        majority: top1 of the class that training has most of.
        shuffled: top1 with the labels of one participant given to another: nothing can be learnt
            of them, unless somebody is in training and in the test.
        worst: Classes with the least recall: name, recall, samples, what they are taken for most.
    """

    view: str
    probe: str
    samples: int
    takes: int
    top1: Figure
    top5: Figure | None
    macro_f1: Figure | None
    mean_ap: Figure | None
    majority: Figure
    shuffled: Figure | None
    worst: tuple[tuple[str, float, int, str], ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """Features of one encoder, judged on one kind of label.

    Attributes:
        encoder_id: Whose.
        settings: How.
        classes: Names of the labels that were judged, by column.
        words: By label, what it is called.
        refused: Classes that were left out.
        folds: How many.
        groups: How many of `group_by`.
        left_out: By reason, how many takes or samples.
        leaks: What makes these figures worth nothing, in sentences; empty where nothing does.
        notes: What to know of them, in sentences.
        rows: By view and probe.
        tested: By (view, probe), the scores that rows are figures of.
        order: By (view, probe), the sample of each of them.
    """

    encoder_id: str
    settings: Settings
    classes: tuple[str, ...]
    words: Mapping[str, str]
    refused: tuple[Refused, ...]
    folds: int
    groups: int
    left_out: Mapping[str, int]
    leaks: tuple[str, ...]
    notes: tuple[str, ...]
    rows: tuple[Row, ...]
    tested: Mapping[tuple[str, str], Judged] = field(repr=False, default_factory=dict)
    order: Mapping[tuple[str, str], tuple[str, ...]] = field(repr=False, default_factory=dict)

    @property
    def best(self) -> Row:
        """The row with the highest top1."""
        return max(self.rows, key=lambda row: row.top1.value)

    def facts(self) -> dict[str, Any]:
        """JSON-able; without the scores."""
        parts = {n: v for n, v in self.__dict__.items() if n not in ("tested", "order")}
        return {
            **parts,
            "settings": asdict(self.settings),
            "refused": [asdict(one) for one in self.refused],
            "rows": [asdict(row) for row in self.rows],
        }


def read(
    chosen: Chosen, settings: Settings, s3: S3Options
) -> tuple[Samples, dict[str, int], Labels]:
    """The labelled samples of stores, what was left out, and the labels.

    Raises:
        EvaluationRefused: There is nothing to judge.
        DatasetError, StorageError: Labels or stores cannot be read.
    """
    labels = labels_of(settings.labels, chosen.takes, s3, task_only=settings.task_only)
    samples = read_samples(chosen.takes, labels, settings.group_by, s3)
    left_out = {
        "takes whose store is not complete": len(chosen.left_out),
        "takes without a label": labels.without,
        "labelled takes without a complete store": labels.unstored,
        f"takes that do not say their {settings.group_by}": samples.ungrouped,
    }
    return samples, {why: n for why, n in left_out.items() if n}, labels


def evaluate_stores(
    chosen: Chosen,
    settings: Settings,
    s3: S3Options,
    zero_shot: Callable[[Sequence[str]], ZeroShot] | None = None,
    tell: Tell = lambda _: None,
) -> Evaluation:
    """Judge the features of complete stores.

    Args:
        chosen: Stores of one encoder.
        settings: How.
        s3: How to reach stores and labels.
        zero_shot: From names of classes to what scores vectors without learning; None where the
            encoder has no text side.
        tell: Called with what is done now.

    Raises:
        EvaluationRefused: There is too little to judge; the message has the counts.
        DatasetError, StorageError: Labels or stores cannot be read.
    """
    need_scikit_learn()
    tell(f"reading {len(chosen.takes)} takes")
    everything, left_out, labels = read(chosen, settings, s3)
    samples, refused = usable(everything, settings.group_by)
    if refused and (gone := everything.count - samples.count):
        left_out["samples of classes that are left out"] = gone
    del everything  # as large as what is kept of it
    if settings.folds == "official":
        folds = official_fold(samples, settings.test)
    else:
        folds = grouped_folds(samples, settings.seed)
    shuffled = _dealt_anew(samples, settings.seed)
    rows, tested, order = [], {}, {}
    leaks: list[str] = []
    scorer = (
        None if zero_shot is None else zero_shot([labels.words[name] for name in samples.classes])
    )
    for view in samples.names:
        vectors = samples.view(view)
        there = np.asarray(np.isfinite(vectors).all(axis=1))
        usable_folds = _among(folds, there, samples)
        if sum(len(test) for _, test in usable_folds) < LEAST_SAMPLES:
            left_out[f"view {view}: too few samples with a valid clip"] = int(there.sum())
            continue
        tell(f"judging {view}")
        for probe in (NEIGHBOURS, LINEAR):
            row, judged, which, leak = _judged(
                samples, vectors, shuffled, usable_folds, view, probe, settings.seed
            )
            leaks += [leak] if leak and not leaks else []
            rows.append(row)
            tested[view, probe] = judged
            order[view, probe] = tuple(_keys(samples, which))
        if scorer is not None and view != BOTH:
            row, judged, which = _scored(
                samples, vectors, scorer, usable_folds, view, settings.seed
            )
            rows.append(row)
            tested[view, ZERO_SHOT] = judged
            order[view, ZERO_SHOT] = tuple(_keys(samples, which))
    if not rows:
        raise EvaluationRefused("no view of the takes has enough samples with a valid clip")
    return Evaluation(
        chosen.encoder_id, settings, samples.classes, labels.words, tuple(refused), len(folds),
        len(np.unique(samples.groups)), left_out, (*_leaks(samples, settings), *leaks),
        tuple(_notes(samples, folds, settings, labels)), tuple(rows), tested, order,
    )  # fmt: skip


def _among(folds: Sequence[Fold], there: NDArray[np.bool_], samples: Samples) -> list[Fold]:
    """The folds with only the samples that are there; those that can teach two classes."""
    found = []
    for train, test in folds:
        learnt, judged = train[there[train]], test[there[test]]
        if len(judged) and (samples.labels[learnt].sum(axis=0) > 0).sum() >= 2:
            found.append((learnt, judged))
    return found


def _judged(
    samples: Samples, vectors: Vectors, shuffled: NDArray[np.float32], folds: Sequence[Fold],
    view: str, probe: str, seed: int,
) -> tuple[Row, Judged, NDArray[np.intp], str]:  # fmt: skip
    labels = [samples.labels, shuffled]
    if probe == NEIGHBOURS:
        real, dealt = neighbour_scores(vectors, labels, folds)
    else:
        real, dealt = linear_scores(vectors, labels, samples.groups, folds)
    floor = [np.tile(samples.labels[train].mean(axis=0), (len(test), 1)) for train, test in folds]
    which = np.concatenate([test for _, test in folds])
    takes = samples.takes[which]
    judged = Judged(real, samples.labels[which], takes)
    chance = Judged(dealt, shuffled[which], takes)
    majority = Judged(np.concatenate(floor), samples.labels[which], takes)
    leak = _learnt_from_nothing(chance, majority, samples.people[which], seed)
    return _row(samples, judged, majority, chance, view, probe, seed), judged, which, leak


def _scored(
    samples: Samples,
    vectors: Vectors,
    scorer: ZeroShot,
    folds: Sequence[Fold],
    view: str,
    seed: int,
) -> tuple[Row, Judged, NDArray[np.intp]]:
    which = np.concatenate([test for _, test in folds])
    floor = np.concatenate(
        [np.tile(samples.labels[train].mean(axis=0), (len(test), 1)) for train, test in folds]
    )
    takes = samples.takes[which]
    judged = Judged(scorer(vectors[which]), samples.labels[which], takes)
    majority = Judged(floor, samples.labels[which], takes)
    return _row(samples, judged, majority, None, view, ZERO_SHOT, seed), judged, which


def _row(
    samples: Samples, judged: Judged, majority: Judged, chance: Judged | None, view: str,
    probe: str, seed: int,
) -> Row:  # fmt: skip
    weights = drawn_weights(judged.takes, seed)
    several = samples.several
    return Row(
        view, probe, len(judged.labels), len(np.unique(judged.takes)),
        accuracy(judged, weights),
        accuracy(judged, weights, _TOP) if len(samples.classes) > _TOP else None,
        None if several else macro_f1(judged, weights),
        mean_average_precision(judged, weights) if several else None,
        accuracy(majority, weights),
        None if chance is None else accuracy(chance, weights),
        () if several else tuple(_worst(samples, judged)),
    )  # fmt: skip


def _worst(samples: Samples, judged: Judged) -> Iterator[tuple[str, float, int, str]]:
    counts = confusion(judged)
    totals = counts.sum(axis=1)
    recall = np.divide(np.diag(counts), totals, out=np.ones(len(totals)), where=totals > 0)
    off = counts - np.diag(np.diag(counts))
    for number in np.argsort(recall, kind="stable")[:_WORST]:
        if totals[number] and recall[number] < 1:
            taken = samples.classes[int(off[number].argmax())]
            yield samples.classes[number], float(recall[number]), int(totals[number]), taken


def _dealt_anew(samples: Samples, seed: int) -> NDArray[np.float32]:
    """The labels with those of each participant given to another, in any order.

    In their own order they may be those that were there: of people who do the same, one after the
    other, as the steps of a recipe are done.
    """
    random = np.random.default_rng([seed, 1])
    order = np.argsort(samples.people, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(samples.people[order]))[:-1])
    rows = [mine for mine in rows if len(mine)]
    found = np.empty_like(samples.labels)
    for mine, number in zip(rows, random.permutation(len(rows)), strict=True):
        found[mine] = samples.labels[random.permutation(np.resize(rows[number], len(mine)))]
    return found


def _learnt_from_nothing(
    chance: Judged, majority: Judged, people: NDArray[np.int64], seed: int
) -> str:
    """How well shuffled labels are guessed, where that is no accident; empty where it is.

    Draws are of participants here: all samples of one are right or wrong together.
    """
    weights = drawn_weights(people, seed)
    guessed = accuracy(replace(chance, takes=people), weights)
    deviation = (guessed.high - guessed.low) / 3.92
    floor = max(float(majority.hits().mean()), float(chance.labels.mean(axis=0).max()))
    if guessed.value - floor <= max(_LEAK_LEAST, _LEAK_DEVIATIONS * deviation):
        return ""
    return (
        f"shuffled labels are guessed in {guessed.value:.1%} of the samples, the majority class in"
        f" {floor:.1%}: what tells participants apart, or takes, is in training and in the test"
    )


def _keys(samples: Samples, which: NDArray[np.intp]) -> Iterator[str]:
    """What tells a sample in two evaluations: its take, and its number there."""
    first: dict[int, int] = {}
    for row, take in enumerate(samples.takes.tolist()):
        first.setdefault(take, row)
    for row in which.tolist():
        take = int(samples.takes[row])
        yield f"{samples.take_uids[take]} {row - first[take]}"


def _leaks(samples: Samples, settings: Settings) -> Iterator[str]:
    for view, vectors in samples.views.items():
        if twice := _twice(vectors, samples.groups):
            yield (
                f"{twice} samples of {view} have the very features of a sample of another"
                f" {settings.group_by}: the same footage under two names"
            )
            break


def _twice(vectors: Vectors, groups: NDArray[np.int64]) -> int:
    there = np.flatnonzero(np.isfinite(vectors).all(axis=1) & vectors.any(axis=1))
    seen: dict[bytes, set[int]] = {}
    for row in there.tolist():
        seen.setdefault(vectors[row].tobytes(), set()).add(int(groups[row]))
    return sum(len(mine) for mine in seen.values() if len(mine) > 1)


def _notes(
    samples: Samples, folds: Sequence[Fold], settings: Settings, labels: Labels
) -> Iterator[str]:
    if labels.spanless:
        yield (
            f"{labels.spanless} of {len(labels.by_take)} takes do not say from when to when their"
            " task is done: all of each was judged"
        )
    if shared := shared_people(samples, folds):
        yield (
            f"{shared} participants are in training and in the test: what tells them apart counts"
            " as what tells the classes apart"
        )
    classes = samples.labels.argmax(axis=1)
    numbers = np.unique(samples.groups)
    alone = sum(len(np.unique(classes[samples.groups == number])) == 1 for number in numbers)
    if alone == len(numbers) and settings.labels in FROM_FACTS and settings.group_by != "take_uid":
        yield (
            f"every {settings.group_by} has one label only: within training, what tells them apart"
            " tells the classes apart too; folds keep them apart"
        )
