"""How a job stands and how it ended, counted."""

from dataclasses import dataclass, field

from workers.run.tasks import Failure


@dataclass
class Progress:
    """Where a job stands. Clips are counted per stream; all sums run up from zero.

    clips: of the takes prepared so far; clips_skipped: found in the store already;
    clips_done: written by this run; clips_failed: given up.
    """

    takes: int
    takes_prepared: int = 0
    takes_done: int = 0
    units: int = 0
    units_done: int = 0
    units_failed: int = 0
    clips: int = 0
    clips_skipped: int = 0
    clips_done: int = 0
    clips_failed: int = 0
    clips_invalid: int = 0
    seconds: float = 0.0
    counts: dict[str, float] = field(default_factory=dict)

    @property
    def clips_seen(self) -> float:
        """Clips encoded so far, those of unfinished units too."""
        return max(self.counts.get("clips", 0.0), float(self.clips_done))


@dataclass
class Report:
    """How a job ended: what the summary shows and the report file keeps."""

    progress: Progress
    stores: list[str] = field(default_factory=list)
    untouched: int = 0
    problems: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything that could be extracted was."""
        return not self.failures and not self.progress.units_failed
