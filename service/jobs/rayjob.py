"""Ray's own view of a job, as a record; the job's own is better as far as it goes."""

from collections.abc import Mapping
from datetime import UTC, datetime

from ray.job_submission import JobDetails

from service.jobs.records import JobRecord, Status

_STATUS: Mapping[str, Status] = {
    "PENDING": "queued", "RUNNING": "running",
    "STOPPED": "stopped", "SUCCEEDED": "succeeded", "FAILED": "failed",
}  # fmt: skip


def ray_sees(details: JobDetails, address: str) -> JobRecord:
    """What Ray, whose dashboard is at `address`, knows of a job; Ray's own ids are let through."""
    status = _STATUS[details.status]
    job_id = str(details.submission_id or details.job_id)
    error = why_it_failed(details) if status == "failed" else None
    metadata = details.metadata or {}
    spec = {name: metadata[name] for name in ("dataset", "output", "encoder") if name in metadata}
    # Not validated: other ids look different from ours.
    return JobRecord.model_construct(
        job_id=job_id,
        kind="ray",
        status=status,
        submitted_at=_iso(details.start_time) or "",
        started_at=None if status == "queued" else _iso(details.start_time),
        finished_at=_iso(details.end_time),
        spec=spec or {"entrypoint": details.entrypoint},
        error=error,
        ray_address=address,
    )


def why_it_failed(details: JobDetails) -> str:
    """Why a job failed that could not write it down itself."""
    code = details.driver_exit_code
    if code is not None and code < 0:
        return f"its driver was killed by signal {-code}; submit it again to go on"
    # "… exited with code 2, last available logs: …": the driver's last line says why.
    said = (details.message or "").strip().splitlines() or ["it failed, and Ray does not know why"]
    return said[-1][:500] + (f" (exit code {code})" if code else "")


def _iso(milliseconds: int | None) -> str | None:
    if not milliseconds:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
