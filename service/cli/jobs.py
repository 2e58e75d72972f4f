"""`submit`, `jobs`, `logs`, `stop`: jobs on a Ray cluster or a takestream service.

Where the jobs are: `--url` (TAKESTREAM_URL, with the key in TAKESTREAM_API_KEY) is a service,
`--address` (RAY_API_SERVER_ADDRESS, RAY_ADDRESS) the dashboard of a cluster, and `--output` alone
the records of an output. Every command function returns the exit code.
"""

import os
import shlex
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from configs.load import SettingsError
from configs.schema import in_full
from service.cli.flags import overrides
from service.jobs.backends import (
    Backend,
    Facts,
    HttpBackend,
    RayBackend,
    RecordsBackend,
    Watch,
    pauses,
)
from service.jobs.records import ENDED, Records, is_short_id, whole_id
from service.report.console import print_json
from service.report.table import Row, print_rows
from takestream.protocol import JOBS_PER_PAGE, clips_of
from takestream.storage import S3Options

# A job that is told to stop is gone after this, by force if need be.
STOP_SECONDS = 90.0
_TELL_SECONDS, WATCH_SECONDS = 15.0, 2.0

HEADINGS = ("job", "status", "submitted", "takes", "clips", "encoder", "data set", "error")
# What a narrow terminal goes without, the first one first.
SPARE = ("data set", "encoder", "submitted", "takes")


def submit(found: Namespace) -> int:
    """Launch a job elsewhere; its id on stdout, what to do next on stderr."""
    backend, words = _backend(found)
    # The job's own address is for `extract`; here it is where the job goes.
    given = overrides(Namespace(**{**vars(found), "address": None}))
    facts = backend.submit(found.job, given)
    job_id = facts["job_id"]
    if not (found.json and found.wait):
        print_json(facts) if found.json else print(job_id, flush=True)
    if not found.wait:
        if not found.json:
            for command in ("jobs", "logs --follow", "stop"):
                name, _, flag = command.partition(" ")
                said = shlex.join(filter(None, ("takestream", name, job_id, flag, *words)))
                print(f"  {said}", file=sys.stderr)
        return 0
    try:
        facts = _wait(backend, facts, _teller())
    except KeyboardInterrupt:
        stop_it = shlex.join(["takestream", "stop", job_id, *words])
        print(f"\ntakestream: the job goes on; {stop_it} stops it", file=sys.stderr)
        return 130
    if found.json:
        print_json(facts)
    elif facts["status"] != "succeeded":
        print(f"{facts['status']}: {facts['error'] or 'submit it again to go on'}", file=sys.stderr)
    return {"succeeded": 0, "stopped": 130}.get(facts["status"], 1)


def jobs(found: Namespace) -> int:
    """List jobs, or show one."""
    backend, words = _backend(found)
    if found.watch:
        return _watch(backend, found)
    if found.job_id:
        facts = backend.job(_whole(backend, found.job_id))
        print_json(facts) if found.json else _print_job(facts, words)
        return 0
    listed = backend.list(found.limit)
    if found.json:
        print_json(listed)
        return 0
    if not listed:
        print("no jobs", file=sys.stderr)
        return 0
    short = found.form == "table" and sys.stdout.isatty()
    print_rows(HEADINGS, _rows(listed, short=short), form=found.form, spare=SPARE)
    return 0


def _rows(listed: Sequence[Facts], *, short: bool) -> list[Row]:
    """A row for each job; `short` cuts its id to the last part where that is enough."""
    ids = [facts["job_id"] for facts in listed]
    ends = [one.split("-")[-1] for one in ids]
    rows: list[Row] = []
    for facts, end in zip(listed, ends, strict=True):
        takes, clips = _progress(facts)
        rows.append((
            end if short and ends.count(end) == 1 else facts["job_id"], facts["status"],
            _clock(facts["submitted_at"]), takes, clips, _encoder(facts),
            str(facts["spec"].get("dataset", "")), _short(facts["error"] or ""),
        ))  # fmt: skip
    return rows


def _watch(backend: Backend, found: Namespace) -> int:
    """Show how jobs stand until all shown have ended, or until interrupted."""
    if found.job_id:
        job_id = _whole(backend, found.job_id)
        facts = _wait(backend, backend.job(job_id), _teller(WATCH_SECONDS))
        print_json(facts) if found.json else _print_job(facts, ())
        return {"succeeded": 0, "stopped": 130}.get(facts["status"], 1)
    shown: dict[str, tuple[str, str, str]] = {}
    for _ in pauses():
        listed = backend.list(found.limit)
        if not listed:
            print("no jobs", file=sys.stderr)
        for facts in reversed(listed):
            takes, clips = _progress(facts)
            now = (facts["status"], takes, clips)
            # What had ended before is no news.
            if shown.get(facts["job_id"]) != now and (shown or facts["status"] not in ENDED):
                print(_standing(facts), flush=True)
            shown[facts["job_id"]] = now
        if all(facts["status"] in ENDED for facts in listed):
            return 0
        time.sleep(WATCH_SECONDS)
    return 0


def logs(found: Namespace) -> int:
    """What a job said; with `--follow` until it ends."""
    if found.follow and found.json:
        raise SettingsError("--follow shows a log as it grows; --json waits for all of it")
    backend, _ = _backend(found)
    job_id = _whole(backend, found.job_id)

    def write(text: str) -> None:
        print(text, end="", flush=True)

    if found.follow:
        backend.follow(job_id, write)
    elif found.json:
        print_json({"job_id": job_id, "log": backend.logs(job_id)})
    else:
        write(backend.logs(job_id))
    return 0


def stop(found: Namespace) -> int:
    """Stop a job and wait until it has; what it wrote is kept."""
    backend, _ = _backend(found)
    facts = backend.stop(_whole(backend, found.job_id))
    if facts["status"] not in ENDED:
        print("stopping …", file=sys.stderr, flush=True)
        facts = _wait(backend, facts, lambda facts: None, STOP_SECONDS)
    if found.json:
        print_json(facts)
    elif facts["status"] in ("succeeded", "failed"):
        print(f"nothing to stop: it had ended already, {facts['status']}")
    else:
        clips = clips_of(facts.get("progress"))
        many = f": {clips[0]:,} of {clips[1]:,} clips are written" if clips else ""
        print(f"{facts['status']}{many}")
    return 0 if facts["status"] in ENDED else 1


def perform(found: Namespace) -> int:
    """What a cluster runs for a submitted job; nobody types it."""
    from service.jobs.driver import run_job_record

    return run_job_record(found.job_id, found.output, _s3(found)).exit_code


def _backend(found: Namespace) -> tuple[Backend, list[str]]:
    """Where the jobs are, and the flags that say so again. Raises SettingsError, ClusterError."""
    given_output = None if found.command == "submit" else found.output
    if found.url and found.address:
        raise SettingsError("--url is a takestream service and --address a Ray cluster: give one")
    if given_output and not found.url and not found.address:
        s3 = _s3(found)
        words = ["--output", given_output]
        for flag, value in (("--s3-profile", s3.profile), ("--endpoint-url", s3.endpoint_url)):
            words += [flag, value] if value else []
        return RecordsBackend(given_output, s3), words
    if found.url or (not found.address and os.environ.get("TAKESTREAM_URL")):
        url = found.url or os.environ["TAKESTREAM_URL"]
        return HttpBackend(url), ["--url", found.url] if found.url else []
    address = found.address or _from_environment()
    if not address:
        also = "" if found.command == "submit" else ", or --output URI (the records of an output)"
        raise SettingsError(
            "where? --address http://head:8265 (a Ray cluster's dashboard; or RAY_ADDRESS), or "
            f"--url http://host:8000 (a takestream service; or TAKESTREAM_URL){also}"
        )
    records = Records(given_output, _s3(found)) if given_output else None
    backend = RayBackend(address, records, working_dir=not getattr(found, "no_working_dir", False))
    return backend, ["--address", found.address] if found.address else []


def _whole(backend: Backend, given: str) -> str:
    """The id that `given` is short for. Raises Unknown."""
    if not is_short_id(given):
        return given
    return whole_id(given, [facts["job_id"] for facts in backend.list(JOBS_PER_PAGE)])


def _wait(
    backend: Backend, facts: Facts, tell: Callable[[Facts], None], seconds: float | None = None
) -> Facts:
    """Wait until a job ends, for so long at most; how it stands then. Raises WatchTimeout."""
    until = float("inf") if seconds is None else time.monotonic() + seconds
    job_id = facts["job_id"]
    watch, pause = Watch(job_id), pauses()
    facts = watch.ask(lambda: backend.job(job_id)) or facts
    while facts["status"] not in ENDED and time.monotonic() < until:
        tell(facts)
        time.sleep(next(pause))
        facts = watch.ask(lambda: backend.job(job_id)) or facts
    tell(facts)
    return facts


def _teller(seconds: float = _TELL_SECONDS) -> Callable[[Facts], None]:
    """One line on stderr for each change of status, and for progress every so many seconds."""
    last: list[Any] = [None, 0.0, None]

    def tell(facts: Facts) -> None:
        takes, clips = _progress(facts)
        news = (takes, clips)
        due = time.monotonic() - last[1] >= seconds and news != last[2]
        if facts["status"] != last[0] or due:
            print(_standing(facts), file=sys.stderr, flush=True)
            last[:] = facts["status"], time.monotonic(), news

    return tell


def _print_job(facts: Facts, words: Sequence[str]) -> None:
    takes, clips = _progress(facts)
    lines = {
        "job": facts["job_id"], "status": facts["status"],
        "submitted": _clock(facts["submitted_at"])
        + (f" by {facts['submitted_by']}" if facts["submitted_by"] else ""),
        "started": _clock(facts["started_at"]), "ended": _clock(facts["finished_at"]),
        "data set": facts["spec"].get("dataset"), "output": facts["spec"].get("output"),
        "encoder": _encoder(facts), "takes": takes, "clips": clips,
        **{name.replace("_", " "): words for name, words in _pace(facts).items()},
        "error": facts["error"],
    }  # fmt: skip
    for name, value in lines.items():
        if value:
            print(f"{name:<10} {value}")
    for failure in facts["failures"][:20]:
        where = " ".join(filter(None, (failure.get("take"), failure.get("stream"))))
        print(f"  {where}: {failure.get('reason')}")
    if (more := len(facts["failures"]) - 20) > 0:
        print(f"  … and {more} more")
    if facts["status"] in ("failed", "stopped"):
        said = shlex.join(["takestream", "logs", facts["job_id"], *words])
        print(f"{said}  shows more; submit the job again to go on", file=sys.stderr)


def _progress(facts: Facts) -> tuple[str, str]:
    """Takes complete of all; clips reached of those asked for, counted per stream."""
    progress, far = facts["progress"], clips_of(facts["progress"])
    if not progress or far is None:
        return "", ""
    takes = f"{progress.get('takes_done', 0)}/{progress.get('takes', 0)}"
    return takes, f"{far[0]}/{far[1]}"


def _pace(facts: Facts) -> dict[str, str]:
    """How fast a job goes, how long it has, and how long it takes yet, as `extract` says it."""
    progress = facts["progress"] or {}
    found = {
        "clips_per_s": progress.get("clips_per_s"), "elapsed_s": progress.get("seconds"),
        "eta_s": None if facts["status"] in ENDED else progress.get("seconds_left"),
    }  # fmt: skip
    digits = {"clips_per_s": 1}
    return {k: f"{v:.{digits.get(k, 0)}f}" for k, v in found.items() if v is not None}


def _standing(facts: Facts) -> str:
    """A line: which job, where it stands, how far and how fast."""
    takes, clips = _progress(facts)
    far = {"takes": takes, "clips": clips, **_pace(facts)} if takes else {}
    return " ".join([facts["job_id"], facts["status"], *(f"{k}={v}" for k, v in far.items())])


def _encoder(facts: Facts) -> str:
    ids = facts.get("encoder_ids") or [facts.get("encoder_id")]
    if ids[0]:
        return ", ".join(ids)
    try:
        chosen = in_full(facts["spec"]).get("encoders") or ()
    except ValueError:
        return ""
    return ", ".join(str(one.get("preset", "")) for one in chosen if isinstance(one, Mapping))


def _clock(iso: str | None) -> str:
    return (iso or "").replace("T", " ").replace("+00:00", " UTC")


def _short(text: str) -> str:
    first = text.splitlines()[0] if text else ""
    return first if len(first) <= 80 else f"{first[:79]}…"


def _from_environment() -> str | None:
    return os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS") or None


def _s3(found: Namespace) -> S3Options:
    return S3Options(found.s3_profile, found.endpoint_url, anon=bool(found.anon))
