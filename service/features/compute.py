"""From what somebody asks to features: what the store has, and what has to be computed for it."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np

from configs.schema import LimitsSpec
from service.engine.client import EngineClient
from service.features.cache import Array, Block, StoredFeatures
from service.features.catalogue import Catalogue
from service.features.encoding import Answer
from service.features.request import Asked, CannotCompute, Plan, chosen_streams, read_plan
from takestream.errors import ErrorKind, StorageError
from takestream.schema import Reason
from workers.media.counters import Counters
from workers.run.prepare import videos_changed
from workers.run.tasks import ClipPart, Failure, UnitRecord

log = logging.getLogger(__name__)

ATTEMPTS = 3
# Windows of one answer that are computed at a time: the others would only fill the queue.
AT_ONCE = 4


class Failed(Exception):
    """A worker could not do it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class Answering:
    """Plans and carries out answers."""

    def __init__(
        self,
        catalogue: Catalogue,
        stored: StoredFeatures,
        engine: EngineClient,
        limits: LimitsSpec,
    ) -> None:
        self._catalogue, self._stored = catalogue, stored
        self._engine = engine
        self._limits = limits
        self._looks: set[asyncio.Task[None]] = set()

    def asked(
        self,
        take: str,
        encoder: str | None,
        streams: Sequence[str],
        start: float | None = None,
        end: float | None = None,
        fps: float | None = None,
    ) -> Asked:
        """Names made into things. Raises Unknown, DatasetError, ModelError, …"""
        found = self._catalogue.take(take)
        variant = self._catalogue.variant(encoder, fps)
        return Asked(found, variant, chosen_streams(found, streams), start, end)

    async def plan(self, asked: Asked, *, compute: bool, wanted: Any = None) -> Plan:
        """Read what is there; name what is not.

        compute: whether it may be computed. wanted: from clips to bool [n], which of them matter.
        Raises TooMuch, CannotCompute, EngineBusy, Failed, StorageError.
        """
        uri = self._catalogue.store_uri(asked.variant.encoder_id, asked.take.uid)
        for _ in range(ATTEMPTS):
            store = await asyncio.to_thread(self._stored.open, uri)
            able = compute and asked.variant.recipe is not None
            if (
                store is None
                or not set(asked.streams) <= set(store.store.streams)
                or (store.changed and able)
            ):
                await self._prepare(asked, compute=compute)
                store = await asyncio.to_thread(self._stored.open, uri)
            if store is None:
                continue  # removed again because its videos changed
            limit = self._limits.answer_clips
            plan = await asyncio.to_thread(read_plan, asked, store, wanted, limit)
            if plan is not None:
                self._look(plan)
                if plan.windows and (not compute or asked.variant.recipe is None):
                    raise CannotCompute(_why_not(asked, compute))
                return plan
        raise Failed(
            Failure(asked.take.name, None, "its store keeps changing", kind=ErrorKind.CHANGED)
        )

    async def renew(self, asked: Asked) -> None:
        """Have the store follow its videos, which changed."""
        await self._prepare(asked, compute=True)

    async def parts(self, plan: Plan) -> AsyncGenerator[ClipPart, None]:
        """The clips that the plan lacks, as they are encoded, in the store's dtype.

        Each clip of each stream comes once. A stream that kills its worker comes as not extracted.
        Raises EngineBusy, Failed. Closing it cancels the work.
        """
        merged: asyncio.Queue[object] = asyncio.Queue()
        turn = asyncio.Semaphore(AT_ONCE)
        tasks = [asyncio.create_task(self._run(plan, w, merged, turn)) for w in plan.windows]
        left = len(tasks)
        told = np.zeros(plan.block.have.shape, dtype=bool)
        try:
            while left:
                item = await merged.get()
                if item is None:
                    left -= 1
                elif isinstance(item, BaseException):
                    raise item
                elif isinstance(item, ClipPart):
                    at = plan.asked.streams.index(item.stream)
                    first = item.first - int(plan.clips.clip[0])
                    rows = slice(first, first + len(item.reason))
                    # A worker that was lost told a part of it before.
                    new = int(told[rows, at].sum())
                    told[rows, at] = True
                    if new < len(item.reason):
                        yield _from(item, new)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def complete(self, plan: Plan) -> Answer:
        """The whole answer. Raises EngineBusy, Failed."""
        block = plan.block
        async with aclosing(self.parts(plan)) as parts:
            async for part in parts:
                put(block, part, plan)
        return plan.answer()

    def _look(self, plan: Plan) -> None:
        """See in the background whether the videos behind an answer are still the same."""
        if not plan.store.due_for_a_look():
            return

        async def look() -> None:
            take, store = plan.asked.take, plan.store
            dataset = self._catalogue.dataset
            try:
                store.changed = await asyncio.to_thread(
                    videos_changed, store.store, take, plan.asked.streams, dataset, Counters()
                )
            except StorageError as error:  # what is stored is good all the same
                log.warning("%s", error)

        task = asyncio.create_task(look())
        self._looks.add(task)
        task.add_done_callback(self._looks.discard)

    async def _prepare(self, asked: Asked, *, compute: bool) -> None:
        if not compute or asked.variant.recipe is None:
            raise CannotCompute(_why_not(asked, compute))
        prepared = await self._engine.prepare(asked.variant.recipe, asked.take, asked.streams)
        if prepared.failures:
            raise Failed(prepared.failures[0])

    async def _run(
        self,
        plan: Plan,
        window: tuple[tuple[str, ...], int, int],
        out: "asyncio.Queue[object]",
        turn: asyncio.Semaphore,
    ) -> None:
        try:
            async with turn:
                await self._window(plan, window, out)
        except Exception as error:  # noqa: BLE001 - raised in whoever reads the parts
            out.put_nowait(error)
        else:
            out.put_nowait(None)

    async def _window(
        self, plan: Plan, window: tuple[tuple[str, ...], int, int], out: "asyncio.Queue[object]"
    ) -> None:
        streams, first, stop = window
        asked, dtype = plan.asked, plan.block.features.dtype
        recipe = asked.variant.recipe
        assert recipe is not None
        # Not more than one answer may compute at once: a long stream is not kept whole.
        keep = (stop - first) * len(streams) <= self._limits.compute_clips
        parts: list[ClipPart] = []
        async with aclosing(
            self._engine.window(recipe, asked.take, streams, first, stop)
        ) as answers:
            async for item in answers:
                if isinstance(item, ClipPart):
                    with np.errstate(over="ignore"):
                        features = item.features.astype(dtype)
                    part = _finite(item, features)
                    out.put_nowait(part)
                    if keep and isinstance(part, ClipPart):
                        parts.append(part)
                elif item.outcome != "done":
                    out.put_nowait(_lost(item, plan))
                else:
                    # Only now is it sure that the videos did not change meanwhile.
                    for part in parts:
                        if part.stream in item.ranges[0].streams:
                            plan.store.keep(part)


def put(block: Block, part: ClipPart, plan: Plan) -> None:
    """Put a part where it belongs."""
    at = plan.asked.streams.index(part.stream)
    first = part.first - int(plan.clips.clip[0])
    rows = slice(first, first + len(part.reason))
    block.fill(rows, at, part.features, part.reason, part.frame_time)


def _finite(part: ClipPart, features: Array) -> ClipPart | Failed:
    ok = part.reason == Reason.VALID
    if not np.isfinite(features[ok]).all():
        words = f"features that are not finite in {features.dtype}; use store dtype float32"
        return Failed(Failure("", part.stream, words, kind=ErrorKind.MODEL))
    return ClipPart(part.stream, part.first, features, part.reason, part.frame_time)


def _from(part: ClipPart, row: int) -> ClipPart:
    if not row:
        return part
    return ClipPart(
        part.stream,
        part.first + row,
        part.features[row:],
        part.reason[row:],
        part.frame_time[row:],
    )


def _lost(record: UnitRecord, plan: Plan) -> ClipPart | Failed:
    unit = record.ranges[0]
    if not record.failures:
        words = "its computation was stopped, as when the service restarts; ask again"
        return Failed(Failure(record.take.name, None, words, kind=ErrorKind.UNAVAILABLE))
    failure = record.failures[0]
    alone = len(unit.streams) == 1 and len(plan.asked.streams) > 1
    if failure.kind is not ErrorKind.CRASH or not alone:
        return Failed(failure)
    n = unit.stop - unit.start
    return ClipPart(
        unit.streams[0],
        unit.start,
        np.full((n, plan.store.store.dim), np.nan, dtype=plan.block.features.dtype),
        np.full(n, Reason.NOT_EXTRACTED, dtype=np.uint8),
        np.full(n, np.nan),
    )


def _why_not(asked: Asked, compute: bool) -> str:
    what = f"{asked.variant.encoder_id} of take {asked.take.name}"
    if not compute:
        return (
            f"{what} is not all in the store, and this key may only read: it has no scope compute"
        )
    return (
        f"{what} is not all in the store, and this service does not have the settings that it was "
        "made with"
    )
