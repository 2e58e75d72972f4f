"""Features on demand: read from a store, and computed by the engine where the store lacks them."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import numpy as np

from configs.limits import LimitsSpec
from service.engine.client import EngineClient
from service.errors import Unknown
from service.features.block import Array, Block
from service.features.cache import OpenStore, StoredFeatures
from service.features.catalogue import Catalogue
from service.features.encoding import TakeFeatures
from service.features.request import (
    CannotCompute,
    FeaturePlan,
    FeatureRequest,
    TooManyClips,
    Wanted,
    chosen_streams,
    read_plan,
)
from takestream.errors import ErrorKind, StorageError, TakestreamError
from takestream.schema import Reason
from workers.media.counters import Counters
from workers.run.prepare import videos_changed
from workers.run.tasks import ClipPart, Failure, UnitRecord

log = logging.getLogger(__name__)

ATTEMPTS = 3
# Windows of one answer that are computed at a time: the others would only fill the queue.
AT_ONCE = 4
# Clips × streams of a take that fit in the memory of a request.
LARGEST = 200_000


class ComputeFailed(TakestreamError):
    """A worker could not compute features.

    Attributes:
        failure: What the worker reported, whose kind is the error's own.
    """

    kind = ErrorKind.CRASH

    def __init__(self, failure: Failure) -> None:
        where = " ".join(filter(None, (failure.take, failure.stream)))
        known = where in failure.reason
        super().__init__(failure.reason if known else f"{where}: {failure.reason}")
        self.failure, self.kind = failure, failure.kind


class Features:
    """Features of takes for the HTTP service: read from stores, and computed where they lack.

    A request goes through `request` (names become objects), `plan` (what the store has), and
    `complete` or `parts` (what is missing is computed by the engine).
    """

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
        self._video_checks: set[asyncio.Task[None]] = set()

    def request(
        self,
        take: str,
        encoder: str | None,
        streams: Sequence[str],
        start: float | None = None,
        end: float | None = None,
        fps: float | None = None,
    ) -> FeatureRequest:
        """A request with its names resolved.

        Args:
            take: The take's uid or name.
            encoder: A preset or an encoder_id, None for the service's own.
            streams: Names or patterns; without any, all but eye cameras.
            start: Seconds on the take's clock.
            end: Seconds on the take's clock.
            fps: Frames per second of the grid, None for the encoder's own.

        Raises:
            Unknown: There is no such take, encoder or stream.
            TakestreamError: The data set or the encoder cannot be read.
        """
        found = self._catalogue.take(take)
        variant = self._catalogue.variant(encoder, fps)
        return FeatureRequest(found, variant, chosen_streams(found, streams), start, end)

    async def plan(
        self, request: FeatureRequest, *, compute: bool, wanted: Wanted | None = None
    ) -> FeaturePlan:
        """Read what the store has of a request; name what it lacks.

        Args:
            request: What is asked for.
            compute: Whether the caller may have features computed.
            wanted: Which of the clips are needed, None for all.

        Raises:
            BeyondTake: The take has ended before the request's time begins.
            TooManyClips: More than one answer may have.
            CannotCompute: Something is missing that is not to be computed.
            EngineBusy: The store has to be made first, and the queue is full.
            ComputeFailed: The store could not be made.
            StorageError: The store cannot be read.
        """
        for _ in range(ATTEMPTS):
            store = await self._opened(request)
            able = compute and request.variant.recipe is not None
            if (
                store is None
                or not set(request.streams) <= set(store.store.streams)
                or (store.videos_changed and able)
            ):
                await self._prepare(request, compute=compute)
                store = await self._opened(request)
            if store is None:
                continue  # removed again because its videos changed
            limit = self._limits.answer_clips
            plan = await asyncio.to_thread(read_plan, request, store, wanted, limit)
            if plan is not None:
                self._check_videos(plan)
                if plan.windows and not able:
                    raise _cannot_compute(request, compute)
                return plan
        raise _keeps_changing(request)

    async def stored(self, request: FeatureRequest) -> FeaturePlan:
        """All clips that the store has of a take, whatever the request's time; nothing computed.

        Raises:
            Unknown: There is no store.
            TooManyClips: The store has more than fit in the memory of a request.
            StorageError: The store cannot be read.
        """
        for _ in range(ATTEMPTS):
            opened = await self._opened(request)
            if opened is None:
                raise Unknown(
                    f"take {request.take.name} has no store of {request.variant.encoder_id} yet; a "
                    "job or a request for its features makes one"
                )
            streams = tuple(name for name in request.streams if name in opened.store.streams)
            count = opened.store.clips
            if count * len(streams) > LARGEST:
                raise TooManyClips(
                    f"take {request.take.name} has {count} clips of {len(streams)} streams: too "
                    "many to compare here; open its store with xarray"
                )
            block = await asyncio.to_thread(opened.read, streams, 0, count)
            if block is not None:
                known = FeatureRequest(request.take, request.variant, streams)
                wanted = np.ones(count, dtype=bool)
                return FeaturePlan(known, opened, opened.clips, block, wanted, ())
        raise _keeps_changing(request)

    async def renew(self, plan: FeaturePlan, wanted: Wanted | None = None) -> FeaturePlan:
        """The plan for the take's videos as they are now. Raises as `plan`."""
        await self._prepare(plan.request, compute=True)
        return await self.plan(plan.request, compute=True, wanted=wanted)

    async def complete(
        self, plan: FeaturePlan, wanted: Wanted | None = None
    ) -> tuple[FeaturePlan, TakeFeatures]:
        """All features of a plan; of a new plan when the videos changed meanwhile.

        Raises:
            EngineBusy: The queue is full.
            ComputeFailed: A worker could not compute them.
        """
        try:
            return plan, await self._completed(plan)
        except ComputeFailed as error:
            if error.kind is not ErrorKind.CHANGED:
                raise
        plan = await self.renew(plan, wanted)
        return plan, await self._completed(plan)

    async def parts(self, plan: FeaturePlan) -> AsyncGenerator[ClipPart, None]:
        """The clips that the plan lacks, as they are encoded, in the store's dtype.

        Each clip of each stream comes once. A stream that kills its worker comes as not extracted.
        Closing the generator cancels the work.

        Raises:
            EngineBusy: The queue is full.
            ComputeFailed: A worker could not compute them.
        """
        merged: asyncio.Queue[object] = asyncio.Queue()
        turn = asyncio.Semaphore(AT_ONCE)
        tasks = [asyncio.create_task(self._run(plan, w, merged, turn)) for w in plan.windows]
        left = len(tasks)
        seen = np.zeros(plan.block.have.shape, dtype=bool)
        try:
            while left:
                item = await merged.get()
                if item is None:
                    left -= 1
                elif isinstance(item, BaseException):
                    raise item
                elif isinstance(item, ClipPart):
                    at = plan.request.streams.index(item.stream)
                    first = item.first - int(plan.clips.clip[0])
                    rows = slice(first, first + len(item.reason))
                    # A worker that was lost may have sent a part of it before.
                    new = int(seen[rows, at].sum())
                    seen[rows, at] = True
                    if new < len(item.reason):
                        yield _from(item, new)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _completed(self, plan: FeaturePlan) -> TakeFeatures:
        block = plan.block
        async with aclosing(self.parts(plan)) as parts:
            async for part in parts:
                put(block, part, plan)
        return plan.features()

    async def _opened(self, request: FeatureRequest) -> OpenStore | None:
        recipe, uid = request.variant.recipe, request.take.uid
        if recipe is None:
            uri = self._catalogue.store_uri(request.variant.encoder_id, uid)
        else:
            uri = recipe.store_uri(uid)
        return await asyncio.to_thread(self._stored.open, uri)

    def _check_videos(self, plan: FeaturePlan) -> None:
        """Compare the videos with the store's provenance in the background, now and then."""
        if not plan.store.claim_video_check():
            return

        async def check() -> None:
            take, store = plan.request.take, plan.store
            dataset = self._catalogue.dataset
            try:
                store.videos_changed = await asyncio.to_thread(
                    videos_changed, store.store, take, plan.request.streams, dataset, Counters()
                )
            except StorageError as error:  # the stored features can be answered all the same
                log.warning("%s", error)

        task = asyncio.create_task(check())
        self._video_checks.add(task)
        task.add_done_callback(self._video_checks.discard)

    async def _prepare(self, request: FeatureRequest, *, compute: bool) -> None:
        recipe = request.variant.recipe
        if not compute or recipe is None:
            raise _cannot_compute(request, compute)
        prepared = await self._engine.prepare(recipe, request.take, request.streams)
        if prepared.failures:
            raise ComputeFailed(prepared.failures[0])

    async def _run(
        self,
        plan: FeaturePlan,
        window: tuple[tuple[str, ...], int, int],
        out: "asyncio.Queue[object]",
        turn: asyncio.Semaphore,
    ) -> None:
        try:
            async with turn:
                await self._window(plan, window, out)
        except Exception as error:  # noqa: BLE001 - raised where the parts are read
            out.put_nowait(error)
        else:
            out.put_nowait(None)

    async def _window(
        self,
        plan: FeaturePlan,
        window: tuple[tuple[str, ...], int, int],
        out: "asyncio.Queue[object]",
    ) -> None:
        streams, first, stop = window
        request, dtype = plan.request, plan.block.features.dtype
        recipe = request.variant.recipe
        assert recipe is not None
        # At most as much as one answer may have computed: of a long stream not all is kept.
        keep = (stop - first) * len(streams) <= self._limits.compute_clips
        parts: list[ClipPart] = []
        async with aclosing(
            self._engine.window(recipe, request.take, streams, first, stop)
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
                    # Only now is it certain that the videos did not change meanwhile.
                    for part in parts:
                        if part.stream in item.ranges[0].streams:
                            plan.store.remember(part)


def put(block: Block, part: ClipPart, plan: FeaturePlan) -> None:
    """Set the clips of a part in the block of its plan."""
    at = plan.request.streams.index(part.stream)
    first = part.first - int(plan.clips.clip[0])
    rows = slice(first, first + len(part.reason))
    block.fill(rows, at, part.features, part.reason, part.frame_time)


def _finite(part: ClipPart, features: Array) -> ClipPart | ComputeFailed:
    ok = part.reason == Reason.VALID
    if not np.isfinite(features[ok]).all():
        words = f"features that are not finite in {features.dtype}; use store dtype float32"
        return ComputeFailed(Failure("", part.stream, words, kind=ErrorKind.MODEL))
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


def _lost(record: UnitRecord, plan: FeaturePlan) -> ClipPart | ComputeFailed:
    unit = record.ranges[0]
    if not record.failures:
        words = "its computation was stopped, as when the service restarts; ask again"
        return ComputeFailed(Failure(record.take.name, None, words, kind=ErrorKind.UNAVAILABLE))
    failure = record.failures[0]
    alone = len(unit.streams) == 1 and len(plan.request.streams) > 1
    if failure.kind is not ErrorKind.CRASH or not alone:
        return ComputeFailed(failure)
    n = unit.stop - unit.start
    return ClipPart(
        unit.streams[0],
        unit.start,
        np.full((n, plan.store.store.dim), np.nan, dtype=plan.block.features.dtype),
        np.full(n, Reason.NOT_EXTRACTED, dtype=np.uint8),
        np.full(n, np.nan),
    )


def _cannot_compute(request: FeatureRequest, compute: bool) -> CannotCompute:
    what = f"{request.variant.encoder_id} of take {request.take.name} is not all in the store"
    if not compute:
        words = f"{what}, and this key may only read: it has no scope compute"
        return CannotCompute(words, kind=ErrorKind.FORBIDDEN)
    return CannotCompute(
        f"{what}, and this service does not have the settings that it was made with"
    )


def _keeps_changing(request: FeatureRequest) -> ComputeFailed:
    words = "its store keeps changing; ask again"
    return ComputeFailed(Failure(request.take.name, None, words, kind=ErrorKind.CHANGED))
