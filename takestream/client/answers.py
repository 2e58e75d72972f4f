"""What the service answers, as what a training script works with."""

import io
import json
import zipfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import httpx
import numpy as np
from numpy.typing import NDArray

from takestream import schema
from takestream.client.problems import as_object, of_problem, torn, unexpected
from takestream.client.records import Moment, SearchResult
from takestream.protocol import (
    CLIPS_HEADER,
    ENCODER_ID_HEADER,
    NPZ,
    REQUEST_ID_HEADER,
    ClipCounts,
)
from takestream.schema import Reason
from takestream.stores import is_ego

if TYPE_CHECKING:
    import xarray

SEGMENT = "segment"


def dataset(response: httpx.Response, row: str) -> "xarray.Dataset":
    """The Dataset of an npz answer; row: its first dimension, `clip` or `segment`.

    `encoding` says what the answer cost: clips_cached and clips_computed (clip × stream),
    encoder_id, request_id. Raises TornAnswer, UnexpectedAnswer.
    """
    import xarray

    arrays = _arrays(response)
    try:
        attributes = json.loads(str(arrays.pop("attributes", "{}")))
        names = arrays[schema.STREAM]
        shape = arrays[schema.FEATURES].shape
        if len(shape) != 3 or shape[1] != len(names) or not isinstance(attributes, dict):
            raise ValueError(f"features {shape} of {len(names)} streams")
        data: dict[str, Any] = {}
        coordinates: dict[str, Any] = {}
        for name, values in arrays.items():
            spec = schema.SPECS.get(name)
            described = _described(name) if row == schema.CLIP else {}
            if spec is not None and not spec.coordinate:
                data[name] = ((row, *spec.dims[1:]), values, described)
            elif name == schema.STREAM:
                coordinates[name] = (schema.STREAM, values.astype(str), described)
                worn = [is_ego(attributes, str(stream)) for stream in values]
                about = dict(schema.EGO_FLAG)
                coordinates[schema.IS_EGO] = (schema.STREAM, np.array(worn, dtype=bool), about)
            elif values.shape == shape[:1]:
                coordinates[name] = (row, values, described)
        found = xarray.Dataset(data, coordinates, attributes)
    except (KeyError, ValueError) as error:
        raise unexpected(response, f"arrays that do not fit together ({error})") from error
    found.encoding.update(_cost(response))
    return found


def _described(name: str) -> dict[str, Any]:
    """The attributes of a column, as a store has them."""
    if name == schema.CLIP:
        return dict(schema.CLIP_NUMBER)
    return schema.SPECS[name].attributes if name in schema.SPECS else {}


def _arrays(response: httpx.Response) -> dict[str, NDArray[Any]]:
    kind = response.headers.get("content-type", "no type")
    if not kind.startswith(NPZ):
        raise unexpected(response, f"{kind} instead of npz")
    try:
        # Never with allow_pickle: an answer must not be able to run anything.
        with np.load(io.BytesIO(response.content), allow_pickle=False) as file:
            return {name: np.asarray(file[name]) for name in file.files}
    except zipfile.BadZipFile as error:
        raise torn(response, error) from error
    except (ValueError, OSError, EOFError, AttributeError, TypeError, KeyError) as error:
        raise unexpected(response, f"no npz of plain arrays ({error})") from error


def _cost(response: httpx.Response) -> dict[str, Any]:
    """{clips_cached, clips_computed, encoder_id, request_id} as far as the headers say."""
    headers = response.headers
    counts = ClipCounts.of_header(headers.get(CLIPS_HEADER, ""))
    known = {"clips_cached": counts.cached, "clips_computed": counts.computed}
    cost: dict[str, Any] = {name: count for name, count in known.items() if count is not None}
    for key, header in (("encoder_id", ENCODER_ID_HEADER), ("request_id", REQUEST_ID_HEADER)):
        if header in headers:
            cost[key] = headers[header]
    return cost


@dataclass(frozen=True)
class ClipFeatures:
    """One clip of one stream.

    Attributes:
        clip: Its number in the take.
        stream: Which stream it is of.
        start_time: Seconds on the take's clock; likewise `end_time`.
        frame_time: PTS of its first frame in seconds from the stream's start, None if it has none.
        features: float32 [D], None where the clip is invalid.
        reason: Why it is invalid.
    """

    clip: int
    stream: str
    start_time: float
    end_time: float
    frame_time: float | None
    valid: bool
    reason: Reason | int
    features: NDArray[np.float32] | None


class FeatureStream:
    """Clips as they become ready, in no promised order: iterate over it, once.

    Attributes:
        attributes: take, grid, encoder, provenance, problems, as in a store.
        streams: Names of the streams that will come.
        clips: Numbers of the clips that will come.
        cached: Clips × streams that the service had; known at the end, as is `computed`.

    Raises:
        TornAnswer: By iterating, when not everything came; or the service's own error. Nothing is
            tried again then: what came is good, and asking anew finds it in the store.
    """

    def __init__(
        self, response: httpx.Response, rows: Iterator[bytes], resources: ExitStack
    ) -> None:
        self._response, self._rows = response, rows
        head = self._parsed(next(rows, b""))
        try:
            self.attributes: dict[str, Any] = dict(head["attributes"])
            self.streams = [str(name) for name in head[schema.STREAM]]
            self.clips = [int(number) for number in head[schema.CLIP]]
            times = zip(head[schema.START_TIME], head[schema.END_TIME], strict=True)
            self._times = dict(zip(self.clips, times, strict=True))
        except (KeyError, TypeError, ValueError) as error:
            raise unexpected(response, f"a first line that is none ({error})") from error
        self.cached: int | None = None
        self.computed: int | None = None
        self._iterator = self._read()
        # From here on this object closes what its maker opened.
        self._resources = resources.pop_all()

    def __iter__(self) -> Iterator[ClipFeatures]:
        return self._iterator

    def __next__(self) -> ClipFeatures:
        return next(self._iterator)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the rest: what was not computed yet need not be."""
        self._iterator.close()
        self._resources.close()

    def _read(self) -> Generator[ClipFeatures, None, None]:
        due = {(clip, stream) for clip in self.clips for stream in self.streams}
        with self._resources:
            for line in self._rows:
                row = self._parsed(line)
                if "end" in row:
                    if due:
                        raise torn(self._response, f"{len(due)} clips × streams never came")
                    self.cached, self.computed = row.get("cached"), row.get("computed")
                    return
                try:
                    found = self._clip(row)
                    due.discard((found.clip, found.stream))
                except (KeyError, TypeError, ValueError) as error:
                    raise unexpected(self._response, f"a line that is none ({error!r})") from error
                yield found
        raise torn(self._response, "the last line is missing")

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except ValueError as error:
            raise torn(self._response, f"half a line, {line[-40:]!r}") from error
        if not isinstance(row, dict):
            raise unexpected(self._response, "a line that is no JSON object")
        problem = row.get("error")
        if problem is not None:
            problem = problem if isinstance(problem, dict) else {"detail": str(problem)}
            status = problem.get("status")
            raise of_problem(
                problem,
                status=status if isinstance(status, int) else 500,
                otherwise="the service stopped in the middle and did not say why",
            )
        return row

    def _clip(self, row: dict[str, Any]) -> ClipFeatures:
        clip, values, reason = int(row[schema.CLIP]), row[schema.FEATURES], int(row[schema.REASON])
        start, end = self._times[clip]
        return ClipFeatures(
            clip=clip,
            stream=str(row[schema.STREAM]),
            start_time=start,
            end_time=end,
            frame_time=row[schema.FRAME_TIME],
            valid=bool(row[schema.VALID]),
            # A later service may know more reasons.
            reason=Reason(reason) if reason in list(Reason) else reason,
            features=None if values is None else np.asarray(values, dtype=np.float32),
        )


def search_result(response: httpx.Response) -> SearchResult:
    """The answer to a search. Raises UnexpectedAnswer."""
    answer = as_object(response)
    try:
        return SearchResult(
            str(answer["encoder_id"]),
            dict(answer.get("query") or {}),
            {
                entry["stream"]: [
                    Moment(
                        entry["stream"],
                        int(moment["clip"]),
                        float(moment["start_time"]),
                        float(moment["end_time"]),
                        float(moment["score"]),
                    )
                    for moment in entry["moments"]
                ]
                for entry in answer["streams"]
            },
        )
    except (KeyError, TypeError, ValueError) as error:
        raise unexpected(response, f"no result of a search ({error!r})") from error
