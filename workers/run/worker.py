"""The Ray actor that holds encoders and runs tasks: one of a batch, and urgent ones in between.

What takes long to import, torch above all, is imported in the actor's process alone: the process
that starts actors needs none of it.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import av
import ray

from configs.schema import EncoderSpec
from models.errors import ModelError
from takestream.errors import ErrorKind
from workers.dataset.mirrors import Machine, on_machine
from workers.dataset.take import Take
from workers.media.counters import Counters
from workers.run.metrics import RayMetrics
from workers.run.recipe import Recipe
from workers.run.size import WorkerSize, machine_name
from workers.run.tasks import (
    ClipPart,
    Extract,
    Failure,
    Finish,
    FinishedTake,
    Prepare,
    Query,
    Record,
    Task,
    Window,
)
from workers.run.tracing import send, span

if TYPE_CHECKING:
    from models.encoder import Encoder
    from models.search.joint import Joint
    from workers.run.extract import UnitExtractor

log = logging.getLogger(__name__)

# Urgent tasks that one worker runs at a time: one decodes while the other encodes.
URGENT_LANES = 2
# Encoders that stay on the device, and recipes whose takes' indexes stay in memory.
KEPT_ENCODERS, KEPT_RECIPES = 2, 8
PATIENCE_SECONDS = 3.0
# Owners whose work is counted apart, the latest, by worker and by pool; what others did before is
# one sum, under the name of nobody. More than jobs that run at a time, of those that come and go.
KEPT_OWNERS, EARLIER = 8, ""
# What a worker has done, by owner.
Counts = dict[str, dict[str, float]]
# Cancelled owners to remember, for tasks that are on their way when the word comes.
REMEMBERED = 1000


@ray.remote(  # type: ignore[call-overload]
    max_restarts=0,
    max_task_retries=0,
    concurrency_groups={"urgent": URGENT_LANES, "control": 1},
)
class Worker:
    """Encoders on one device. Methods never raise: what goes wrong is in the record.

    Between two of its micro-batches a batch task waits while urgent work is under way, but never
    longer than `PATIENCE_SECONDS`: requests without end must not stop a job for good.
    """

    def __init__(
        self, device: str, threads: int, gpu_share: float = 1.0, *, metrics: bool = False
    ) -> None:
        import torch

        from workers.run.passes import SWITCH_SECONDS

        av.logging.set_level(av.logging.PANIC)
        labels = ray.get_runtime_context().get_node_labels()
        on_machine(Machine(labels={name: str(value) for name, value in labels.items()}))
        self._device = torch.device(device)
        if self._device.type == "cuda":
            # The thread that starts the GPU's kernels would wait up to Python's usual five
            # milliseconds for decode threads.
            sys.setswitchinterval(SWITCH_SECONDS)
        # Ray sets OMP_NUM_THREADS=1 for actors; the encoder is meant to use this worker's share.
        self._threads = threads
        self._size = WorkerSize(machine_name(device), device, threads, gpu_share)
        self._name = f"{socket.gethostname()} {device} {os.getpid()}"
        self._loading = threading.Lock()
        self._encoding = threading.Lock()
        self._encoders: OrderedDict[str, Encoder] = OrderedDict()
        self._extractors: OrderedDict[str, UnitExtractor] = OrderedDict()
        self._joints: dict[str, Joint] = {}
        self._counters: OrderedDict[str, Counters] = OrderedDict()
        self._counting = threading.Lock()
        self._metrics = RayMetrics() if metrics else None
        self._cancelled: deque[str] = deque(maxlen=REMEMBERED)
        self._urgent = _Urgent()

    def run(self, task: Prepare | Extract | Finish) -> tuple[Record, Counts]:
        """The record of a task, whatever happens to it, and `counts` as they are then."""
        record = self._run(task, in_between=True)
        return record, self._counts()

    @ray.method(concurrency_group="urgent")
    def run_urgent(self, task: Prepare | Extract | Finish) -> tuple[Record, Counts]:
        """As `run`, in front of it."""
        with self._urgent.under_way():
            record = self._run(task, in_between=False)
        return record, self._counts()

    @ray.method(concurrency_group="urgent", num_returns="streaming")
    def window(self, task: Window) -> Iterator[ClipPart | Record | Counts]:
        """The parts of a window as they are ready, its record, and `counts` as they are then."""
        with self._urgent.under_way():
            yield from self._window(task)
        yield self._counts()

    @ray.method(concurrency_group="urgent")
    def load(self, recipe: Recipe) -> str:
        """Load the recipe's encoder; empty, or why it cannot be."""
        try:
            self._extractor(recipe)
        except ModelError as error:
            return str(error)
        return ""

    @ray.method(concurrency_group="urgent")
    def query(self, recipe: Recipe, text: str | None, image: bytes | None) -> Query:
        """A text or a picture as a vector that the recipe's features can be compared with."""
        try:
            joint = self._joint(recipe)
            vector = joint.text(text) if text is not None else joint.image(image or b"")
        except ModelError as error:
            return Query(error=str(error))
        except ValueError as error:
            return Query(error=str(error), asked=True)
        return Query(vector, joint.project)

    @ray.method(concurrency_group="control")
    def counts(self) -> Counts:
        """Work done so far by this worker for each owner, also while a task runs."""
        return self._counts()

    @ray.method(concurrency_group="control")
    def place(self) -> tuple[str, str, WorkerSize]:
        """Ray's id of the machine that this worker is on, its name, and what the worker has."""
        return ray.get_runtime_context().get_node_id(), socket.gethostname(), self._size

    @ray.method(concurrency_group="urgent")
    def look(self, recipe: Recipe, take: Take, key: str) -> Any:
        """What this machine sees of a job (`workers.run.nodeproof.look`)."""
        from workers.run.nodeproof import look

        return look(recipe, take, key)

    @ray.method(concurrency_group="control")
    def cancel(self, owner: str) -> None:
        """Give the running tasks of `owner` back at their next batch, and refuse coming ones."""
        self._cancelled.append(owner)

    def _counts(self) -> Counts:
        with self._counting:
            found = {owner: counters.snapshot() for owner, counters in self._counters.items()}
            if self._metrics is not None:
                total: Counter[str] = Counter()
                for counts in found.values():
                    total.update(counts)
                self._metrics.counts(total)
        return found

    def _take_threads(self) -> None:
        import torch

        torch.set_num_threads(self._threads)  # of the thread that calls

    def _window(self, task: Window) -> Iterator[ClipPart | Record]:
        from workers.run.extract import Stopped

        self._take_threads()
        counters = self._counted(task.owner)
        try:
            with span("takestream window", task.trace, task=task.name):
                yield from self._extractor(task.recipe).window(
                    task.take, task.clips, lambda: self._is_cancelled(task), counters
                )
        except Stopped:
            yield task.stopped()
        except Exception as error:  # noqa: BLE001 - a record says it; the service goes on
            yield task.failed(_failure(task, error))

    def _run(self, task: Prepare | Extract | Finish, *, in_between: bool) -> Record:
        self._take_threads()
        counters = self._counted(task.owner)

        def stop() -> bool:
            if in_between:
                self._urgent.wait(counters, lambda: self._is_cancelled(task))
            return self._is_cancelled(task)

        with span(
            f"takestream {type(task).__name__.lower()}", task.trace, task=task.name
        ) as traced:
            record = self._record(task, stop, counters)
            traced["failures"] = len(record.failures)
            if not isinstance(record, FinishedTake):
                traced |= record.counts
        if isinstance(task, Finish):
            send()  # the pool may end this process next
        return record

    def _record(
        self, task: Prepare | Extract | Finish, stop: Callable[[], bool], counters: Counters
    ) -> Record:
        from workers.run.extract import Stopped

        try:
            extractor = self._extractor(task.recipe)
            match task:
                case Prepare():
                    return extractor.prepare(task.take, task.streams, counters)
                case Finish():
                    return extractor.finish(task.take, task.places)
                case Extract():
                    began = time.time()
                    try:
                        record = extractor.extract(task.unit, stop, counters)
                    except Stopped:
                        return task.stopped()
                    return replace(record, worker=self._name, size=self._size, began=began)
        except Exception as error:  # noqa: BLE001 - a record says it; the job goes on
            return task.failed(_failure(task, error))

    def _is_cancelled(self, task: Task) -> bool:
        # Ray's own word is for a run that nobody listens to any more (see Pool).
        return task.owner in self._cancelled or ray.get_runtime_context().is_canceled()

    def _counted(self, owner: str) -> Counters:
        # Requests come and go: they are counted together, jobs each by themselves.
        name = owner.partition("/")[0]
        with self._counting:
            counters = self._counters.setdefault(name, Counters())
            self._counters.move_to_end(name)
            while len(self._counters) > KEPT_OWNERS + 1:
                oldest = next(name for name in self._counters if name != EARLIER)
                earlier = self._counters.setdefault(EARLIER, Counters())
                earlier.add(**self._counters.pop(oldest).snapshot())
            return counters

    def _extractor(self, recipe: Recipe) -> UnitExtractor:
        from workers.run.extract import UnitExtractor

        with self._loading:
            if recipe.key not in self._extractors:
                encoders = self._loaded(recipe)
                self._extractors[recipe.key] = UnitExtractor(
                    recipe, encoders, self._device, self._encoding
                )
            self._extractors.move_to_end(recipe.key)
            while len(self._extractors) > KEPT_RECIPES:
                self._extractors.popitem(last=False)
            return self._extractors[recipe.key]

    def _joint(self, recipe: Recipe) -> Joint:
        from models.search.joint import load_joint

        encoder = self._extractor(recipe).encoders[0]
        spec = recipe.target.encoder
        key = spec.model_dump_json()
        with self._loading:
            if key not in self._joints:
                self._joints.clear()  # a text tower is as large as an encoder: one at a time
                self._joints[key] = load_joint(spec, self._device, recipe.output_s3, encoder)
            return self._joints[key]

    def _loaded(self, recipe: Recipe) -> list[Encoder]:
        """The recipe's encoders, target by target; those used last stay on the device."""
        from models.encoder import load_encoder
        from workers.run.passes import clips_of_a_pass

        self._take_threads()
        specs = {_encoder_key(recipe, t.encoder): t.encoder for t in recipe.targets}
        kept = max(KEPT_ENCODERS, len(specs))
        for key, spec in specs.items():
            if key in self._encoders:
                self._encoders.move_to_end(key)
                continue
            while len(self._encoders) >= kept:
                _, old = self._encoders.popitem(last=False)
                for name in [k for k, e in self._extractors.items() if old in e.encoders]:
                    del self._extractors[name]
            run = recipe.job.run
            self._encoders[key] = load_encoder(
                spec,
                self._device,
                compile=run.compile,
                batch=clips_of_a_pass(run, spec, self._device),
                s3=recipe.output_s3,
                runtime=run.runtime,
            )
        return [self._encoders[_encoder_key(recipe, t.encoder)] for t in recipe.targets]


def _encoder_key(recipe: Recipe, encoder: EncoderSpec) -> str:
    run = recipe.job.run
    return f"{run.runtime} {run.compile} {encoder.model_dump_json()}"


class _Urgent:
    """Whether urgent work is under way, and how batch work waits for its end."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    @contextmanager
    def under_way(self) -> Iterator[None]:
        with self._changed:
            self._count += 1
        try:
            yield
        finally:
            with self._changed:
                self._count -= 1
                self._changed.notify_all()

    def wait(self, counters: Counters, stop: Callable[[], bool]) -> None:
        """Return when no urgent work is under way, or after a while."""
        until = time.monotonic() + PATIENCE_SECONDS
        with self._changed:
            while self._count and not stop() and (left := until - time.monotonic()) > 0:
                self._changed.wait(min(left, 1.0))
                counters.add(seconds_paused=1)


def crash_failure(task: Task, deaths: int, how: str) -> Failure:
    """Why a task that took its worker down `deaths` times is tried no more."""
    reason = f"took its worker down {deaths} times ({how}); left out, run again to try once more"
    return Failure(task.take.name, task.only_stream, reason, kind=ErrorKind.CRASH)


def pool_failure(task: Task | None, why: str) -> Failure:
    """Why a task, or a whole job, cannot be done as things are."""
    return Failure(task.take.name if task else "", None, why, kind=ErrorKind.ENGINE)


def _failure(task: Task, error: Exception) -> Failure:
    failure = Failure.of(task.take.name, error)
    if failure.kind is ErrorKind.FAULT:
        log.exception("unexpected error in %s", task.name)
    return failure
