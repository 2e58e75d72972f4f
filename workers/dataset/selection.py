"""Which takes and streams of a data set a job is about."""

import fnmatch
from collections.abc import Iterable, Sequence

from configs.load import did_you_mean
from configs.schema import Selection
from workers.dataset.take import DatasetError, Stream, Take


def select(takes: Sequence[Take], selection: Selection) -> list[Take]:
    """The takes and streams that `selection` asks for, in the data set's order.

    Takes in which no stream is left are left out. Raises DatasetError for a uid, name, task,
    university or stream that the data set does not have, with the nearest that it has.
    """
    _known("uid", selection.uids, {take.uid for take in takes})
    _known("take name", selection.take_names, {take.name for take in takes})
    _known("task", selection.tasks, {take.task for take in takes if take.task})
    _known("university", selection.universities, {t.university for t in takes if t.university})
    _known("stream", selection.streams, {s.key for take in takes for s in take.streams})
    chosen = []
    for take in takes:
        wanted = (
            (not selection.uids or take.uid in selection.uids)
            and (not selection.take_names or take.name in selection.take_names)
            and (not selection.tasks or _matches(take.task, selection.tasks))
            and (not selection.universities or _matches(take.university, selection.universities))
        )
        keys = [s.key for s in take.streams if _stream_wanted(s, selection)]
        if wanted and keys:
            chosen.append(take.only(keys))
    return chosen


def _stream_wanted(stream: Stream, selection: Selection) -> bool:
    view = "ego" if stream.is_ego else "exo"
    by_view = not selection.views or view in selection.views
    return by_view and (not selection.streams or _matches(stream.key, selection.streams))


def _matches(value: str | None, patterns: Iterable[str]) -> bool:
    return value is not None and any(fnmatch.fnmatchcase(value, p) or value == p for p in patterns)


def _known(what: str, asked: Iterable[str], there: set[str]) -> None:
    exact = what in ("uid", "take name")
    for word in asked:
        if word not in there and (exact or not fnmatch.filter(there, word)):
            raise DatasetError(f"the data set has no {what} '{word}'{did_you_mean(word, there)}")
