"""Which of an output's jobs are listed, and where the list goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from configs.schema import in_full
from service.jobs.records import JobRecord
from takestream.stores import preset_of


@dataclass(frozen=True)
class JobQuery:
    """Which jobs to list, the newest first.

    Attributes:
        limit: So many at most.
        cursor: A job's id; only older ones are listed.
        statuses: Only jobs that stand so; any without one.
        encoder: Only jobs of this preset or encoder_id.
        by: Only jobs that the key of this name submitted.
    """

    limit: int = 50
    cursor: str | None = None
    statuses: Sequence[str] = ()
    encoder: str | None = None
    by: str | None = None

    def wants(self, record: JobRecord) -> bool:
        """Whether a job is listed."""
        return (
            (not self.statuses or record.status in self.statuses)
            and (self.by is None or record.submitted_by == self.by)
            and (self.encoder is None or self.encoder in _encoders(record))
        )


@dataclass(frozen=True)
class JobList:
    """Jobs, the newest first.

    Attributes:
        jobs: Fewer than the limit, even none, where the rest of the list has to be looked for.
        cursor: With which older jobs are asked for; None where there are none.
    """

    jobs: Sequence[JobRecord]
    cursor: str | None = None


def _encoders(record: JobRecord) -> set[str]:
    """The encoder_ids and presets of a job; before it has begun, the presets alone."""
    try:
        chosen = in_full(record.spec).get("encoders") or ()
    except ValueError:
        chosen = ()
    presets = {str(one.get("preset")) for one in chosen if isinstance(one, Mapping)}
    return {*record.encoder_ids, *map(preset_of, record.encoder_ids), *presets}
