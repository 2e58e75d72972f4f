"""Keys of a data set that end: what is left of them, and a job that waits for new ones.

The keys of Ego-Exo4D are two static values that say nothing of their end. So the day of issue is a
setting, or the day on which the keys were first seen, which the output keeps under their digest.
"""

import asyncio
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from configs.schema import JobSpec
from takestream.errors import ErrorKind, StorageError
from takestream.storage import S3Options, absolute, join
from workers.dataset.layouts import dataset_of
from workers.dataset.release import SCHEME
from workers.run.metrics import RayMetrics
from workers.run.recipe import Recipe
from workers.run.report import Report
from workers.store.objects import PROBE_PATIENCE, Objects, probe_writable

log = logging.getLogger(__name__)

FOLDER = "keys"
"""Beside the folders of the encoders: when keys were first seen, by their digest."""

# Under which names tools that write profiles say when the keys of one end.
_ENDS = ("aws_expiration", "aws_credential_expiration", "expiration", "x_security_token_expires")
# Between two looks whether there are new keys.
LOOK_SECONDS = 60.0
# Between two times that a running job shows how long its keys live.
SHOW_SECONDS = 300.0


@dataclass(frozen=True)
class KeyLife:
    """How long the keys of a data set still live.

    Attributes:
        profile: Of the AWS files; None for those of the environment or the machine.
        ends: When they end.
        known_by: How that is known, in words.
    """

    profile: str | None
    ends: datetime
    known_by: str

    def left(self, now: datetime | None = None) -> timedelta:
        """Until they end; negative afterwards."""
        return self.ends - (now or datetime.now(UTC))

    def words(self, hours_needed: float | None = None, now: datetime | None = None) -> str:
        """For a person, beside what a job needs.

        Args:
            hours_needed: By an estimate of the job, its greatest.
            now: This moment.
        """
        left = self.left(now)
        whose = "the keys" if self.profile is None else f"the keys of profile {self.profile}"
        when = f"{self.ends:%Y-%m-%d %H:%M} UTC ({self.known_by})"
        if left <= timedelta():
            return f"{whose} ended on {when}: renew them"
        said = f"{whose} end on {when}: {_span(left)} are left"
        if hours_needed is not None:
            needed = timedelta(hours=hours_needed)
            said += f", the job needs up to {_span(needed)}"
            if needed > left:
                said += (
                    ": renew them before it starts, or let it wait for new ones (--wait-for-keys)"
                )
        return said

    def facts(self) -> dict[str, Any]:
        """JSON-able."""
        left = round(self.left().total_seconds() / 86_400, 2)
        ends = self.ends.isoformat(timespec="minutes")
        return {
            "profile": self.profile,
            "ends": ends,
            "days_left": left,
            "known_by": self.known_by,
        }


def key_life(job: JobSpec) -> KeyLife | None:
    """How long the keys of a job's data set live; None where nothing says that they end.

    By the first that is known: an end that the keys carry themselves, the setting, and for the
    official release the day on which they were first seen, which is noted in the output. Keys that
    renew themselves, as those of a role, do not end.
    """
    remote = job.dataset.startswith(("s3://", "s3a://", SCHEME))
    if not remote:
        return None
    (keys, own), spec = _keys_of(job.s3), job.run.keys
    if own is not None:
        return KeyLife(job.s3.profile, own, "they say so themselves")
    if spec.end is not None:
        return KeyLife(job.s3.profile, spec.end, f"issued {spec.issued}, {spec.days:g} days")
    if keys is None or not job.dataset.startswith(SCHEME) or not _static(keys):
        return None
    seen = _first_seen(job, keys)
    if seen is None:
        return None
    ends = seen + timedelta(days=spec.days)
    return KeyLife(
        job.s3.profile, ends, f"first seen {seen:%Y-%m-%d}, at most {spec.days:g} days from then"
    )


async def show_keys(job: JobSpec) -> None:
    """Show how long the keys of a job's data set live, at Ray's metrics endpoint, until cancelled.

    What says so is read anew each time: keys are renewed while a job runs.
    """
    metrics = RayMetrics()
    while True:
        life = await asyncio.to_thread(key_life, job)
        if life is not None:
            metrics.keys(life.left().total_seconds())
        await asyncio.sleep(SHOW_SECONDS)


def ran_out(report: Report) -> bool:
    """Whether a run ended because a storage did not accept the keys."""
    return any(failure.kind is ErrorKind.CREDENTIALS for failure in report.failures)


def wait_for_keys(recipe: Recipe, pause: Callable[[float], None] = time.sleep) -> bool:
    """Return when data set and output accept the keys that there are now.

    Credentials are read again for each look. False when the job's deadline came first.
    """
    deadline = recipe.job.run.budget.deadline
    log.warning(
        "the storage does not accept the keys any more. The job waits: renew them where they came "
        "from (the profile's file), and it goes on by itself; Ctrl-C ends it"
    )
    while True:
        forget_credentials()
        if _accepted(recipe):
            log.warning("the keys are accepted again: the job goes on")
            return True
        if deadline is not None and datetime.now(UTC) >= deadline:
            return False
        pause(LOOK_SECONDS)


def forget_credentials() -> None:
    """Drop the open S3 file systems of this process, so that new ones read the keys again."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def _accepted(recipe: Recipe) -> bool:
    job = recipe.job
    brief = {"s3": job.s3, "output_s3": recipe.output_s3}
    brief = {
        name: S3Options(s3.profile, s3.endpoint_url, PROBE_PATIENCE, s3.region)
        for name, s3 in brief.items()
    }
    try:
        dataset_of(job.model_copy(update=brief)).identity()
        probe_writable(job.output, brief["output_s3"])
    except (StorageError, FileNotFoundError):
        return False
    return True


def _keys_of(s3: S3Options) -> tuple[Any, datetime | None]:
    """The credentials that botocore finds, None without any; and when they say that they end."""
    import botocore.exceptions
    import botocore.session

    try:
        session = botocore.session.Session(profile=s3.profile)
        keys = session.get_credentials()
        said = dict(session.get_scoped_config())
    except botocore.exceptions.BotoCoreError:
        return None, None
    if keys is None or (keys.method != "env" and not _static(keys)):
        return keys, None  # whoever gave them renews them
    texts = [os.environ.get("AWS_CREDENTIAL_EXPIRATION")]
    if keys.method != "env":
        texts = [said.get(name) for name in _ENDS]
    for text in texts:
        with suppress(TypeError, ValueError):
            ends = datetime.fromisoformat(str(text))
            return keys, ends if ends.tzinfo else ends.replace(tzinfo=UTC)
    return keys, None


def _static(keys: Any) -> bool:
    """Whether nothing renews them."""
    return not hasattr(keys, "refresh_needed")


def _first_seen(job: JobSpec, keys: Any) -> datetime | None:
    """When these keys were first seen, by what the output keeps; None where it keeps nothing."""
    digest = hashlib.sha256(f"takestream {keys.access_key}".encode()).hexdigest()[:16]
    objects = Objects(join(absolute(job.output), FOLDER), job.reach_output, patience=PROBE_PATIENCE)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with suppress(StorageError, ValueError, KeyError, TypeError):
        objects.put_new(f"{digest}.json", json.dumps({"first_seen": now}).encode())
        kept = json.loads(objects.get(f"{digest}.json") or b"")
        return datetime.fromisoformat(kept["first_seen"])
    return None


def _span(time_left: timedelta) -> str:
    hours = time_left.total_seconds() / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"
