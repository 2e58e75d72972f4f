"""What a store lacks."""

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Gap:
    """Clips `[start, stop)` of one unit whose chunks are not all there for these streams.

    Attributes:
        start: First clip of the unit.
        stop: The clip after its last one.
        streams: Names of the streams that lack chunks.
    """

    start: int
    stop: int
    streams: tuple[str, ...]

    @property
    def clips(self) -> int:
        """Clips, times streams."""
        return (self.stop - self.start) * len(self.streams)

    def of(self, streams: Iterable[str]) -> "Gap":
        """This gap for some of its streams."""
        return replace(self, streams=tuple(streams))
