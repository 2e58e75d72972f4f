"""How tests are shared out to the processes of `pytest -n`."""

import os
from typing import Any

import pytest

# Called outside a session, most of Ray's functions would start one in the process of the tests, and
# what comes later would join it.
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    # Before torch and numpy are loaded: threads of all processes that wait for each other by
    # spinning take the cores from those that work.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file stays in one process, for its fixtures; all that start Ray in one, for the cores."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "e2e" if file.startswith("tests/e2e/") else file

    return ByFile(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Any:
    """What tests wrote goes to the first process as UTF-8: half characters by their numbers."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report
