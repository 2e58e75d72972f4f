"""The other jobs on a cluster that was joined, and which part of its workers is this one's.

Each driver keeps a line about itself in the cluster's own key-value store, and reads the others'.
"""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec
from ray.exceptions import RaySystemError, RpcError
from ray.experimental import internal_kv

_NAMESPACE, _PREFIX = b"takestream", b"pool/"
# A line that has not changed for so long is of a driver that is gone. By this driver's own clock.
GONE_SECONDS = 15.0


@dataclass(frozen=True)
class Part:
    """Which part of a cluster's workers a pool may have.

    Attributes:
        share: of all; 1 while no other job wants any.
        crowded: whether another wants some.
        settled: whether every other one that does has its own, so that asking for more machines
            takes no worker from it.
    """

    share: float = 1.0
    crowded: bool = False
    settled: bool = True


class _Line(msgspec.Struct):
    """What a driver says of itself: the weight of its jobs, whether it has its part, a count."""

    weight: float
    settled: bool
    beat: int


class Neighbours:
    """What this driver says of itself and reads of others.

    Args:
        clock: seconds, for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._key = _PREFIX + uuid.uuid4().hex.encode()
        self._clock, self._beat = clock, 0
        # By key, the last line, and when it was new.
        self._seen: dict[bytes, tuple[bytes, float]] = {}
        self._part = Part()

    def look(self, weight: float, settled: bool) -> Part:
        """Say how this pool stands, and see what part it has; blocks for an answer of the head.

        While the head does not answer, the part stays what it was.

        Args:
            weight: of its jobs with something to do; 0 where there are none.
            settled: whether it has as many workers as its part is.
        """
        self._beat += 1
        line = msgspec.json.encode(_Line(weight, settled, self._beat))
        try:
            internal_kv._internal_kv_put(self._key, line, overwrite=True, namespace=_NAMESPACE)
            keys = internal_kv._internal_kv_list(_PREFIX, namespace=_NAMESPACE)
            lines = {
                key: internal_kv._internal_kv_get(key, namespace=_NAMESPACE)
                for key in keys
                if key != self._key
            }
        except (RaySystemError, RpcError, OSError, RuntimeError):
            return self._part
        self._part = _part(weight, list(_read(self._alive(lines))))
        return self._part

    def leave(self) -> None:
        """Take the line away."""
        self._remove(self._key)

    def _remove(self, key: bytes) -> None:
        with suppress(RaySystemError, RpcError, OSError, RuntimeError):
            internal_kv._internal_kv_del(key, namespace=_NAMESPACE)

    def _alive(self, lines: Mapping[bytes, bytes | None]) -> list[bytes]:
        now = self._clock()
        for key, line in lines.items():
            if line is not None and self._seen.get(key, (b"", 0.0))[0] != line:
                self._seen[key] = line, now
        self._seen = {key: seen for key, seen in self._seen.items() if lines.get(key)}
        gone = [key for key, (_, when) in self._seen.items() if now - when >= GONE_SECONDS]
        for key in gone:
            self._remove(key)
        return [line for key, (line, _) in self._seen.items() if key not in gone]


def _read(lines: Iterable[bytes]) -> Iterator[_Line]:
    for line in lines:
        with suppress(ValueError):  # of another version
            yield msgspec.json.decode(line, type=_Line)


def _part(weight: float, others: Sequence[_Line]) -> Part:
    wanting = [one for one in others if one.weight > 0]
    if not wanting:
        return Part()
    total = weight + sum(one.weight for one in wanting)
    return Part(weight / total, True, all(one.settled for one in wanting))
