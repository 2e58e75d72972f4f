"""Prometheus metrics, and the access log: one line of JSON per request."""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
# Counts of the workers → the metric's name and help.
COUNTS = {
    "clips": ("takestream_clips_total", "Clips encoded, counted per stream"),
    "bytes_read": ("takestream_source_bytes_total", "Bytes read from the data set"),
    "bytes_written": ("takestream_store_bytes_total", "Bytes written to stores"),
    "requests": ("takestream_source_requests_total", "Requests to the data set's storage"),
    "retries": ("takestream_source_retries_total", "Requests to it that were tried again"),
    "frames_decoded": ("takestream_frames_decoded_total", "Frames decoded"),
    "frames_decoded_gpu": ("takestream_frames_decoded_gpu_total", "Of them, by NVDEC"),
    "nvdec_given_up": (
        "takestream_nvdec_given_up_total",
        "Decoder runs that NVDEC began and the CPU went on with",
    ),
    "decode_errors": ("takestream_decode_errors_total", "Packets that did not decode"),
    **{
        f"{name}_seconds": (
            f"takestream_{name}_seconds_total",
            f"Seconds of all threads {words}; the stages of a unit overlap",
        )
        for name, words in (
            ("read", "that waited for bytes"),
            ("decode", "that decoded"),
            ("convert", "that made pictures of frames"),
            ("write", "that wrote to stores"),
        )
    },
    "encode_seconds": (
        "takestream_encode_seconds_total",
        "Seconds the encoders were busy, of all workers: its rate by takestream_workers is the use "
        "of their GPUs (or CPUs)",
    ),
    "workers_lost": ("takestream_workers_lost_total", "Workers that died or hung"),
    "units_quarantined": (
        "takestream_units_quarantined_total",
        "Units, or single streams of one, that were left out because they took workers down",
    ),
}
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
        self._errors = Counter("takestream_errors_total", "Errors by kind", ["kind"], registry=r)
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
            for name, words in (
                ("workers", "Workers there should be"),
                ("workers_alive", "Workers alive"),
                ("queue", "Windows that wait for a worker"),
                ("jobs", "Jobs that have not ended"),
            ):
                Gauge(f"takestream_{name}", words, registry=once).set(status[name])
            if (left := status["keys_seconds_left"]) is not None:
                words = "Seconds until the keys of the data set end, where that is known"
                Gauge("takestream_keys_seconds_left", words, registry=once).set(left)
            for name, (metric, words) in COUNTS.items():
                counter = Counter(metric, words, registry=once)
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
