"""Which samples probes learn from and which they are judged on; groups are never on both sides."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.evaluate.errors import EvaluationRefused
from service.evaluate.samples import Samples

# Fewer would make every interval as wide as the scale.
LEAST_GROUPS, LEAST_SAMPLES = 4, 10
MOST_FOLDS = 5
Fold = tuple[NDArray[np.intp], NDArray[np.intp]]


@dataclass(frozen=True)
class Refused:
    """A class that is left out.

    Attributes:
        label: Its name.
        samples, groups: How many have it.
        why: In words.
    """

    label: str
    samples: int
    groups: int
    why: str


def usable(samples: Samples, group_by: str) -> tuple[Samples, list[Refused]]:
    """The samples of the classes that can be judged, and the classes that cannot.

    A class of one group alone is in training or in the test, never in both: what tells the group
    apart would be taken for what tells the class apart, or nothing could be learnt of it.

    Raises:
        EvaluationRefused: Fewer than two classes, or too few groups or samples, are left.
    """
    counts = samples.labels.sum(axis=0).astype(int)
    groups = [len(np.unique(samples.groups[samples.labels[:, n] > 0])) for n in range(len(counts))]
    kept = np.array(groups) >= 2
    refused = [
        Refused(name, int(counts[n]), groups[n], f"it is of one {group_by} alone")
        for n, name in enumerate(samples.classes)
        if not kept[n]
    ]
    rows = samples.labels[:, kept].sum(axis=1) > 0
    found = samples.only(rows, kept)
    there = len(np.unique(found.groups))
    if kept.sum() < 2 or there < LEAST_GROUPS or found.count < LEAST_SAMPLES:
        listed = "; ".join(
            f"{name}: {counts[n]} samples of {groups[n]} {group_by}s"
            for n, name in list(enumerate(samples.classes))[:8]
        )
        more = f"; and {len(samples.classes) - 8} more classes" if len(samples.classes) > 8 else ""
        raise EvaluationRefused(
            f"too little to judge: {int(kept.sum())} of {len(kept)} classes are of two or more"
            f" {group_by}s, with {found.count} samples of {there} {group_by}s; it takes 2 classes,"
            f" {LEAST_SAMPLES} samples, {LEAST_GROUPS} {group_by}s. There is {listed}{more}. More"
            " takes, other labels or another --group-by may do"
        )
    return found, refused


def grouped_folds(samples: Samples, seed: int) -> list[Fold]:
    """Training and test rows, each row tested once, no group on both sides, classes spread evenly.

    Up to five folds, by scikit-learn's `StratifiedGroupKFold`; not more than the largest class has
    samples, which it refuses.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    classes = samples.labels.argmax(axis=1)
    largest = int(np.bincount(classes).max())
    count = min(MOST_FOLDS, len(np.unique(samples.groups)), largest)
    cutter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Small classes cannot be in every fold; their counts are in the evaluation.
        warnings.filterwarnings("ignore", message="The least populated class")
        cuts = list(cutter.split(np.zeros(samples.count), classes, samples.groups))
    return [(train, test) for train, test in cuts if len(train) and len(test)]


def official_fold(samples: Samples, test: Sequence[str]) -> list[Fold]:
    """The official training split, and the official splits to be judged on.

    Raises:
        EvaluationRefused: One of them has no sample, or what is learnt would be judged on itself.
    """
    if "train" in test:
        raise EvaluationRefused("--test train: it is what is learnt; judge on another split")
    train = np.flatnonzero(samples.splits == "train")
    judged = np.flatnonzero(np.isin(samples.splits, list(test)))
    if not len(train) or not len(judged):
        raise EvaluationRefused(
            f"--folds official: {len(train)} samples are of split train and {len(judged)} of"
            f" {' or '.join(test)}, of {samples.count}; `takestream facts --refresh` fills in the"
            " splits that the data set says"
        )
    return [(train, judged)]


def shared_people(samples: Samples, folds: Sequence[Fold]) -> int:
    """How many participants are in training and in the test of a fold."""
    return max(
        len(np.intersect1d(samples.people[train], samples.people[test])) for train, test in folds
    )
