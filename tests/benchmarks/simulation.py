"""A run of a job on workers that are only simulated; its decisions are the real ones.

Which takes are begun, which tasks follow, and which task is next are decided by
`workers.run.dispatch` and `workers.run.fair`; units are made by `workers.run.prepare`. How long a
task takes, when machines go, and the time of the driver are made up from costs.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from statistics import fmean

from workers.dataset.take import Take
from workers.run.calibration import Calibration, Range
from workers.run.dispatch import AHEAD, AskedTake, Dispatch, longest_first
from workers.run.fair import FairOrder, Queued
from workers.run.prepare import clips_per_unit, make_units
from workers.run.recipe import Recipe
from workers.run.tasks import (
    Extract,
    FinishedTake,
    Prepare,
    PreparedTake,
    Record,
    Task,
    UnitRecord,
)
from workers.store.gap import Gap

RATE = 30
Order = Callable[[Iterable[AskedTake]], Iterable[AskedTake]]


@dataclass(frozen=True)
class Costs:
    """What things take.

    Attributes:
        clips_per_s: of one worker, in a unit: the least, the mean and the greatest.
        workers_per_gpu: that share one, and go together.
        prepare_seconds, finish_seconds: of a take, on a worker.
        start_seconds: from a machine that is there to a worker that is ready.
        driver_seconds: of the driver for each task; it does one at a time.
        preempted_per_hour: how often a GPU is taken away, on average.
        replace_seconds: until there is another one.
        source: where these numbers come from.
    """

    clips_per_s: Range
    workers_per_gpu: int = 1
    prepare_seconds: float = 0.0
    finish_seconds: float = 0.0
    start_seconds: float = 0.0
    driver_seconds: float = 0.0
    preempted_per_hour: float = 0.0
    replace_seconds: float = 0.0
    source: str = ""

    def measured(self, found: Calibration, source: str) -> "Costs":
        """With what a calibration measured; what it does not know stays."""
        return replace(
            self,
            clips_per_s=found.clips_per_s,
            workers_per_gpu=round(1 / found.gpus) if found.gpus else 1,
            prepare_seconds=found.prepare_seconds,
            start_seconds=found.start_seconds,
            source=source,
        )


@dataclass(frozen=True)
class Workload:
    """A job's takes with their units, and what each unit takes.

    Attributes:
        recipe: of the job.
        takes: in the order of the data set.
        prepared: by uid of the take.
        seconds: of units, by uid of the take and first frame.
    """

    recipe: Recipe
    takes: list[AskedTake]
    prepared: dict[str, PreparedTake]
    seconds: dict[tuple[str, int], float]

    @property
    def units(self) -> int:
        """How many there are."""
        return len(self.seconds)

    @property
    def clips(self) -> int:
        """Of all takes, times streams."""
        return sum(one.clips for one in self.prepared.values())

    def total(self, costs: Costs) -> float:
        """Seconds of one worker that does everything."""
        each = costs.prepare_seconds + costs.finish_seconds
        return sum(self.seconds.values()) + len(self.takes) * each

    def longest(self, costs: Costs) -> float:
        """Seconds of the take that lasts longest when all its units are done at the same time."""
        unit: dict[str, float] = {}
        for (uid, _), seconds in self.seconds.items():
            unit[uid] = max(unit.get(uid, 0.0), seconds)
        return max(unit.values()) + costs.prepare_seconds + costs.finish_seconds


def make_workload(recipe: Recipe, takes: Sequence[Take], costs: Costs, seed: int = 0) -> Workload:
    """Cut takes into the units of a job whose output is empty."""
    draw = random.Random(seed)
    prepared = {take.uid: prepared_take(recipe, take) for take in takes}
    seconds = {
        (uid, unit.first_frame): unit.clips * _slowness(costs, draw)
        for uid, one in prepared.items()
        for unit in one.units
    }
    asked = [(take, tuple(stream.key for stream in take.streams)) for take in takes]
    return Workload(recipe, asked, prepared, seconds)


def prepared_take(recipe: Recipe, take: Take) -> PreparedTake:
    """A take that was made ready, its stores being empty."""
    frames, rate = round((take.duration or 0) * RATE), Fraction(RATE)
    streams = tuple(stream.key for stream in take.streams)
    per_take, gaps = recipe.job.store.unit_frames, {}
    for number, target in enumerate(recipe.targets):
        grid = recipe.grid(target, take, frames, rate)
        step = clips_per_unit(per_take, target.grid, rate, grid)
        starts = range(0, grid.clips, step)
        gaps[number] = grid, [Gap(n, min(n + step, grid.clips), streams) for n in starts]
    units = make_units(take, gaps, per_take)
    clips = sum(unit.clips for unit in units)
    return PreparedTake(take, ("store",), units, clips=clips, frames=frames)


def _slowness(costs: Costs, draw: random.Random) -> float:
    """Seconds for a clip in one unit, between those measured and with their mean."""
    slowest, mean, fastest = (1 / rate for rate in costs.clips_per_s)
    # A triangle whose mean is the one measured, as far as its ends allow that.
    mode = min(max(3 * mean - slowest - fastest, fastest), slowest)
    return draw.triangular(fastest, slowest, mode) * mean / fmean((fastest, slowest, mode))


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        gpus, workers: that there were.
        makespan: seconds from its start to its end.
        bound: seconds that no order can go below: the start-up, and after it all work spread
            evenly, or the longest unit with what comes before and after it.
        start_seconds: of the bound, what the start-up is.
        preempted: GPUs that were taken away.
        lost_seconds: work of workers that was lost by it.
        gpu_hours: paid for, from start to end.
    """

    gpus: int
    workers: int
    makespan: float
    bound: float
    start_seconds: float
    preempted: int
    lost_seconds: float
    gpu_hours: float

    @property
    def ratio(self) -> float:
        """How much longer than the bound it took."""
        return self.makespan / self.bound


@dataclass
class _Gpu:
    number: int
    lives: int = 0
    running: dict[int, tuple[float, Queued]] = field(default_factory=dict)
    idle: list[int] = field(default_factory=list)


class Simulation:
    """One run, from a queue of events.

    Args:
        work: what there is to do.
        costs: what it takes.
        gpus: how many there are.
        order: in which takes are begun.
        seed: of the moments at which machines go.
    """

    def __init__(
        self,
        work: Workload,
        costs: Costs,
        gpus: int,
        order: Order = longest_first,
        seed: int = 0,
    ) -> None:
        self._work, self._costs = work, costs
        self._gpus = [_Gpu(number) for number in range(gpus)]
        self._draw = random.Random(seed)
        self._queue = FairOrder()
        self._waiting = 0
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._numbers = itertools.count()
        self._idle: dict[tuple[int, int], None] = {}
        self._driver_free = 0.0
        self._preempted, self._lost = 0, 0.0
        self._dispatch = Dispatch(work.recipe, work.takes, self._submit, "job", order=order)

    @property
    def workers(self) -> int:
        """Of all GPUs."""
        return len(self._gpus) * self._costs.workers_per_gpu

    def run(self) -> Outcome:
        """Let it run to its end."""
        costs, work = self._costs, self._work
        for gpu in self._gpus:
            self._comes(gpu, costs.start_seconds)
        self._dispatch.advance(self.workers * AHEAD)
        now = 0.0
        while not self._dispatch.over:
            now, _, happens = heapq.heappop(self._events)
            happens(now)
        assert self._dispatch.report.ok
        bound = costs.start_seconds + max(work.total(costs) / self.workers, work.longest(costs))
        hours = now * len(self._gpus) / 3600
        return Outcome(
            len(self._gpus), self.workers, now, bound, costs.start_seconds,
            self._preempted, self._lost, hours,
        )  # fmt: skip

    def _at(self, when: float, happens: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), happens))

    def _submit(self, tasks: list[Task]) -> None:
        for task in tasks:
            self._put(Queued(task.priority, 0, task, print, urgent=False))

    def _put(self, queued: Queued) -> None:
        self._queue.add(queued)
        self._waiting += 1

    def _comes(self, gpu: _Gpu, when: float) -> None:
        """A GPU's workers are ready at a moment, and it goes at another one."""
        gpu.lives += 1
        life = gpu.lives

        def ready(now: float) -> None:
            for lane in range(self._costs.workers_per_gpu):
                self._idle[gpu.number, lane] = None
            self._hand_out(now)

        def gone(now: float) -> None:
            if gpu.lives == life:
                self._goes(gpu, now)

        self._at(when, ready)
        if self._costs.preempted_per_hour:
            self._at(when + self._draw.expovariate(self._costs.preempted_per_hour / 3600), gone)

    def _goes(self, gpu: _Gpu, now: float) -> None:
        self._preempted += 1
        for lane in range(self._costs.workers_per_gpu):
            self._idle.pop((gpu.number, lane), None)
        for began, queued in gpu.running.values():
            self._lost += now - began
            self._queue.ended(queued, now - began)
            self._put(queued)
        gpu.running.clear()
        self._comes(gpu, now + self._costs.replace_seconds + self._costs.start_seconds)
        self._hand_out(now)

    def _hand_out(self, now: float) -> None:
        while self._waiting and self._idle:
            lane = next(iter(self._idle))
            del self._idle[lane]
            self._begin(lane, now)

    def _begin(self, lane: tuple[int, int], now: float) -> None:
        gpu, life = self._gpus[lane[0]], self._gpus[lane[0]].lives
        queued = self._queue.next()
        self._waiting -= 1
        gpu.running[lane[1]] = now, queued

        def ends(then: float) -> None:
            if gpu.lives == life:
                self._heard(lane, then)

        self._at(now + self._seconds(queued.task), ends)

    def _heard(self, lane: tuple[int, int], ended: float) -> None:
        """A task has ended; the driver sees to it when it has done so with those before."""
        gpu, life = self._gpus[lane[0]], self._gpus[lane[0]].lives
        began, queued = gpu.running.pop(lane[1])
        self._driver_free = max(self._driver_free, ended) + self._costs.driver_seconds

        def seen(now: float) -> None:
            self._queue.ended(queued, ended - began)
            if gpu.lives == life:
                # As in the pool, a worker takes what waits before its record is looked at.
                self._idle[lane] = None
                if self._waiting:
                    del self._idle[lane]
                    self._begin(lane, now)
            self._dispatch.take_in(self._record(queued.task))
            self._dispatch.advance(self.workers * AHEAD)
            self._hand_out(now)

        self._at(self._driver_free, seen)

    def _seconds(self, task: Task) -> float:
        if isinstance(task, Prepare):
            return self._costs.prepare_seconds
        if isinstance(task, Extract):
            return self._work.seconds[task.take.uid, task.unit.first_frame]
        return self._costs.finish_seconds

    def _record(self, task: Task) -> Record:
        if isinstance(task, Prepare):
            return self._work.prepared[task.take.uid]
        if isinstance(task, Extract):
            return UnitRecord(task.take, task.unit.ranges, "done")
        return FinishedTake(task.take, complete=True)
