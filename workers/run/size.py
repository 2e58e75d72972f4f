"""What a worker has of its machine, as calibrations and bills count it."""

import platform
from dataclasses import dataclass


@dataclass(frozen=True)
class WorkerSize:
    """What a worker has of its machine.

    Attributes:
        machine: name of the processor, or of the GPU on `cuda`.
        device: `cpu` or `cuda`.
        threads: CPU threads.
        gpu_share: the part of a GPU, on `cuda`.
    """

    machine: str
    device: str
    threads: int
    gpu_share: float = 1.0

    @property
    def gpus(self) -> float:
        """The part of a GPU that it has; 0 on CPU."""
        return self.gpu_share if self.device == "cuda" else 0.0


def machine_name(device: str) -> str:
    """What computes here: the GPU's name, or the processor's."""
    if device == "cuda":
        import torch

        if torch.cuda.is_available():
            return str(torch.cuda.get_device_name(0))
        return "a GPU of the cluster"
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
