"""How a job runs: machines, workers, waiting, cost."""

from typing import Annotated, Literal

from pydantic import Field

from configs.base import Settings
from configs.budget import BudgetSpec
from configs.keys import KeysSpec

Device = Literal["auto", "cpu", "cuda"]
Runtime = Literal["auto", "openvino", "pytorch"]
PositiveInt = Annotated[int, Field(ge=1)]
# Far above anything sensible: what is larger would only take workers down.
BatchSize = Annotated[int, Field(ge=1, le=4096)]


class RunSpec(Settings):
    """How a job runs; nothing here changes a feature's meaning.

    device: `auto` is cuda where there is one.
    workers: actors; `auto` is one per 4 CPU cores, with GPUs at least one and at most 4 for each.
    batch_size: clips in one forward pass; `auto` is 64 frames' worth, 256 on a GPU.
    compile: run the network through `torch.compile`.
    runtime: what runs the network on CPU; `auto` is OpenVINO where that gives PyTorch's vectors.
    address: a Ray cluster; none starts Ray here. `auto` finds a running one.
    attempts: how often a unit may take its worker down before it is quarantined.
    stall_seconds: a unit without any progress for so long counts as hung.
    budget: what it may cost, and by when it has to end.
    keys: how long the data set's keys live, and what to do when they have run out.
    region: of AWS, that the workers are in; without it, what their Ray nodes or machines say.
    max_wait: seconds to wait for a first worker, as while a cluster has no node; None: for ever.
    """

    device: Device = "auto"
    workers: Literal["auto"] | PositiveInt = "auto"
    batch_size: Literal["auto"] | BatchSize = "auto"
    compile: bool = False
    runtime: Runtime = "auto"
    address: str | None = None
    attempts: Annotated[int, Field(ge=1, le=10)] = 2
    stall_seconds: Annotated[float, Field(ge=5)] = 300.0
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] | None = None
    max_wait: Annotated[float, Field(gt=0)] | None = None
    budget: BudgetSpec = BudgetSpec()
    keys: KeysSpec = KeysSpec()
