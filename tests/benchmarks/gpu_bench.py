"""How `gpu` measures and shows."""

import os
import statistics
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import torch

SIZES = {"448p": (448, 796), "4K": (2160, 3840)}
SMALL = {"448p": (112, 200), "4K": (224, 400)}


class Bench:
    """Measures, prints each figure as it comes, and keeps all of them."""

    def __init__(self, small: bool, parts: Sequence[str], minutes: float) -> None:
        cuda = torch.cuda.is_available()
        self.device = torch.device("cuda" if cuda else "cpu")
        self.small, self.parts = small or not cuda, parts
        self.until = time.monotonic() + 60 * minutes
        self.sizes = SMALL if self.small else SIZES
        card = torch.cuda.get_device_name() if cuda else "no GPU: the CPU stands in for it"
        self.figures: dict[str, Any] = {"card": card, "small": self.small}
        self.cores = len(os.sched_getaffinity(0))
        self.show("card", card)
        self.show("cores, torch", f"{self.cores}, {torch.__version__}")

    def show(self, what: str, value: Any, unit: str = "") -> None:
        """One line of the table."""
        self.figures[what] = value
        shown = str(value)
        if isinstance(value, float):
            shown = f"{value:,.0f}" if value >= 100 else f"{value:.4g}"
            shown = f"{value:.6f}" if 0 <= value < 2 else shown
        print(f"| {what:<72} | {shown:>24} {unit:<10} |", flush=True)

    def attempt(self, what: str, part: Callable[[], None]) -> None:
        """Run a part if there is time; its failure is a figure too, and the others go on."""
        if time.monotonic() > self.until:
            self.show(what, "left out, for lack of time")
            return
        try:
            part()
        except Exception as error:  # noqa: BLE001 - shown, and the rest is worth having
            traceback.print_exc()
            self.show(what, f"failed: {type(error).__name__}")

    def timed(self, work: Callable[[], object], times: int = 5) -> float:
        """Median seconds of `work`, which is run once before."""
        work()
        seconds = []
        for _ in range(times):
            self.wait()
            began = time.perf_counter()
            work()
            self.wait()
            seconds.append(time.perf_counter() - began)
        return statistics.median(seconds)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def release(bench: Bench) -> None:
    """Give freed GPU memory back, so that the next peak is its own."""
    torch.compiler.reset()
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()
