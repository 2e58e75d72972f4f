"""What some machines cost an hour: list prices, to be checked against today's."""

from dataclasses import dataclass

# Of the list price, what spot machines are taken to cost: an assumption, not measured.
SPOT = (0.3, 0.7)


@dataclass(frozen=True)
class Instance:
    """A kind of machine.

    Attributes:
        name: As its provider calls it.
        cpus: Virtual processors.
        gpus: Its GPUs.
        price: USD an hour on demand, in US East (N. Virginia), as last known here. Prices change:
            look at your provider's list, or give your own (`--worker-price`, `--price-per-hour`).
    """

    name: str
    cpus: int
    gpus: int
    price: float

    def workers(self, device: str, threads: int, gpu_share: float = 1.0) -> int:
        """How many workers it has room for.

        Args:
            device: `cuda` or `cpu`.
            threads: CPU threads of a worker.
            gpu_share: The part of a GPU that each takes, on `cuda`.
        """
        if device == "cuda":
            return round(self.gpus / gpu_share)
        return max(1, self.cpus // max(1, threads))


INSTANCES = {
    one.name: one
    for one in (
        Instance("g6.xlarge", 4, 1, 0.8048),
        Instance("g5.xlarge", 4, 1, 1.006),
        Instance("c5.4xlarge", 16, 0, 0.68),
        Instance("c7i.4xlarge", 16, 0, 0.714),
    )
}
