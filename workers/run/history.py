"""What a run's workers did when: bounded, however many units there are."""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from workers.run.tasks import UnitRecord

STAGES = ("read", "decode", "convert", "encode", "write")
"""Parts of the work whose seconds are counted; threads of a unit do them at the same time."""

# Stretches of work that are kept of all workers together, and the slowest units.
MOST_STRETCHES, MOST_SLOW = 3000, 20


@dataclass
class Stretch:
    """Time in which a worker had units, one after the other.

    Attributes:
        began, ended: Unix seconds.
        units: How many.
        failed: Of them, how many were not done.
    """

    began: float
    ended: float
    units: int = 1
    failed: int = 0


class History:
    """The units of a run, as they come in."""

    def __init__(self) -> None:
        self._stretches: dict[str, list[Stretch]] = {}
        self._count = 0
        # Stretches of one worker that are closer than this are one.
        self._gap = 0.0
        self._slowest: list[tuple[float, int, dict[str, Any]]] = []
        self._number = 0
        self._stages = dict.fromkeys(STAGES, 0.0)

    def add(self, record: UnitRecord) -> None:
        """Take in what became of a unit."""
        if not record.worker:
            return  # no worker had it: its last one died
        for name in STAGES:
            self._stages[name] += record.counts.get(f"{name}_seconds", 0.0)
        self._number += 1
        heapq.heappush(self._slowest, (record.seconds, self._number, _unit(record)))
        if len(self._slowest) > MOST_SLOW:
            heapq.heappop(self._slowest)
        stretches = self._stretches.setdefault(record.worker, [])
        ended, failed = record.began + record.seconds, int(record.outcome != "done")
        stretches.append(Stretch(record.began, ended, 1, failed))
        self._count += 1
        self._shrink()

    def facts(self) -> dict[str, Any]:
        """JSON-able: stages in seconds, stretches of work by worker, the slowest units."""
        return {
            "stages": {name: round(seconds, 3) for name, seconds in self._stages.items()},
            "workers": {
                worker: [
                    [round(one.began, 2), round(one.ended, 2), one.units, one.failed]
                    for one in sorted(stretches, key=lambda one: one.began)
                ]
                for worker, stretches in sorted(self._stretches.items())
            },
            "slowest": [facts for _, _, facts in sorted(self._slowest, reverse=True)],
        }

    def _shrink(self) -> None:
        while self._count > MOST_STRETCHES:
            self._gap = max(1.0, 2 * self._gap)
            for worker, stretches in self._stretches.items():
                self._stretches[worker] = list(_joined(stretches, self._gap))
            self._count = sum(map(len, self._stretches.values()))
            if self._count <= len(self._stretches):
                return


def _joined(stretches: Iterable[Stretch], gap: float) -> Iterable[Stretch]:
    held: Stretch | None = None
    for one in sorted(stretches, key=lambda one: one.began):
        if held is not None and one.began - held.ended <= gap:
            held.ended = max(held.ended, one.ended)
            held.units += one.units
            held.failed += one.failed
            continue
        if held is not None:
            yield held
        held = one
    if held is not None:
        yield held


def _unit(record: UnitRecord) -> dict[str, Any]:
    return {
        "take": record.take.name,
        "take_uid": record.take.uid,
        "clips": [[part.start, part.stop] for part in record.ranges],
        "streams": sorted({name for part in record.ranges for name in part.streams}),
        "outcome": record.outcome,
        "worker": record.worker,
        "began": round(record.began, 2),
        "seconds": round(record.seconds, 2),
        "stages": {name: round(record.counts.get(f"{name}_seconds", 0.0), 2) for name in STAGES},
        "bytes_read": int(record.counts.get("bytes_read", 0)),
        "retries": int(record.counts.get("retries", 0)),
    }
