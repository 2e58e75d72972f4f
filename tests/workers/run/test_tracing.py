"""Spans of jobs and requests, and those of the workers below them."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from workers.run import tracing
from workers.run.tracing import PACKAGE, carried, span


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What is sent, by a tracer that keeps it."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("test")
    monkeypatch.setattr(tracing, "_tracer", lambda: tracer)
    return kept


@pytest.fixture
def fresh() -> Iterator[None]:
    tracing._tracer.cache_clear()
    yield
    tracing._tracer.cache_clear()


def test_without_a_collector_there_are_no_spans(
    fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in tracing.COLLECTOR:
        monkeypatch.delenv(name, raising=False)
    with span("takestream job", takes=3) as traced:
        traced["ok"] = True
        assert carried() == {}
    tracing.send()


def test_a_collector_without_its_package_is_told(
    fresh: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(
        __import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None
    )
    with caplog.at_level(logging.WARNING), span("takestream job"):
        assert carried() == {}
    assert f"pip install {PACKAGE}" in caplog.text


def test_what_is_carried_makes_a_span_elsewhere_part_of_this_one(
    spans: InMemorySpanExporter,
) -> None:
    with span("takestream job", owner="job", takes=2) as traced:
        headers = carried()
        traced["ok"] = True
    with span("takestream extract", headers, task="t frames 0-31") as traced:
        traced["clips"] = 4.0
    with pytest.raises(ValueError, match="why"), span("takestream request"):
        raise ValueError("why")
    job, unit, request = spans.get_finished_spans()
    assert set(headers) == {"traceparent"}
    assert unit.parent is not None
    assert (unit.parent.span_id, unit.context.trace_id) == (
        job.context.span_id, job.context.trace_id,
    )  # fmt: skip
    assert dict(job.attributes or {}) == {
        "takestream.owner": "job", "takestream.takes": 2, "takestream.ok": True,
    }  # fmt: skip
    assert dict(unit.attributes or {})["takestream.clips"] == 4.0
    assert request.parent is None
    assert request.status.status_code.name == "ERROR"


def names(found: tuple[ReadableSpan, ...]) -> list[str]:
    return [one.name for one in found]


def test_a_request_is_below_its_caller_and_says_no_more_than_its_route(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.api.middleware import _trace_of

    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    scope: dict[str, Any] = {
        "headers": [(b"traceparent", f"00-{trace}-{parent}-01".encode()), (b"x-api-key", b"k")]
    }
    headers = _trace_of(scope)
    assert set(headers) == {"traceparent"}
    with span("takestream request", headers, method="GET"):
        pass
    (request,) = spans.get_finished_spans()
    assert f"{request.context.trace_id:032x}" == trace
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == parent
    assert _trace_of({"headers": [(b"traceparent", b"nonsense")]}) == {"traceparent": "nonsense"}
    with span("takestream request", {"traceparent": "nonsense"}):
        pass
    assert names(spans.get_finished_spans()) == ["takestream request"] * 2
    assert spans.get_finished_spans()[1].parent is None
