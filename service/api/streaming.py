"""Answers that are sent while they are computed: lines of JSON, and Arrow record batches."""

import asyncio
import io
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import numpy as np
import pyarrow as pa

from service.api.context import ApiContext
from service.api.problems import Problem
from service.features.encoding import arrow_batch, arrow_schema, encoded, exact
from service.features.request import FeaturePlan
from takestream.errors import TakestreamError
from takestream.schema import Reason
from workers.run.tasks import ClipPart

CLIPS_AT_A_TIME = 16


async def ndjson(context: ApiContext, plan: FeaturePlan) -> AsyncGenerator[bytes, None]:
    """Lines of JSON: a head, the clips that are known, the others as they are computed, a tail."""
    async with aclosing(context.features.parts(plan)) as parts:
        part = await anext(parts, None)
        yield head(plan)
        async for lines in stored_rows(plan):
            yield lines
        try:
            while part is not None:
                yield _rows(part)
                part = await anext(parts, None)
        except TakestreamError as error:  # the status has been sent: a line says what is wrong
            problem = Problem.of(error)
            context.metrics.error(problem.kind)
            yield _line({"error": problem.body(None)})
            return
    context.metrics.clips(plan.cached, plan.missing)
    yield tail(plan)


async def arrow(context: ApiContext, plan: FeaturePlan) -> AsyncGenerator[bytes, None]:
    """Arrow record batches, as `ndjson`; without the end mark of Arrow the answer is torn."""
    schema = arrow_schema(plan.store.store.dim, plan.attributes, plan.clips)
    sink = io.BytesIO()
    async with aclosing(context.features.parts(plan)) as parts:
        part = await anext(parts, None)
        writer = pa.ipc.new_stream(sink, schema)
        have = np.argwhere(plan.block.have & plan.wanted[:, None])
        if len(have):
            rows, columns = have[:, 0], have[:, 1]
            writer.write_batch(
                arrow_batch(
                    schema,
                    plan.clips,
                    rows,
                    np.array(plan.request.streams, dtype=object)[columns],
                    plan.block.features[rows, columns],
                    plan.block.reason[rows, columns],
                    plan.block.frame_time[rows, columns],
                    plan.block.valid[rows, columns],
                )
            )
        first = int(plan.clips.clip[0])
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
        writer.close()
    context.metrics.clips(plan.cached, plan.missing)
    yield taken(sink)


def taken(sink: io.BytesIO) -> bytes:
    """The bytes that were written to `sink` since the last call."""
    data = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return data


def head(plan: FeaturePlan) -> bytes:
    """The first line: attributes, streams and clips."""
    streams = list(plan.request.streams)
    return _line({"attributes": plan.attributes, "stream": streams, **plan.clips.arrays()})


def tail(plan: FeaturePlan) -> bytes:
    """The last line; an answer without it is torn."""
    count = int(plan.wanted.sum()) * len(plan.request.streams)
    return _line({"end": True, "clips": count, "cached": plan.cached, "computed": plan.missing})


async def stored_rows(plan: FeaturePlan) -> AsyncGenerator[bytes, None]:
    """Lines of the clips that are known, with a pause for other requests after every few."""
    block, wanted = plan.block, plan.block.have & plan.wanted[:, None]
    for first in range(0, len(wanted), CLIPS_AT_A_TIME):
        lines = []
        for at, name in enumerate(plan.request.streams):
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


async def chained(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """`first`, then the rest; closing this closes the rest."""
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece
