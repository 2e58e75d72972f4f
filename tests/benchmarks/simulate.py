"""How long a job over all of Ego-Exo4D takes on 1 to 1,024 GPUs, on paper.

    python -m tests.benchmarks.simulate [--calibration FILE] [--gpus 1 8 64 256 1024] [--json FILE]

The decisions are the real ones (`tests.benchmarks.simulation`); takes are as many and as long as
the data set's, though made up (`tests.benchmarks.lengths`). Costs are those of a calibration, as
`takestream calibrate` writes it, or of the defaults below; what a calibration does not say are
options. Workers of a calibration on CPU count as machines of their own, in place of GPUs.
"""

import argparse
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from configs.load import load_job
from tests.benchmarks.lengths import TAKE_HOURS, VIDEO_HOURS, release_takes
from tests.benchmarks.simulation import Costs, Order, Outcome, Simulation, Workload, make_workload
from workers.run.calibrate import UNKNOWN_SPREAD
from workers.run.calibration import Calibration
from workers.run.dispatch import AskedTake, longest_first
from workers.run.recipe import make_recipe

# Of one of three workers that share an H100, VideoMAE-L in bfloat16, and until it is ready.
H100_CLIPS, H100_WORKERS, H100_START = 231.0, 3, 32.0
SOURCE = (
    "docs/gpu.md: H100, VideoMAE-L, 231 clips/s by 3 workers, ready after 32 s; spread of units and"
    " seconds of prepare and finish assumed"
)
GPUS = tuple(2**n for n in range(11))
GOAL, GOAL_AT = 1.05, 256


def defaults() -> Costs:
    """Without a calibration."""
    rate = H100_CLIPS / H100_WORKERS
    return Costs(
        clips_per_s=(rate * (1 - UNKNOWN_SPREAD), rate, rate * (1 + UNKNOWN_SPREAD)),
        workers_per_gpu=H100_WORKERS,
        prepare_seconds=1.0,
        start_seconds=H100_START,
        source=SOURCE,
    )


def orders(seed: int) -> dict[str, Order]:
    """In which takes may be begun: the first one is what a job does."""

    def shuffled(takes: Iterable[AskedTake]) -> list[AskedTake]:
        some = list(takes)
        random.Random(seed).shuffle(some)
        return some

    def shortest_first(takes: Iterable[AskedTake]) -> list[AskedTake]:
        return longest_first(takes)[::-1]

    return {
        "longest first": longest_first,
        "as listed": list,
        "at random": shuffled,
        "shortest first": shortest_first,
    }


def costs_of(options: argparse.Namespace) -> Costs:
    """What was measured, or the defaults, and what was asked for."""
    costs = defaults()
    if options.calibration:
        found = Calibration.of(json.loads(options.calibration.read_text()))
        if found is None:
            raise SystemExit(
                f"{options.calibration} is no calibration of this version: give a file that"
                " `takestream calibrate` wrote below the output's folder of calibrations"
            )
        costs = costs.measured(found, str(options.calibration))
    return Costs(
        **{
            **asdict(costs),
            "finish_seconds": options.finish_seconds,
            "driver_seconds": options.driver_ms / 1000,
            "preempted_per_hour": options.preempted,
            "replace_seconds": options.replace_seconds,
        }
    )


def table(found: Sequence[tuple[str, Outcome]], price: float) -> Iterable[str]:
    """A line for each number of GPUs, and the ratios of the other orders behind it."""
    first = found[0][0]
    names = list(dict.fromkeys(name for name, _ in found))
    yield (
        f"{'GPUs':>5} {'workers':>8} {'makespan':>10} {'bound':>10} {'÷ bound':>8} {'GPU h':>8}"
        f" {'USD':>8} {'gone':>5} {'lost h':>7}   "
        + "   ".join(f"{name} ÷ bound" for name in names[1:])
    )
    by = {(name, one.gpus): one for name, one in found}
    for (name, gpus), one in by.items():
        if name != first:
            continue
        others = "   ".join(f"{by[n, gpus].ratio:{len(n) + 8}.3f}" for n in names[1:])
        yield (
            f"{gpus:5} {one.workers:8} {_time(one.makespan):>10} {_time(one.bound):>10}"
            f" {one.ratio:8.3f} {one.gpu_hours:8.1f} {one.gpu_hours * price:8.0f}"
            f" {one.preempted:5} {one.lost_seconds / 3600:7.2f}   {others}"
        )


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h" if seconds >= 7200 else f"{seconds / 60:.2f} min"


def simulate(
    work: Workload, costs: Costs, gpus: Sequence[int], seed: int
) -> list[tuple[str, Outcome]]:
    """Every number of GPUs in every order."""
    return [
        (name, Simulation(work, costs, count, order, seed).run())
        for name, order in orders(seed).items()
        for count in gpus
    ]


def main() -> None:
    """Simulate and print."""
    asked = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    asked.add_argument("--calibration", type=Path, help="file that `takestream calibrate` wrote")
    asked.add_argument("--gpus", type=int, nargs="+", default=GPUS)
    asked.add_argument("--takes", type=int, help="only so many of the 5,035")
    asked.add_argument("--unit-frames", type=int, default=4096, help="as store.unit_frames")
    asked.add_argument("--finish-seconds", type=float, default=0.3, help="of a take (assumed)")
    asked.add_argument("--driver-ms", type=float, default=1.0, help="a task; see .dispatch")
    asked.add_argument("--preempted", type=float, default=0.05, help="a GPU, an hour (assumed)")
    asked.add_argument("--replace-seconds", type=float, default=180.0, help="(assumed)")
    asked.add_argument("--price", type=float, default=2.5, help="USD a GPU hour (assumed)")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--json", type=Path, help="file for the numbers")
    options = asked.parse_args()
    costs = costs_of(options)
    settings = {"dataset": "/", "output": "/", "store": {"unit_frames": options.unit_frames}}
    takes = release_takes(options.seed)[: options.takes]
    work = make_workload(make_recipe(load_job(None, settings)), takes, costs, options.seed)
    print(
        f"{len(takes)} takes, made up to {TAKE_HOURS:.0f} h of takes and {VIDEO_HOURS:.0f} h of"
        f" video; {work.clips} clips in {work.units} units; {work.total(costs) / 3600:.1f} worker"
        f" hours, longest take {work.longest(costs):.0f} s if its units run at once\n"
        f"costs by {costs.source}\n"
    )
    found = simulate(work, costs, options.gpus, options.seed)
    print("\n".join(table(found, options.price)))
    print(
        "\nbound: start-up, then the worker hours spread evenly or the longest take, whichever is"
        " longer; USD from start to end, also while workers start or wait; gone: GPUs taken away"
    )
    at = [one for name, one in found if name == "longest first" and one.gpus == GOAL_AT]
    for one in at:
        met = "reached" if one.ratio <= GOAL else "not reached"
        print(f"{GOAL_AT} GPUs: {one.ratio:.3f} times the bound; goal ≤ {GOAL}: {met}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        runs = [
            {
                "order": name, **asdict(one), "ratio": one.ratio,
                "cost": one.gpu_hours * options.price,
            }
            for name, one in found
        ]  # fmt: skip
        facts = {
            "costs": asdict(costs), "takes": len(takes), "units": work.units, "clips": work.clips,
            "worker_seconds": work.total(costs), "longest_seconds": work.longest(costs),
            "price": options.price, "runs": runs,
        }  # fmt: skip
        options.json.write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
