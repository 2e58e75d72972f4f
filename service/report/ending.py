"""How a job ended, in the words that its record, log, summary and exit code share."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from takestream.errors import TakestreamError
from workers.run.report import Progress, Report

# Failures that a record keeps; the report keeps them all.
KEPT_FAILURES = 200
EXIT_CODES: Mapping[str, int] = {"succeeded": 0, "failed": 1, "stopped": 130}


@dataclass(frozen=True)
class JobEnd:
    """How a job ended.

    Attributes:
        status: As in the job's record.
        line: The last line of its log.
        error: Why it did not succeed, for people; None when it did, or was stopped.
        failures: The facts of each `workers.run.tasks.Failure`, of what could not be extracted.
        progress: Its sums, JSON-able; None when it came to no report.
    """

    status: Literal["succeeded", "failed", "stopped"]
    line: str
    error: str | None = None
    failures: tuple[dict[str, Any], ...] = ()
    progress: dict[str, Any] | None = field(default=None)

    @property
    def exit_code(self) -> int:
        """Of a command that ran the job."""
        return EXIT_CODES[self.status]

    def facts(self) -> dict[str, Any]:
        """The fields of a job's record that this end sets."""
        facts: dict[str, Any] = {"status": self.status, "error": self.error}
        if self.progress is not None:
            facts |= {"progress": self.progress, "failures": list(self.failures[:KEPT_FAILURES])}
        return facts


def stopped(progress: Mapping[str, Any] | None = None) -> JobEnd:
    """The end of a job that was told to stop.

    Args:
        progress: What `progress_facts` gave last; clips that were encoded and not written are no
            longer counted as reached.
    """
    settled = None if progress is None else _settled(progress)
    many = f", {written_words(progress)}" if progress else ""
    line = f"stopped; what was written is kept{many}: submit it again to go on"
    return JobEnd("stopped", line, progress=settled)


def written_words(progress: Mapping[str, Any]) -> str:
    """How many clips of a job are in the stores, by what `progress_facts` gave."""
    of = max(int(progress.get("clips_asked", 0)), _written(progress))
    return f"{_written(progress):,} of {of:,} clips (each stream's counted)"


def _settled(progress: Mapping[str, Any]) -> dict[str, Any]:
    """Of a job that has ended: what is written is reached, and the rate is that of all its time."""
    seen, seconds = progress.get("clips_seen"), progress.get("seconds")
    over_all = {"clips_per_s": round(seen / seconds, 2)} if seen is not None and seconds else {}
    kept = {name: value for name, value in progress.items() if name != "seconds_left"}
    return {**kept, "clips_reached": _written(progress), **over_all}


def _written(progress: Mapping[str, Any]) -> int:
    return int(progress.get("clips_skipped", 0)) + int(progress.get("clips_done", 0))


def end_of(report: Report) -> JobEnd:
    """The end of a job that came to its report."""
    error = why_not_ok(report)
    return JobEnd(
        "failed" if error else "succeeded",
        f"done, with {error}" if error else "done",
        error,
        tuple(failures_of(report)),
        _settled(progress_facts(report.progress)),
    )


def end_of_error(error: Exception) -> JobEnd:
    """The end of a job that an error ended."""
    words = str(error)
    if not isinstance(error, TakestreamError):
        words = f"a fault of takestream: {type(error).__name__}: {error}"
    return JobEnd("failed", words, words)


def why_not_ok(report: Report) -> str | None:
    """Why not everything was extracted, in a few words; None when it was."""
    if report.ok:
        return None
    if not report.failures and not report.progress.units_failed:
        return f"{report.losses.words}; --strict makes that a failure"
    if not report.failures:
        units = report.progress.units_failed
        some = "1 unit that was" if units == 1 else f"{units} units that were"
        return f"{some} not extracted; run it again to try once more"
    first = report.failures[0]
    where = " ".join(filter(None, (first.take, first.stream)))
    words = first.reason if where in first.reason else f"{where}: {first.reason}"
    count = len(report.failures)
    return f"1 failure: {words}" if count == 1 else f"{count} failures; first: {words}"


def failures_of(report: Report) -> list[dict[str, Any]]:
    """What could not be extracted, JSON-able."""
    return [failure.facts() for failure in report.failures]


def progress_facts(progress: Progress) -> dict[str, Any]:
    """Where a job stands, JSON-able: its sums, how far it is, how fast, and what is left."""
    inner = ("counts", "_lately", "_ticked")
    sums = {k: v for k, v in asdict(progress).items() if k not in inner}
    left = progress.seconds_left
    return {
        **sums,
        "seconds": round(progress.seconds, 1),
        "clips_seen": int(progress.clips_seen),
        "clips_asked": progress.clips_asked,
        "clips_reached": progress.clips_reached,
        "clips_per_s": round(progress.clips_per_s, 2),
        **({} if left is None else {"seconds_left": round(left, 1)}),
    }
