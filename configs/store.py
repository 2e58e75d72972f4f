"""How a job's features are stored."""

from typing import Annotated, Literal

from pydantic import Field

from configs.base import Settings


class StoreSpec(Settings):
    """How features are stored.

    unit_frames: frames of the take that one unit of work covers; a store keeps the clips per unit
        that it was made with.
    """

    dtype: Literal["float16", "float32"] = "float16"
    unit_frames: Annotated[int, Field(ge=1, le=1_000_000)] = 4096
