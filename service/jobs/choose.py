"""From a job's settings to what it will do: its recipe, and the takes with their streams."""

import logging
from contextlib import suppress
from dataclasses import dataclass, replace

from configs.schema import JobSpec, Resolution
from workers.dataset.layouts import dataset_of
from workers.dataset.segments import read_segments
from workers.dataset.selection import select, selection_notes
from workers.dataset.take import DatasetError, Take
from workers.run.recipe import Recipe, make_recipe

log = logging.getLogger(__name__)

Chosen = list[tuple[Take, tuple[str, ...]]]

# Of the first takes it is looked whether any video is there.
_LOOKED_AT = 3


@dataclass(frozen=True)
class ChosenJob:
    """A job whose names are resolved.

    Attributes:
        recipe: The job with its encoders and grids.
        takes: Each take whole, with the names of the streams wanted of it.
    """

    recipe: Recipe
    takes: Chosen


def choose(job: JobSpec) -> ChosenJob:
    """Resolve a job's encoders, takes and streams.

    Raises:
        SettingsError: A setting makes no sense.
        ModelError: The encoder's weights cannot be found.
        DatasetError: Nothing is selected, or no video of the first takes is there at this
            resolution but at the other one.
        StorageError: The data set cannot be read.
    """
    recipe = make_recipe(job)
    chosen = ChosenJob(recipe, choose_takes(job))
    _refuse_wrong_resolution(job, chosen.takes)
    return chosen


def choose_takes(job: JobSpec) -> Chosen:
    """The takes that a job is about, each whole, with the names of the streams wanted of it.

    Raises DatasetError, also when nothing is selected, and StorageError.
    """
    dataset = dataset_of(job)
    takes = dataset.takes()
    whole = {take.uid: take for take in takes}
    selected = select(takes, job.select)
    for note in (*dataset.notes(), *selection_notes(takes, job.select)):
        log.warning("%s", note)
    if job.segments and selected:
        selected = read_segments(job.segments, job.s3).of(selected)
    chosen = [
        (
            replace(whole[take.uid], segments=take.segments),
            tuple(stream.key for stream in take.streams),
        )
        for take in selected
    ]
    if not chosen:
        raise DatasetError(
            f"{job.dataset}: none of its {len(takes)} takes is left after the filters"
            if takes
            else f"{job.dataset}: its takes.json holds no takes"
        )
    return chosen


def _refuse_wrong_resolution(job: JobSpec, takes: Chosen) -> None:
    """Raise DatasetError when the first takes have videos at the other resolution alone.

    A data set that has lost all streams of its first takes would only report failures.
    """
    first = [take.only(streams) for take, streams in takes[:_LOOKED_AT]]
    if any(size is not None for size in dataset_of(job).sizes(first).values()):
        return
    other: Resolution = "448" if job.select.resolution == "full" else "full"
    names = [take.name for take in first]
    dataset = dataset_of(job, other)
    elsewhere: list[Take] = []
    with suppress(DatasetError):  # a release without that part
        elsewhere = [take for take in dataset.takes() if take.name in names]
    if any(size is not None for size in dataset.sizes(elsewhere).values()):
        raise DatasetError(
            f"{job.dataset}: no video at resolution {job.select.resolution}; it holds "
            f"resolution {other}: add --resolution {other}"
        )
