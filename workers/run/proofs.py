"""Which machines of a cluster have shown that they see what the driver sees."""

import asyncio
from typing import Any

from configs.run import RunSpec
from workers.dataset.take import Take
from workers.run.nodeproof import Sight, look, new_key, why_not
from workers.run.slots import Slot
from workers.run.tasks import Task


class Proofs:
    """What the driver sees, and which machines have shown that they see the same.

    Args:
        run: how the job runs; a Ray that was started here has one machine, the driver's own.
    """

    def __init__(self, run: RunSpec) -> None:
        self._needed = run.address is not None
        # By recipe, a take and what the driver sees of it.
        self._own: dict[str, tuple[Take, Sight]] = {}
        self._proven: set[tuple[str, str]] = set()

    async def why_not(self, slot: Slot, worker: Any, task: Task, unloaded: str) -> str:
        """Why the machine of a slot cannot be used; empty where it can.

        Args:
            slot: with the machine.
            worker: there.
            task: the first one that it is to have; of its take one object is looked at.
            unloaded: why the encoder does not load there; empty where it does.

        Raises:
            RayError: the worker dies of it.
        """
        recipe, take = task.recipe, task.take
        if not self._needed or (slot.node, recipe.key) in self._proven:
            return ""
        if unloaded:
            # Of an encoder that loads nowhere the tasks tell.
            elsewhere = any(key == recipe.key for _, key in self._proven)
            return f"the encoder does not load there: {unloaded}" if elsewhere else ""
        if recipe.key not in self._own:
            sight = await asyncio.to_thread(look, recipe, take)
            # Another machine may have come here meanwhile, with another take.
            self._own.setdefault(recipe.key, (take, sight))
        shown, own = self._own[recipe.key]
        key = new_key()
        there = await worker.look.remote(recipe, shown, key)
        why = await asyncio.to_thread(why_not, recipe, own, there, key)
        if not why:
            self._proven.add((slot.node, recipe.key))
        return why
