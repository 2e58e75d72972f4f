"""Settings of time: which frame shows a moment, and whether cameras are in step."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from configs.base import Settings


class TimelineSpec(Settings):
    """Which frame of a stream shows a moment of the take.

    Attributes:
        kind: `frames`: frame *i* of every stream is the same moment, as frame-aligned videos
            promise. `pts`: the frame whose presentation time is nearest to the moment.
        tolerance: with `pts`, the largest distance that still counts, in frames of the take.
    """

    kind: Literal["frames", "pts"] = "frames"
    tolerance: Annotated[float, Field(gt=0, le=100)] = 0.5


class SyncSpec(Settings):
    """Whether synchronisation is measured, and acted upon.

    Attributes:
        measure: who is asked: `sound`, `sight`, `all`, or nobody (`off`).
        apply: shift streams by whole frames where an offset is believed. Without `measure`, all are
            asked.
    """

    measure: Literal["off", "sound", "sight", "all"] = "off"
    apply: bool = False

    @model_validator(mode="before")
    @classmethod
    def _in_words(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        found = dict(data)
        # YAML reads `measure: off` as false.
        if found.get("measure") is False:
            found["measure"] = "off"
        if found.get("apply") is True:
            found.setdefault("measure", "all")
        return found

    @model_validator(mode="after")
    def _measured_before_applied(self) -> Self:
        if self.apply and self.measure == "off":
            raise ValueError("what is not measured cannot be applied: measure sound, sight or all")
        return self
