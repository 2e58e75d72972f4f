"""Places for workers on a Ray cluster, which follow the machines that come and go."""

import asyncio
import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from configs.run import RunSpec
from workers.run.neighbours import Part
from workers.run.shares import Node, Shares, shares_of, sizes_of
from workers.run.size import WorkerSize
from workers.run.worker import Worker

log = logging.getLogger(__name__)

Counts = dict[str, float]
ALL = Part()
HALF = 0.5
# A worker gives its unit back, between two batches, so many seconds before its machine goes.
HURRY_SECONDS = 15.0


@dataclass(eq=False)
class Slot:
    """One place for a worker, and what its worker has done for each owner.

    Attributes:
        worker: its actor; None while there is none.
        node: Ray's id of the machine that the worker is on.
        host: name of that machine.
        size: what the worker has of it; None as long as there was none.
        asked: what was asked of Ray for the worker that it has, or waits for.
        running: tasks under way.
        withdrawn: whether it is not wanted any more.
        hurried: whether its worker was told to give back what it runs.
        recalled: whether the actor that it waits for was ended, because the pool asks for fewer or
            others now.
        hiring: held while it waits for an actor.
        coming: the actor that it waits for.
        counts: by owner, the work of its worker.
        loaded: keys of the recipes whose encoders are loaded.
    """

    worker: Any = None
    node: str = ""
    host: str = ""
    size: WorkerSize | None = None
    asked: Shares | None = None
    running: int = 0
    withdrawn: bool = False
    hurried: bool = False
    recalled: bool = False
    hiring: asyncio.Lock = field(default_factory=asyncio.Lock)
    coming: Any = None
    counts: dict[str, Counts] = field(default_factory=dict)
    loaded: set[str] = field(default_factory=set)


class Slots:
    """The slots of a pool.

    On a cluster that was joined there are as many as were asked for, or, by default, twice as many
    as it has room for while there is work for them: what has no room waits, which is what Ray's
    autoscaler goes by.

    Where machines suit workers of several sizes, those that there is room for ask for machines of
    their size, by name; what has no room is of the smallest size, and for a machine yet to come.

    Attributes:
        shares: what a worker gets that there is no room for yet.
        sizes: what workers get of the machines there are, size by size.
        left_out: by machine, why it is not used; the machine's name stands in the words.

    Args:
        run: how the job runs.
        nodes: the machines there are.

    Raises:
        RayUnavailable: a GPU is asked for of a Ray that was started here, and it sees none.
    """

    def __init__(self, run: RunSpec, nodes: Sequence[Node]) -> None:
        self._run = run
        self._elastic = run.address is not None
        self._nodes = list(nodes)
        self.shares = shares_of(run, nodes)
        self.sizes = sizes_of(run, nodes)
        self.left_out: dict[str, str] = {}
        self._all = [Slot() for _ in range(max(1, sum(one.workers for one in self.sizes)))]
        self._leaving: list[Slot] = []
        self._part = len(self._all)
        if self._elastic and run.device == "auto" and self.shares.device == "cpu":
            log.warning("the cluster has no GPU now, so the job runs on CPU; --device cuda waits")

    def __iter__(self) -> Any:
        return iter([*self._all, *self._leaving])

    def __len__(self) -> int:
        return len(self._all)

    @property
    def lost(self) -> str | None:
        """Why there is no machine to work on, in words; None as long as there may be one."""
        usable = [one for one in self._nodes if one.id not in self.left_out and self._fits(one)]
        if not self.left_out or usable or any(slot.worker is not None for slot in self._all):
            return None
        whys = sorted(set(self.left_out.values()))
        return f"no machine of the cluster can be used: {'; '.join(whys)}"

    def leave_out(self, slot: Slot, why: str) -> None:
        """Use the machine of a slot's worker no more."""
        self.left_out[slot.node] = f"{slot.host}: {why}"
        log.warning("machine %s is left out: %s", slot.host, why)

    @property
    def settled(self) -> bool:
        """Whether there are as many workers as are wanted, and none that has to leave."""
        alive = sum(slot.worker is not None for slot in self._all)
        return not self._leaving and alive >= self.room

    @property
    def machines(self) -> list[str]:
        """Ids of those that there were when this was last looked at."""
        return [one.id for one in self._nodes]

    @property
    def room(self) -> int:
        """How many workers there is room for, of those that are wanted."""
        return min(self._part, len(self._all))

    def end(self, *, kill: bool) -> None:
        """Have no workers any more; `kill` ends their processes too."""
        for slot in self:
            if slot.worker is not None and kill:
                with suppress(RayError):
                    ray.kill(slot.worker, no_restart=True)
            slot.worker = None

    def left(self) -> list[Slot]:
        """Slots that were given up and that nothing runs in any more; each comes once."""
        idle = [slot for slot in self._leaving if not slot.running]
        self._leaving = [slot for slot in self._leaving if slot.running]
        return idle

    def hurried(self) -> list[Slot]:
        """Slots whose machine goes before a unit may end: what runs there is to be given back."""
        soon = {
            n.id for n in self._nodes if n.leaves_in is not None and n.leaves_in < HURRY_SECONDS
        }
        found = [slot for slot in self._leaving if slot.node in soon and not slot.hurried]
        for slot in found:
            slot.hurried = True
        return found

    def _vacate(self) -> None:
        """Have nothing more begun on machines that are about to be taken back."""
        going = {one.id: one for one in self._nodes if one.leaves_in is not None}
        for slot in [one for one in self._all if one.worker is not None and one.node in going]:
            self._all.remove(slot)
            self._withdraw(slot)
            left = going[slot.node].leaves_in
            when = f" in {left:.0f} s" if left != math.inf else ""
            log.warning("machine %s is taken back%s: its work goes elsewhere", slot.host, when)

    def _withdraw(self, slot: Slot) -> None:
        slot.withdrawn = True
        self._leaving.append(slot)

    def follow(self, nodes: Sequence[Node], outstanding: int, part: Part = ALL) -> list[Slot]:
        """See which machines there are; the slots that are new.

        Args:
            nodes: the machines there are now.
            outstanding: tasks queued or under way.
            part: of the workers there is room for that this pool may have.
        """
        if not nodes:
            return []  # the head is away for a moment
        self._nodes = list(nodes)
        self._vacate()
        usable = [one for one in nodes if one.id not in self.left_out and one.leaves_in is None]
        if self.shares.device == "cuda" and not any(one.gpus >= 1 for one in usable):
            room = 0
        else:
            device = {"device": self.shares.device}
            run = self._run.model_copy(update=device)
            self.shares, self.sizes = shares_of(run, usable), sizes_of(run, usable)
            room = sum(one.workers for one in self.sizes)
            self._fit()
        wanted = self._wanted(room, outstanding, part)
        # Those first that wait for a machine yet to come.
        later = sorted(self._all, key=lambda one: not (one.asked and one.asked.nodes))
        for slot in reversed(later):
            if len(self._all) > wanted and slot.worker is None:
                slot.withdrawn = True
                self._all.remove(slot)
                self._recall(slot)
        while part.crowded and len(self._all) > wanted:
            self._withdraw(self._all.pop())
        new = [Slot() for _ in range(wanted - len(self._all))]
        self._all += new
        return new

    async def hired(self, slot: Slot) -> Any:
        """The worker of a slot. Raises RayError when it does not come up, or is not wanted."""
        async with slot.hiring:
            if slot.withdrawn and slot.worker is None:
                # Another lane of it waited here too, and must not ask for an actor once more.
                raise RayError("its place for a worker is not wanted any more")
            if slot.worker is None:
                shares, slot.recalled = self._next(), False
                slot.asked = shares
                worker = Worker.options(  # type: ignore[attr-defined]
                    **shares.options, label_selector=self._where(shares)
                ).remote(shares.device, shares.threads, shares.gpus or 1.0, metrics=self._elastic)
                slot.coming = worker
                try:
                    # Starting may take long and is no stall.
                    slot.node, slot.host, slot.size = await worker.place.remote()
                except BaseException:
                    with suppress(RayError):
                        ray.kill(worker, no_restart=True)
                    raise
                finally:
                    slot.coming = None
                slot.worker = worker
            return slot.worker

    def _lacks(self) -> list[tuple[int, Shares]]:
        """How many workers of each size are neither there nor asked for."""
        found = []
        for size in self.sizes:
            its = set(size.nodes)
            have = sum(
                slot.node in its
                if slot.worker is not None
                else bool(slot.coming and slot.asked and its & set(slot.asked.nodes))
                for slot in self._all
            )
            found.append((size.workers - have, size))
        return found

    def _next(self) -> Shares:
        """What the next worker asks for."""
        if len(self.sizes) == 1:
            return self.sizes[0]
        lack, size = max(self._lacks(), key=lambda one: one[0])
        return size if lack > 0 else self.shares

    def _where(self, shares: Shares) -> dict[str, str] | None:
        """The label selector of a worker."""
        if shares.nodes:
            return {"ray.io/node-id": f"in({','.join(shares.nodes)})"}
        # Where sizes differ, what a machine has left over is not for workers of another size.
        avoid = [*self.left_out, *(node for size in self.sizes for node in size.nodes)]
        return {"ray.io/node-id": f"!in({','.join(avoid)})"} if avoid else None

    def _fit(self) -> None:
        """Have workers that are asked for or there be of the sizes of today's machines."""
        for slot in [one for one in self._all if one.coming is not None]:
            if slot.asked is not None and not self._offered(slot.asked):
                self._recall(slot)  # it asks for what the machines of before had
                slot.asked = None
        if self._run.workers != "auto":
            return
        for slot in [one for one in self._all if one.worker is not None]:
            its = [one for one in self.sizes if not one.nodes or slot.node in one.nodes]
            if its and slot.asked is not None and its[0].size != slot.asked.size:
                # It was asked for before its machine was known.
                self._all.remove(slot)
                self._withdraw(slot)

    def _offered(self, asked: Shares) -> bool:
        """Whether machines have, or may have, what was asked for when there were others."""
        if not asked.nodes:
            room = len(self.sizes) > 1 and any(lack > 0 for lack, _ in self._lacks())
            return asked.size == self.shares.size and not room
        return any(
            one.size == asked.size and (not one.nodes or set(asked.nodes) <= set(one.nodes))
            for one in self.sizes
        )

    def _wanted(self, room: int, outstanding: int, part: Part) -> int:
        asked = self._run.workers
        if not self._elastic:
            return max(1, room if asked == "auto" else asked)
        self._part = room
        if part.crowded:
            # At least one, whatever it weighs: what it has in the end it waits for.
            self._part = max(1, math.floor(room * part.share + HALF))
            more = 1 if part.settled and outstanding > self._part else 0
            most = self._part + more
            return max(1, min(outstanding, most if asked == "auto" else min(asked, most)))
        most = room + max(1, room) if asked == "auto" else asked
        return max(1, min(most, max(room, 1) if outstanding <= room else outstanding))

    def _fits(self, node: Node) -> bool:
        shares = self.shares
        return node.cpus >= shares.cpus and node.gpus >= shares.gpus

    def _recall(self, slot: Slot) -> None:
        slot.recalled = True
        if slot.coming is not None:
            with suppress(RayError):
                ray.kill(slot.coming, no_restart=True)
