"""From a job's settings to a running job, for the command line, the demo and whoever else asks."""

from collections.abc import Callable, Sequence

from configs.schema import JobSpec
from takestream.storage import S3Options
from workers.dataset import DatasetError, Take, read_takes, select
from workers.job import Progress, Report, ray_session, run_job
from workers.recipe import Recipe
from workers.worker import Record

Chosen = list[tuple[Take, tuple[str, ...]]]


def choose_takes(job: JobSpec) -> Chosen:
    """The takes that a job is about, each whole, with the names of the streams wanted of it.

    Raises DatasetError, also when nothing is selected, and SourceError.
    """
    takes = read_takes(job.dataset, job.select.resolution, S3Options(**job.s3.model_dump()))
    whole = {take.uid: take for take in takes}
    chosen = [
        (whole[take.uid], tuple(stream.key for stream in take.streams))
        for take in select(takes, job.select)
    ]
    if not chosen:
        raise DatasetError(
            f"{job.dataset}: none of its {len(takes)} takes is left after the filters"
            if takes
            else f"{job.dataset}: its takes.json holds no takes"
        )
    return chosen


def extract(
    recipe: Recipe,
    takes: Chosen,
    on_progress: Callable[[Progress, Sequence[Record]], None],
) -> Report:
    """Run the job in a Ray session of its own, or on the cluster it names."""
    with ray_session(recipe.job.run):
        return run_job(recipe, takes, on_progress)
