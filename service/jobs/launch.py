"""From a job's settings to a running job, for the command line, the demo and whoever else asks."""

import asyncio
from collections.abc import Callable, Sequence

from configs.schema import JobSpec
from takestream.storage import S3Options
from workers.dataset.egoexo import read_takes
from workers.dataset.selection import select
from workers.dataset.take import DatasetError, Take
from workers.run.job import Progress, Report, run_job
from workers.run.pool import Pool
from workers.run.recipe import Recipe
from workers.run.session import ray_session
from workers.run.tasks import Record

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
    """Run the job in a Ray session of its own, or on the cluster it names.

    Raises StoreError when the output cannot be written, RayUnavailable when no worker fits;
    KeyboardInterrupt passes through and leaves a resumable state.
    """

    async def run() -> Report:
        async with Pool(recipe.job.run) as pool:
            return await run_job(pool, recipe, takes, on_progress)

    with ray_session(recipe.job.run):
        return asyncio.run(run())
