"""Which takes and streams of a data set a job is about."""

import fnmatch
from collections.abc import Collection, Iterable, Sequence

from configs.faults import did_you_mean
from configs.schema import Selection
from workers.dataset.take import DatasetError, Stream, Take
from workers.dataset.words import clean

# Left out unless asked for: Aria's eye cameras have 10 pictures a second and black frames between.
LEFT_OUT = frozenset({"et"})


def select(takes: Sequence[Take], selection: Selection) -> list[Take]:
    """The takes and streams that `selection` asks for, in the data set's order.

    Takes in which no stream is left are left out. Raises DatasetError for a word that the data set
    does not have, with the nearest that it has.
    """
    selection = _as_read(selection)
    _check_words(takes, selection)
    kinds = _kinds(takes, selection)
    chosen = []
    for take in takes:
        if _take_wanted(take, selection):
            keys = [s.key for s in take.streams if _stream_wanted(take, s, selection, kinds)]
            if len(keys) == len(take.streams) and keys:
                chosen.append(take)
            elif keys:
                chosen.append(take.only(keys))
    return chosen


def selection_notes(takes: Sequence[Take], selection: Selection) -> list[str]:
    """What may surprise about a selection, in sentences.

    Args:
        takes: all of the data set, as `Dataset.takes` gives them.
        selection: what is asked for.
    """
    notes = []
    for what, words in (("splits", selection.splits), ("benchmarks", selection.benchmarks)):
        silent = sum(getattr(take, what) is None for take in takes)
        if words and silent:
            notes.append(
                f"of {silent} takes the manifest gives no {what} (null): they pass --{what}, as"
                " they do for the downloader"
            )
    if selection.best_exo and (without := sum(take.best_exo is None for take in takes)):
        notes.append(
            f"{without} takes name no best_exo: --best-exo leaves no camera of theirs but worn ones"
        )
    if selection.views and selection.resolution == "448":
        notes.append(
            "--views goes by the cameras in takes.json; the downloader does not filter part"
            " downscaled_takes/448 by views, so a mirror of it may hold both"
        )
    if selection.task_span and (unknown := sum(take.task_span is None for take in takes)):
        notes.append(
            f"of {unknown} takes the data set does not say when the task is done:"
            " --task-span computes them whole"
        )
    eyes = sum(s.camera_kind in LEFT_OUT for take in takes for s in take.streams)
    if eyes and not selection.kinds and not selection.streams:
        notes.append(
            f"{eyes} streams of eye cameras are left out (10 pictures a second, black frames"
            " between them); --kinds et asks for them"
        )
    return notes


def _as_read(selection: Selection) -> Selection:
    """The words of a selection in the form in which those of the data set were read."""
    given = ((name, getattr(selection, name)) for name in type(selection).model_fields)
    words = {
        name: tuple(clean(word) if isinstance(word, str) else word for word in value)
        for name, value in given
        if isinstance(value, tuple)
    }
    return selection.model_copy(update=words)


def _check_words(takes: Sequence[Take], selection: Selection) -> None:
    uids = {clean(take.uid) for take in takes} | {t.capture_uid for t in takes if t.capture_uid}
    _known("uid", selection.uids, uids, exact=True)
    _known("take name", selection.take_names, {take.name for take in takes}, exact=True)
    captures = {c for take in takes for c in (take.capture, take.capture_uid) if c}
    _known("capture", selection.captures, captures)
    _known("task", selection.tasks, {take.task for take in takes if take.task})
    parents = {take.parent_task for take in takes if take.parent_task}
    _known("parent task", selection.parent_tasks, parents)
    people = {take.participant_uid for take in takes if take.participant_uid}
    _known("participant", selection.participants, people)
    places = {take.physical_setting_uid for take in takes if take.physical_setting_uid}
    _known("physical setting", selection.physical_settings, places)
    _known("university", selection.universities, {t.university for t in takes if t.university})
    for what in ("split", "benchmark"):
        given = [getattr(take, f"{what}s") for take in takes]
        there = {word for words in given for word in words or ()}
        if None not in given:  # else takes of any may be among them
            _known(what, getattr(selection, f"{what}s"), there)
    if selection.streams:
        _known("stream", selection.streams, {s.key for take in takes for s in take.streams})


def _kinds(takes: Sequence[Take], selection: Selection) -> Collection[str] | None:
    """The kinds of streams that are asked for by their kind; None for any but those left out."""
    if not selection.kinds:
        return None
    there = {s.camera_kind for take in takes for s in take.streams if s.camera_kind}
    _known(
        "kind of stream",
        selection.kinds,
        there | {"rgb", "slam", "et", "gopro", "other"},
        exact=True,
    )
    return frozenset(selection.kinds)


def _take_wanted(take: Take, selection: Selection) -> bool:
    uids = selection.uids
    return (
        (not uids or clean(take.uid) in uids or take.capture_uid in uids)
        and (not selection.take_names or take.name in selection.take_names)
        and all(
            not asked or _matches(said, asked)
            for said, asked in (
                (take.task, selection.tasks),
                (take.parent_task, selection.parent_tasks),
                (take.university, selection.universities),
                (take.participant_uid, selection.participants),
                (take.physical_setting_uid, selection.physical_settings),
            )
        )
        and (
            not selection.captures
            or _matches(take.capture, selection.captures)
            or _matches(take.capture_uid, selection.captures)
        )
        and _passes(take.splits, selection.splits)
        and _passes(take.benchmarks, selection.benchmarks)
        and (not selection.narrated or take.narrated is True)
        and (not selection.validated or take.validated is True)
        and (not selection.timesync_validated or take.timesync_validated is True)
    )


def _passes(there: tuple[str, ...] | None, asked: Sequence[str]) -> bool:
    """The downloader's rule: null passes every filter, an empty list none."""
    return not asked or there is None or any(_matches(word, asked) for word in there)


def _stream_wanted(
    take: Take, stream: Stream, selection: Selection, kinds: Collection[str] | None
) -> bool:
    if kinds is not None:
        by_kind = stream.camera_kind in kinds
    else:
        by_kind = bool(selection.streams) or stream.camera_kind not in LEFT_OUT
    return (
        by_kind
        and (not selection.views or ("ego" if stream.is_ego else "exo") in selection.views)
        and (not selection.best_exo or stream.is_ego or stream.cam_id == take.best_exo)
        and (not selection.streams or _matches(stream.key, selection.streams))
    )


def _matches(value: str | None, patterns: Iterable[str]) -> bool:
    return value is not None and any(fnmatch.fnmatchcase(value, p) or value == p for p in patterns)


def _known(what: str, asked: Iterable[str], there: set[str], *, exact: bool = False) -> None:
    for word in asked:
        if word not in there and (exact or not fnmatch.filter(there, word)):
            raise DatasetError(f"the data set has no {what} '{word}'{did_you_mean(word, there)}")
