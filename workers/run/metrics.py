"""Names of metrics: of a service's `/metrics`, and of Ray's endpoint on each machine of a cluster.

Ray puts `ray_` in front of them, and labels that say which machine and which process.
"""

from collections.abc import Mapping
from typing import Any

COUNTS: Mapping[str, tuple[str, str]] = {
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
"""By count of a worker or a pool, the metric's name and help."""

GAUGES: Mapping[str, tuple[str, str]] = {
    "workers": ("takestream_workers", "Workers there should be"),
    "workers_alive": ("takestream_workers_alive", "Workers alive"),
    "queue": ("takestream_queue", "Windows that wait for a worker"),
    "jobs": ("takestream_jobs", "Jobs that have not ended"),
}
"""By number that a pool or an engine states, the metric's name and help."""

ERRORS = ("takestream_errors_total", "Errors by kind")
KEYS_LEFT = (
    "takestream_keys_seconds_left",
    "Seconds until the keys of the data set end, where that is known",
)


class RayMetrics:
    """What this process has at the metrics endpoint of its machine's Ray.

    What is shown of counts is shown while the process lives and after it; gauges go with it.
    """

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}
        self._shown: dict[str, float] = {}

    def counts(self, total: Mapping[str, float]) -> None:
        """Show counts.

        Args:
            total: by name in `COUNTS`, all so far; they never get less. Others are left out.
        """
        from ray.util.metrics import Counter

        for name in COUNTS.keys() & total.keys():
            more = total[name] - self._shown.get(name, 0.0)
            if more > 0:
                self._shown[name] = total[name]
                self._metric(Counter, *COUNTS[name]).inc(more)

    def gauges(self, now: Mapping[str, float]) -> None:
        """Show numbers as they are now, by name in `GAUGES`."""
        from ray.util.metrics import Gauge

        for name, value in now.items():
            self._metric(Gauge, *GAUGES[name]).set(value)

    def keys(self, seconds_left: float) -> None:
        """Show for how long the keys of the data set live."""
        from ray.util.metrics import Gauge

        self._metric(Gauge, *KEYS_LEFT).set(seconds_left)

    def error(self, kind: str) -> None:
        """Count an error."""
        from ray.util.metrics import Counter

        self._metric(Counter, *ERRORS, tag_keys=("kind",)).inc(1, tags={"kind": kind})

    def _metric(self, make: Any, name: str, words: str, **more: Any) -> Any:
        if name not in self._made:
            self._made[name] = make(name, words, **more)
        return self._made[name]
