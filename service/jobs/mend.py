"""Damaged stores mended: what is bad is set aside, and a job does its units again."""

import fnmatch
import json
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from configs.load import SettingsError, load_job, parse
from configs.schema import JobSpec, Selection
from service.jobs.choose import ChosenJob
from service.report.run import REPORTS
from takestream.errors import StorageNotFound
from takestream.storage import S3Options, join
from takestream.stores import encoder_id_of
from workers.run.recipe import make_recipe
from workers.store.objects import Objects
from workers.store.verify import VerifyReport, set_aside, verify

log = logging.getLogger(__name__)

_STORES_AT_ONCE = 4


def set_aside_damage(chosen: ChosenJob) -> list[VerifyReport]:
    """Read the stores of a job's takes, and delete what is damaged; those that were not whole.

    Raises:
        StorageError: The storage fails.
    """
    recipe = chosen.recipe
    uris = [
        recipe.store_uri(take.uid, target) for take, _ in chosen.takes for target in recipe.targets
    ]

    def check(uri: str) -> VerifyReport | None:
        try:
            report = verify(uri, recipe.output_s3)
        except StorageNotFound:
            return None
        return report if set_aside(report, recipe.output_s3) else None

    with ThreadPoolExecutor(_STORES_AT_ONCE) as pool:
        return [report for report in pool.map(check, uris) if report is not None]


def repair_jobs(
    reports: Iterable[VerifyReport], s3: S3Options, job_file: str | None = None
) -> Iterator[JobSpec]:
    """The jobs that make stores whole again, one for each folder of an encoder.

    Settings come from `job_file`, else from the newest report beside the stores.

    Args:
        reports: Of the stores that are not whole.
        s3: How to reach them.
        job_file: A job file.

    Raises:
        SettingsError: The settings of a store are not known, or are those of another one.
        StorageError: The storage fails.
    """
    folders: dict[str, list[VerifyReport]] = {}
    for report in reports:
        folders.setdefault(report.uri.rpartition("/")[0], []).append(report)
    for folder, found in folders.items():
        encoder_id, output = encoder_id_of(found[0].uri), folder.rpartition("/")[0]
        job = job_of(folder, s3, job_file)
        own = Selection(
            uids=tuple(sorted(report.take_uid for report in found)),
            streams=tuple(sorted({name for report in found for name in report.streams})),
            resolution=job.select.resolution,
            task_span=job.select.task_span,
        )
        job = job.model_copy(update={"select": own, "output": output})
        recipe = make_recipe(job)
        if encoder_id not in recipe.encoder_ids:
            raise SettingsError(
                f"{folder}: the settings at hand make {', '.join(recipe.encoder_ids)}; give those "
                "of these stores by --job, or run their own job's command with --check"
            )
        yield job


def job_of(folder: str, s3: S3Options, job_file: str | None) -> JobSpec:
    """The job of a job file, else of the newest report in the folder of an encoder that is whole.

    Raises:
        SettingsError: There is none.
        StorageError: The storage fails.
    """
    if job_file is not None:
        return load_job(job_file, {"output": folder}, {})
    reports = Objects(join(folder, REPORTS), s3)
    for key in sorted(fnmatch.filter(reports.listing(), "*.json"), reverse=True):
        try:
            job = json.loads(reports.get(key) or b"")["job"]
            return parse(JobSpec, job, f"{folder}/{REPORTS}/{key}")
        except (ValueError, KeyError, TypeError) as error:
            log.warning("%s/%s/%s: %s; an older report is read", folder, REPORTS, key, error)
    raise SettingsError(
        f"{folder}/{REPORTS} holds no report that says how these stores were made: give the job by "
        "--job FILE.yaml, or run the command that made them with --check"
    )
