"""OpenTelemetry spans, where the environment names a collector; nothing at all where it does not.

`OTEL_EXPORTER_OTLP_ENDPOINT` (or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) names it, and the other
variables of OpenTelemetry work as it documents them. A span of a request or a job is carried by its
tasks, so that those of the workers are below it, whatever machine they are on.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from types import MappingProxyType
from typing import Any

log = logging.getLogger(__name__)

COLLECTOR = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PACKAGE = "opentelemetry-exporter-otlp-proto-http"
NOTHING: Mapping[str, str] = MappingProxyType({})


@lru_cache(maxsize=1)
def _tracer() -> Any:
    """What makes this process's spans; None where no collector is named, or none can be told."""
    if not any(os.environ.get(name) for name in COLLECTOR):
        return None
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        log.warning("a collector of spans is named, but none are sent: pip install %s", PACKAGE)
        return None
    name = os.environ.get("OTEL_SERVICE_NAME", "takestream")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider.get_tracer("takestream")


def carried() -> dict[str, str]:
    """The span that is open here, as W3C headers that travel with a task; empty without one."""
    found: dict[str, str] = {}
    if _tracer() is not None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(found)
    return found


@contextmanager
def span(
    name: str, below: Mapping[str, str] = NOTHING, **attributes: str | int | float
) -> Iterator[dict[str, Any]]:
    """A span around what is done in the block.

    Args:
        name: what is done.
        below: the span that it is part of, as `carried` gives it, or a request's headers; without
            it, the one that is open here.
        attributes: what is known of it.

    Yields:
        A mapping whose entries become attributes at its end.
    """
    more: dict[str, Any] = {}
    tracer = _tracer()
    if tracer is None:
        yield more
        return
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract(below) if below else None
    named = {f"takestream.{key}": value for key, value in attributes.items()}
    with tracer.start_as_current_span(name, context, attributes=named) as one:
        try:
            yield more
        finally:
            one.set_attributes({f"takestream.{key}": value for key, value in more.items()})


def send() -> None:
    """Send what this process has not sent yet, as a process that is ended sends nothing more."""
    if (tracer := _tracer()) is not None:
        tracer.span_processor.force_flush(3000)
