"""The names in a store: arrays, dimensions, attributes, reasons. Light enough for any reader.

A store is a Zarr v3 group `<output>/<encoder_id>/<take_uid>.zarr` of one take and one encoder.
"""

from enum import IntEnum
from typing import Final

SCHEMA_VERSION: Final = 1

CLIP: Final = "clip"
STREAM: Final = "stream"
FEATURE: Final = "feature"

FEATURES: Final = "features"
VALID: Final = "valid"
FRAME_TIME: Final = "frame_time"
REASON: Final = "reason"
START_FRAME: Final = "start_frame"
STOP_FRAME: Final = "stop_frame"
START_TIME: Final = "start_time"
END_TIME: Final = "end_time"

# Written per unit and stream, in this order; features come after all of them.
PER_STREAM_ARRAYS: Final = (VALID, FRAME_TIME, REASON)
# What xarray shows as coordinates besides `stream`, which is one by its name.
CLIP_COORDINATES: Final = (START_FRAME, STOP_FRAME, START_TIME, END_TIME)
ARRAYS: Final = (FEATURES, *PER_STREAM_ARRAYS, *CLIP_COORDINATES, STREAM)

PARTIAL: Final = "partial"
COMPLETE: Final = "complete"


class Reason(IntEnum):
    """Why a clip of a stream is invalid; the values of the array `reason` (uint8)."""

    VALID = 0
    NOT_EXTRACTED = 1
    STREAM_ABSENT = 2
    STREAM_UNREADABLE = 3
    PAST_END = 4
    MISSING_FRAME = 5
    DAMAGED_FRAME = 6

    @property
    def words(self) -> str:
        """The reason for a person, to follow a count of clips."""
        return _WORDS[self]


_WORDS = {
    Reason.VALID: "valid",
    Reason.NOT_EXTRACTED: "not extracted",
    Reason.STREAM_ABSENT: "of an absent stream",
    Reason.STREAM_UNREADABLE: "of an unreadable stream",
    Reason.PAST_END: "past the end of the stream",
    Reason.MISSING_FRAME: "with a missing frame",
    Reason.DAMAGED_FRAME: "with a damaged frame",
}
