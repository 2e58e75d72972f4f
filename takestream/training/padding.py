"""Samples of different lengths as one batch."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from takestream import schema

# What stands where a sample has no clip.
FILL: Final[Mapping[str, Any]] = {
    "features": 0,
    "mask": False,
    "clip": -1,
    "start_time": float("nan"),
    "end_time": float("nan"),
}


def padded(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A batch of samples of `takestream.Windows`, padded at their ends to the longest.

    As DataLoader's own, with `length` int64 [B]: the clips of each.
    """
    import torch

    lengths = [len(sample["clip"]) for sample in samples]
    longest = max(lengths)

    def together(values: Sequence[Any], fill: Any) -> Any:
        if isinstance(values[0], Mapping):
            return {name: together([v[name] for v in values], fill) for name in values[0]}
        shape = (len(values), longest, *values[0].shape[1:])
        batch = torch.full(shape, fill, dtype=values[0].dtype)
        for row, value in enumerate(values):
            batch[row, : lengths[row]] = value
        return batch

    batch: dict[str, Any] = {"length": torch.tensor(lengths)}
    for name, fill in FILL.items():
        batch[name] = together([sample[name] for sample in samples], fill)
    for name in ("take", "group", schema.SEGMENT_LABEL):
        if name in samples[0]:
            batch[name] = [sample[name] for sample in samples]
    return batch
