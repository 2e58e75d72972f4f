"""Answers that begin before they are complete: lines of JSON, and Arrow record batches."""

import asyncio
import io
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import numpy as np
import pyarrow as pa

from service.api.context import Front
from service.api.problems import Problem
from service.engine.client import EngineBusy
from service.features.compute import Failed
from service.features.encoding import arrow_batch, arrow_schema, encoded, exact
from service.features.request import Plan
from takestream.schema import Reason
from workers.run.tasks import ClipPart

CLIPS_AT_A_TIME = 16


async def ndjson(door: Front, plan: Plan) -> AsyncGenerator[bytes, None]:
    """Lines as clips are ready: first what the store has."""
    async with aclosing(door.answering.parts(plan)) as parts:
        part = await started(parts)
        yield head(plan)
        async for lines in stored_rows(plan):
            yield lines
        try:
            while part is not None:
                yield _rows(part)
                part = await anext(parts, None)
        except (Failed, EngineBusy) as error:
            problem = _problem(error)
            door.metrics.error(problem.kind)
            yield _line({"error": problem.body(None)})
            return
    door.metrics.clips(plan.cached, plan.missing)
    yield tail(plan)


async def arrow(door: Front, plan: Plan) -> AsyncGenerator[bytes, None]:
    """Record batches as clips are ready; without its end mark the stream is torn."""
    schema = arrow_schema(plan.store.store.dim, plan.attributes, plan.clips)
    sink = io.BytesIO()
    async with aclosing(door.answering.parts(plan)) as parts:
        part = await started(parts)
        writer = pa.ipc.new_stream(sink, schema)
        have = np.argwhere(plan.block.have & plan.wanted[:, None])
        if len(have):
            rows, columns = have[:, 0], have[:, 1]
            writer.write_batch(
                arrow_batch(
                    schema,
                    plan.clips,
                    rows,
                    np.array(plan.asked.streams, dtype=object)[columns],
                    plan.block.features[rows, columns],
                    plan.block.reason[rows, columns],
                    plan.block.frame_time[rows, columns],
                    plan.block.valid[rows, columns],
                )
            )
        first = int(plan.clips.clip[0])
        try:
            while part is not None:
                rows = np.arange(len(part.reason)) + part.first - first
                writer.write_batch(
                    arrow_batch(
                        schema,
                        plan.clips,
                        rows,
                        np.full(len(rows), part.stream, dtype=object),
                        part.features,
                        part.reason,
                        part.frame_time,
                        part.reason == Reason.VALID,
                    )
                )
                yield taken(sink)
                part = await anext(parts, None)
        except (Failed, EngineBusy) as error:
            raise _problem(error) from None
        writer.close()
    door.metrics.clips(plan.cached, plan.missing)
    yield taken(sink)


def taken(sink: io.BytesIO) -> bytes:
    """What was written to `sink` since the last time."""
    data = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return data


async def started(parts: AsyncGenerator[ClipPart, None]) -> ClipPart | None:
    """The first part; its errors become problems as long as no answer has begun."""
    try:
        return await anext(parts, None)
    except (Failed, EngineBusy) as error:
        raise _problem(error) from None


def head(plan: Plan) -> bytes:
    """The first line: what will come."""
    streams = list(plan.asked.streams)
    return _line({"attributes": plan.attributes, "stream": streams, **plan.clips.arrays()})


def tail(plan: Plan) -> bytes:
    """The last line: without it the answer is torn."""
    count = int(plan.wanted.sum()) * len(plan.asked.streams)
    return _line({"end": True, "clips": count, "cached": plan.cached, "computed": plan.missing})


async def stored_rows(plan: Plan) -> AsyncGenerator[bytes, None]:
    """Lines of the clips that are known already, some at a time: others want to be served too."""
    block, wanted = plan.block, plan.block.have & plan.wanted[:, None]
    for first in range(0, len(wanted), CLIPS_AT_A_TIME):
        lines = []
        for at, name in enumerate(plan.asked.streams):
            rows = np.flatnonzero(wanted[first : first + CLIPS_AT_A_TIME, at]) + first
            for row in rows.tolist():
                known = slice(row, row + 1)
                part = ClipPart(
                    name,
                    int(plan.clips.clip[row]),
                    block.features[known, at],
                    block.reason[known, at],
                    block.frame_time[known, at],
                )
                lines.append(_rows(part))
        if lines:
            yield b"".join(lines)
        await asyncio.sleep(0)


def _rows(part: ClipPart) -> bytes:
    features = exact(part.features)
    lines = []
    for row, reason in enumerate(part.reason.tolist()):
        valid = reason == Reason.VALID
        lines.append(
            _line(
                {
                    "clip": part.first + row,
                    "stream": part.stream,
                    "valid": valid,
                    "reason": reason,
                    "frame_time": float(part.frame_time[row]),
                    "features": features[row] if valid else None,
                }
            )
        )
    return b"".join(lines)


def _line(value: Mapping[str, Any]) -> bytes:
    return encoded(value) + b"\n"


def _problem(error: Failed | EngineBusy) -> Problem:
    return Problem.of_failure(error.failure) if isinstance(error, Failed) else Problem.of(error)


async def chained(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """`first`, then the rest; closed with it."""
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece
