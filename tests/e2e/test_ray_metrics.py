"""What a batch job shows at the metrics endpoints of the Ray nodes that it runs on."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
import requests
from ray.cluster_utils import Cluster

from configs.load import load_job
from service.jobs.choose import choose
from tests.support.clusters import raylets, run
from workers.run.metrics import COUNTS, GAUGES
from workers.run.pool import Pool
from workers.run.report import Progress

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SERIES = re.compile(r"^ray_(takestream_\w+)\{(.*)\} (\S+)$", re.MULTILINE)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("RAY_metrics_report_interval_ms", "1000")
    with raylets(monkeypatch) as cluster:
        cluster.add_node(num_cpus=1)
        cluster.add_node(num_cpus=1)
        yield cluster


def shown(endpoints: list[str]) -> list[tuple[str, str, float]]:
    """Name, labels and value of all series of ours."""
    text = "\n".join(requests.get(one, timeout=10).text for one in endpoints)
    return [(name, labels, float(value)) for name, labels, value in SERIES.findall(text)]


def test_a_batch_job_shows_the_names_that_a_service_has(
    cluster: Cluster,
    make_video: Callable[..., Path],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
) -> None:
    broken = tmp_path / "no video"
    broken.write_bytes(b"no video")
    # The first take, as what is counted last may not be sent before its process ends.
    takes = {"0": {"cam01_0": broken}} | {
        name: {"cam01_0": make_video(frames=320, seed=n), "cam02_0": make_video(frames=320, seed=9)}
        for n, name in enumerate("abc")
    }
    settings = {
        "dataset": str(make_dataset(takes)), "output": str(tmp_path / "features"),
        "store": {"unit_frames": 32}, "run": {"address": cluster.address, "device": "cpu"},
    }  # fmt: skip
    seen: list[list[tuple[str, str, float]]] = []
    endpoints: list[str] = []

    def happens(pool: Pool, progress: Progress) -> None:
        if not endpoints:
            endpoints.extend(
                f"http://{one['NodeManagerAddress']}:{one['MetricsExportPort']}/metrics"
                for one in ray.nodes()
            )
        seen.append(shown(endpoints))

    report = run(choose(load_job(None, settings)), happens)
    assert report.progress.units_done == 30
    assert len(endpoints) == 3
    names = {name for some in seen for name, _, _ in some}
    known = {metric for metric, _ in (*COUNTS.values(), *GAUGES.values())}
    assert names - known == {"takestream_errors_total"}
    assert names >= {
        metric for count, (metric, _) in COUNTS.items() if report.progress.counts.get(count)
    } - {"takestream_workers_lost_total"}
    last = seen[-1]
    values = Counter[str]()
    for name, _, value in last:
        values[name] += value
    assert values["takestream_jobs"] == 1
    assert values["takestream_workers"] == values["takestream_workers_alive"] == 2
    # A worker's last second may not have been shown yet.
    counts = report.progress.counts
    assert counts["clips"] / 2 < values["takestream_clips_total"] <= counts["clips"]
    assert values["takestream_source_bytes_total"] <= counts["bytes_read"]
    # Each worker by itself, where it is.
    of_clips = {labels for name, labels, _ in last if name == "takestream_clips_total"}
    assert len(of_clips) == 2
    assert all("WorkerId=" in labels and "SessionName=" in labels for labels in of_clips)
    (error,) = {labels for name, labels, _ in last if name == "takestream_errors_total"}
    assert re.search(r'kind="\w+"', error)
    # What a driver shows of itself goes with it.
    deadline = time.monotonic() + 90
    while any(name == "takestream_jobs" for name, _, _ in shown(endpoints)):
        assert time.monotonic() < deadline
        time.sleep(1)
