"""Prometheus metrics, and the access log: one line of JSON per request."""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from workers.run.metrics import COUNTS, ERRORS, GAUGES, KEYS_LEFT

BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
# Clients can make up methods, and each would be a series.
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
log = logging.getLogger("takestream.access")


class Metrics:
    """Counters of one replica."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self._requests = Counter(
            "takestream_requests_total", "Requests", ["route", "method", "status"], registry=r
        )
        self._seconds = Histogram(
            "takestream_request_seconds", "Time to the end of an answer", ["route"],
            buckets=BUCKETS, registry=r,
        )  # fmt: skip
        self._bytes = Counter("takestream_answer_bytes_total", "Bytes answered", registry=r)
        self._errors = Counter(*ERRORS, ["kind"], registry=r)
        self._cached = Counter("takestream_clips_cached_total", "Clips from stores", registry=r)
        self._computed = Counter(
            "takestream_clips_computed_total", "Clips computed on demand", registry=r
        )

    def request(
        self, scope: Mapping[str, Any], state: Mapping[str, Any], status: int, seconds: float,
        size: int,
    ) -> None:  # fmt: skip
        """Count and log one request that ended."""
        # Never the path itself: clients can make up paths, and each would be a series.
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._requests.labels(route, method, status).inc()
        self._seconds.labels(route).observe(seconds)
        self._bytes.inc(size)
        if kind := state.get("problem"):
            self.error(kind)
        log.info(
            "%s",
            json.dumps(
                {
                    "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                    "request_id": state.get("request_id"),
                    "caller": state.get("caller") or None,
                    "method": scope["method"],
                    # Without the query: it may carry a token.
                    "path": scope["path"][:200],
                    "status": status,
                    "ms": round(seconds * 1000, 1),
                    "bytes": size,
                    "problem": state.get("problem"),
                }
            ),
        )

    def error(self, kind: str) -> None:
        """Count an error; for those that an answer tells of after it has begun."""
        self._errors.labels(kind).inc()

    def clips(self, cached: int, computed: int) -> None:
        """Count where the clips of an answer came from."""
        self._cached.inc(cached)
        self._computed.inc(computed)

    def text(self, status: Mapping[str, Any] | None) -> bytes:
        """Everything, with the engine's numbers when it answers."""
        found = generate_latest(self.registry)
        once = CollectorRegistry()
        up = Gauge("takestream_engine_up", "Whether the engine answers", registry=once)
        up.set(status is not None)
        if status is not None:
            for name, metric in GAUGES.items():
                Gauge(*metric, registry=once).set(status[name])
            if (left := status["keys_seconds_left"]) is not None:
                Gauge(*KEYS_LEFT, registry=once).set(left)
            for name, metric in COUNTS.items():
                counter = Counter(*metric, registry=once)
                counter.inc(status["counts"].get(name, 0))
        return found + generate_latest(once)


def log_to_stderr() -> None:
    """The access log as lines of JSON on stderr, which Ray keeps with its logs."""
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
