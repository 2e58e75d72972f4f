"""Alerts and dashboard: by Prometheus's own tool, and every name against what the service gives."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.api.metrics import Metrics
from workers.run.metrics import COUNTS, ERRORS, GAUGES, KEYS_LEFT

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy/monitoring"
GROUPS = yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]


def given() -> set[str]:
    """The names of all series that the service gives, and batch jobs at Ray's endpoint."""
    metrics = Metrics()
    metrics.request({"method": "GET", "path": "/"}, {"problem": "absent"}, 200, 0.1, 1)
    metrics.clips(1, 1)
    status: dict[str, Any] = dict.fromkeys(("workers", "workers_alive", "queue", "jobs"), 1)
    text = metrics.text({**status, "counts": dict.fromkeys(COUNTS, 1), "keys_seconds_left": 60.0})
    of_jobs = {f"ray_{name}" for name, _ in (*COUNTS.values(), *GAUGES.values(), ERRORS, KEYS_LEFT)}
    return of_jobs.union(re.findall(r"^(takestream_\w+)", text.decode(), re.MULTILINE))


def asked() -> Iterator[tuple[str, str]]:
    """Where a series is asked for, and its name."""
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    places = [(rule["alert"], rule["expr"]) for rule in RULES]
    places += [(p["title"], t["expr"]) for p in dashboard["panels"] for t in p["targets"]]
    for where, expression in places:
        for name in re.findall(r"(?:ray_)?takestream_\w+", expression):
            yield where, name


def test_alerts_and_dashboard_ask_for_what_there_is() -> None:
    there, wanted = given(), list(asked())
    assert len(wanted) > 20
    assert [(where, name) for where, name in wanted if name not in there] == []


def test_the_runbook_has_a_section_for_each_alert() -> None:
    runbook = (ROOT / "docs/howto/runbook.md").read_text()
    for rule in RULES:
        section = rule["alert"].replace("Batch", "")
        assert f"## {section}\n" in runbook
        assert rule["annotations"]["runbook"].endswith(f"#{section.lower()}")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)")
def test_the_alerts_fire_and_keep_quiet() -> None:
    for words in (["check", "rules", "rules.yaml"], ["test", "rules", "rules.test.yaml"]):
        run = subprocess.run(
            ["promtool", *words], cwd=MONITORING, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stdout + run.stderr
    tested = yaml.safe_load((MONITORING / "rules.test.yaml").read_text())["tests"]
    fired = {
        one["alertname"] for t in tested for one in t["alert_rule_test"] if "exp_alerts" in one
    }
    assert fired == {rule["alert"] for rule in RULES}
