"""`annotations/splits.json`: which takes are for training, validation and test, and for what."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from takestream.storage import S3Options, join
from workers.dataset.jsonlist import json_value
from workers.dataset.take import DatasetError, Take
from workers.dataset.words import clean
from workers.media.source import Source

SPLITS = "annotations/splits.json"


def with_splits(
    takes: Sequence[Take], root: str, s3: S3Options, *, released: bool, needed: bool = True
) -> list[Take]:
    """The takes with the splits and benchmarks that `annotations/splits.json` gives them.

    What a release's manifest says of a take stays, an empty list too; where it is silent (None)
    and the file does not name the take either, it stays silent.

    Args:
        takes: of the data set.
        root: the data set's URI.
        s3: how to reach it.
        released: whether the takes have what a manifest says.
        needed: whether splits or benchmarks were asked for.

    Raises:
        DatasetError: it is needed, and there is no such file and no manifest; or it is no JSON
            object.
        StorageError: the storage cannot be read.
    """
    uri = join(root, SPLITS)
    facts = _read(uri, s3)
    if facts is None:
        if needed and not released:
            raise DatasetError(
                f"{uri}: no such object, and without it nothing says which split or benchmark a"
                " take is of; the downloader writes it with --parts annotations"
            )
        return list(takes)
    splits, benchmarks = _by_take(facts, "split"), _by_take(facts, "benchmark")
    silent = None if released else ()
    return [
        replace(
            take,
            splits=splits.get(take.uid, silent) if take.splits == silent else take.splits,
            benchmarks=(
                benchmarks.get(take.uid, silent) if take.benchmarks == silent else take.benchmarks
            ),
        )
        for take in takes
    ]


def _read(uri: str, s3: S3Options) -> Mapping[str, Any] | None:
    try:
        data = Source(uri, s3).whole()
    except FileNotFoundError:
        return None
    try:
        facts = json_value(data)
    except ValueError as error:
        raise DatasetError(f"{uri}: {error}") from error
    if not isinstance(facts, dict):
        raise DatasetError(f"{uri}: expected a JSON object")
    return facts


def _by_take(facts: Mapping[str, Any], what: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    by_take = facts.get(f"take_uid_to_{what}")
    if isinstance(by_take, dict):
        for uid, words in by_take.items():
            given = [words] if isinstance(words, str) else words
            if isinstance(given, list):
                found.setdefault(uid, []).extend(clean(w) for w in given if isinstance(w, str))
    by_word = facts.get(f"{what}_to_take_uids")
    if isinstance(by_word, dict):
        for word, uids in ((clean(word), uids) for word, uids in by_word.items()):
            for uid in uids if isinstance(uids, list) else ():
                if isinstance(uid, str) and word not in found.setdefault(uid, []):
                    found[uid].append(word)
    return {uid: tuple(words) for uid, words in found.items()}
