"""The calibrations that an output keeps, and how one is made."""

import asyncio
import json
from datetime import UTC, datetime

from service.jobs.choose import ChosenJob
from takestream.storage import S3Options, join
from workers.run.calibration import Calibration
from workers.run.recipe import Recipe
from workers.store.objects import Objects, probe_writable

FOLDER = "calibration"
"""Beside the folders of the encoders."""

# Of the newest that are looked at: an output is calibrated now and then.
_LATEST = 50


def calibrate_here(chosen: ChosenJob, units: int) -> tuple[Calibration, str]:
    """Measure some units of a job in a Ray session of its own, or on the cluster that it names.

    Returns:
        What was found, and the URI of the object that keeps it.

    Raises:
        CalibrationError: Nothing could be measured.
        StorageError: The output cannot be written.
        RayUnavailable: Ray did not start, or no worker fits.
    """
    recipe = chosen.recipe
    probe_writable(recipe.job.output, recipe.output_s3)

    from workers.run.calibrate import calibrate  # loads Ray
    from workers.run.pool import Pool
    from workers.run.session import ray_session

    async def run() -> Calibration:
        async with Pool(recipe.job.run) as pool:
            return await calibrate(pool, recipe, chosen.takes, units)

    with ray_session(recipe.job.run):
        found = asyncio.run(run())
    return found, keep(found, recipe.job.output, recipe.output_s3)


def keep(calibration: Calibration, output: str, s3: S3Options) -> str:
    """Write a calibration into an output; its URI. Raises StorageError."""
    objects = Objects(join(output, FOLDER), s3)
    key = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.json"
    objects.put(key, json.dumps(calibration.facts(), indent=2).encode())
    return join(objects.uri, key)


def calibration_for(recipe: Recipe) -> tuple[Calibration, str] | None:
    """The newest calibration of a job's encoders that its output keeps, and its URI; None without.

    It has to be of the same encoder_ids, so of the same grid, resolution and preprocessing, and of
    the device that the job names, if it names one. Raises StorageError.
    """
    objects = Objects(join(recipe.job.output, FOLDER), recipe.output_s3)
    keys = sorted((key for key in objects.listing() if key.endswith(".json")), reverse=True)
    for key in keys[:_LATEST]:
        try:
            found = Calibration.of(json.loads(objects.get(key) or b""))
        except ValueError:
            continue
        if found is None or set(found.encoder_ids) != set(recipe.encoder_ids):
            continue
        if recipe.job.run.device in ("auto", found.device):
            return found, join(objects.uri, key)
    return None
