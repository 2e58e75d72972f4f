"""A job over S3 behind a proxy that fails on purpose, and what has to hold however it fails.

The whole job runs in this process, without Ray: the same records, stores, report and summary.
"""

import asyncio
import hashlib
import io
import json
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import s3fs
import torch
from rich.console import Console

from configs.load import load_job
from service.demo.s3server import ObjectStore
from service.jobs.choose import ChosenJob, choose
from service.jobs.driver import drive
from service.report.ending import end_of, end_of_error
from service.report.summary import print_summary
from takestream.errors import TakestreamError
from takestream.schema import Reason
from tests.support.brightness import BrightnessEncoder, video
from tests.support.fault_proxy import FaultProxy
from workers.media.sparse import SparseFile
from workers.run.ahead import done_already
from workers.run.extract import UnitExtractor
from workers.run.recipe import Recipe
from workers.run.size import WorkerSize
from workers.run.tasks import Extract, Failure, Finish, Prepare, Record, Task
from workers.store.errors import StoreNotFound
from workers.store.objects import probe_writable
from workers.store.takestore import TakeStore
from workers.store.verify import verify

TAKES = ("a", "b")
CAMERAS = ("cam01_0", "cam02_0")
FRAMES, UNIT_FRAMES = 48, 16


class InlinePool:
    """In the place of the workers on Ray: runs tasks one after the other, in one thread."""

    workers, alive, lost = 1, 1, None
    sizes, left_out = Counter({WorkerSize("a processor", "cpu", 1): 1}), ()

    def __init__(self, recipe: Recipe) -> None:
        encoders = [BrightnessEncoder(target.encoder) for target in recipe.targets]
        self._extractor = UnitExtractor(recipe, encoders, torch.device("cpu"))
        self._thread = ThreadPoolExecutor(1)

    def submit(self, tasks: Sequence[Task], sink: Callable[[Record], None]) -> None:
        loop = asyncio.get_running_loop()
        for task in tasks:
            done = loop.run_in_executor(self._thread, self._run, task)
            done.add_done_callback(lambda done: None if done.cancelled() else sink(done.result()))

    def _run(self, task: Task) -> Record:
        try:
            match task:
                case Prepare():
                    return self._extractor.prepare(task.take, task.streams)
                case Finish():
                    return self._extractor.finish(task.take)
                case Extract():
                    return self._extractor.extract(task.unit)
            raise AssertionError(task)
        except Exception as error:  # noqa: BLE001 - as a worker does it
            return task.failed(Failure.of(task.take.name, error))

    def counts(self, owner: str) -> dict[str, float]:
        return {}

    def cancel(self, owner: str) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and all that it said.

    exit_code: of the command. failures: facts of each. words: summary, report and log.
    """

    exit_code: int
    failures: tuple[dict[str, Any], ...]
    words: str
    seconds: float


class FaultyJob:
    """Two takes with two cameras each, on an S3 server, and their stores in the same bucket.

    Args:
        root: A folder for the data set.
        s3: The server.
        patience: Seconds that an object is tried.
    """

    def __init__(self, root: Path, s3: ObjectStore, patience: float = 1.5) -> None:
        self.s3, self.patience = s3, patience
        self.direct = s3fs.S3FileSystem(**s3.storage_options(), use_listings_cache=False)
        self.bucket = s3.make_bucket("faults").removeprefix("s3://")
        data = root / "data"
        entries = []
        for take in TAKES:
            videos = {}
            for number, camera in enumerate(CAMERAS):
                relative = f"frame_aligned_videos/{camera}.mp4"
                level = 20 + 50 * number + 17 * TAKES.index(take)
                video(data / "takes" / take / relative, level, FRAMES)
                videos[camera[:5]] = {"0": {"relative_path": relative}}
            entries.append(
                {"take_uid": f"uid-{take}", "take_name": take, "frame_aligned_videos": videos}
            )
        (data / "takes.json").write_text(json.dumps(entries))
        self.local = data
        self.direct.put(f"{data}/", f"{self.bucket}/data/", recursive=True)

    def recipe_job(self, endpoint: str, output: str, **settings: Any) -> Any:
        """The settings of this job through an endpoint."""
        return load_job(None, {
            "dataset": f"s3://{self.bucket}/data", "output": f"s3://{self.bucket}/{output}",
            "store": {"unit_frames": UNIT_FRAMES, "dtype": "float32"},
            "s3": {"endpoint_url": endpoint, "patience": self.patience}, **settings,
        })  # fmt: skip

    def run(self, endpoint: str, output: str) -> Outcome:
        """As `takestream extract` runs it."""
        began, out = time.monotonic(), io.StringIO()
        with _log() as said:
            try:
                chosen = choose(self.recipe_job(endpoint, output))
                probe_writable(chosen.recipe.job.output, chosen.recipe.output_s3)
                end, report = self._driven(chosen, out)
            except TakestreamError as error:
                end, report = end_of_error(error), ""
                out.write(str(error))
                code = error.kind.exit_code
            else:
                code = end.exit_code
        words = "\n".join([out.getvalue(), report, str(end), said.getvalue()])
        return Outcome(code, end.failures, words, time.monotonic() - began)

    def _driven(self, chosen: ChosenJob, out: io.StringIO) -> tuple[Any, str]:
        done = done_already(chosen.recipe, chosen.takes)
        if (report := done.report(chosen.takes)) is not None:
            return end_of(report), ""
        pool: Any = InlinePool(chosen.recipe)
        finished = asyncio.run(drive(pool, chosen, done=done))
        print_summary(chosen.recipe, finished.report, Console(file=out, width=200), finished.where)
        written = ""
        if finished.where and self.direct.exists(finished.where):
            written = self.direct.cat_file(finished.where).decode()
        return finished.end, written

    def store(self, output: str, take: str) -> TakeStore | None:
        """The store of a take, past the proxy; None when there is none."""
        job = self.recipe_job(self.s3.endpoint_url, output)
        recipe = choose(job).recipe
        try:
            return TakeStore.open(recipe.store_uri(f"uid-{take}"), recipe.output_s3)
        except StoreNotFound:
            return None

    @cached_property
    def undisturbed(self) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
        """By take, the arrays of a run without faults."""
        outcome = self.run(self.s3.endpoint_url, "undisturbed")
        assert outcome.exit_code == 0, outcome
        found = {take: self._arrays("undisturbed", take) for take in TAKES}
        assert all(arrays["valid"].all() for arrays in found.values())
        return found

    def _arrays(self, output: str, take: str) -> dict[str, np.ndarray[Any, Any]]:
        store = self.store(output, take)
        assert store is not None
        return {name: np.asarray(store.array(name)[:]) for name in _COMPARED}

    def assert_bounded_and_true(self, outcome: Outcome, output: str, longest: float) -> None:
        """What has to hold of a disturbed run, whatever the fault was."""
        assert outcome.seconds < longest, outcome
        self._assert_nothing_secret(outcome, output)
        whole = True
        named = {(f["take"], f["stream"]) for f in outcome.failures}
        for take in TAKES:
            missing = self._assert_equal_where_written(output, take)
            whole &= not missing
            if outcome.exit_code == 0 or not outcome.failures:
                continue
            if any(f["fatal"] for f in outcome.failures):
                continue
            for stream in missing:
                assert {(take, stream), (take, None)} & named, (take, stream, outcome)
        if outcome.exit_code == 0:
            assert whole, outcome
            assert all(self._is_complete(output, take) for take in TAKES), outcome
        elif not outcome.failures:
            assert outcome.words.strip()

    def assert_healed(self, endpoint: str, output: str) -> None:
        """The same command, without a fault, makes everything equal to an undisturbed run."""
        outcome = self.run(endpoint, output)
        assert outcome.exit_code == 0, outcome
        for take in TAKES:
            found = self._arrays(output, take)
            for name, values in self.undisturbed[take].items():
                np.testing.assert_array_equal(found[name], values)
            assert not self.store(output, take).attributes.get("problems")  # type: ignore[union-attr]
            job = self.recipe_job(self.s3.endpoint_url, output)
            recipe = choose(job).recipe
            report = verify(recipe.store_uri(f"uid-{take}"), recipe.output_s3)
            assert report.ok, report.faults

    def _is_complete(self, output: str, take: str) -> bool:
        store = self.store(output, take)
        return store is not None and store.status == "complete"

    def _assert_equal_where_written(self, output: str, take: str) -> set[str]:
        """The streams that lack clips."""
        store = self.store(output, take)
        if store is None:
            return set(CAMERAS)
        gaps = store.missing()
        lacking = set(CAMERAS) - set(store.streams)
        for index, stream in enumerate(store.streams):
            written = np.ones(store.clips, dtype=bool)
            for gap in gaps:
                if stream in gap.streams:
                    written[gap.start : gap.stop] = False
                    lacking.add(stream)
            for start in range(0, store.clips, store.unit_clips):
                rows = slice(start, min(start + store.unit_clips, store.clips))
                if not written[rows].all():
                    continue
                column = CAMERAS.index(stream)
                for name, values in self.undisturbed[take].items():
                    found = np.asarray(store.array(name)[rows, index])
                    np.testing.assert_array_equal(found, values[rows, column], f"{take} {stream}")
                assert (np.asarray(store.array("reason")[rows, index]) == Reason.VALID).all()
        return lacking

    def _assert_nothing_secret(self, outcome: Outcome, output: str) -> None:
        texts = [outcome.words]
        for path in self.direct.find(f"{self.bucket}/{output}"):
            if path.endswith(".json"):
                texts.append(self.direct.cat_file(path).decode(errors="replace"))
        for text in texts:
            assert self.s3.secret_key not in text
            assert not re.search(r"X-Amz-Signature|Signature=[0-9a-f]{64}", text)
            assert "Traceback" not in text
            assert "fault of takestream" not in text, text


_COMPARED = ("features", "valid", "frame_time", "reason")


def content_digest(path: Path) -> str:
    """The ETag that S3 gives a small object."""
    return hashlib.md5(path.read_bytes()).hexdigest()


@contextmanager
def _log() -> Iterator[io.StringIO]:
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    logging.getLogger().addHandler(handler)
    try:
        yield said
    finally:
        logging.getLogger().removeHandler(handler)


def media_apart(patch: Callable[[Any, str, Any], None]) -> None:
    """Have small films read as large ones are: their index brings no media along.

    Args:
        patch: called with a class, the name of its method and another one.
    """
    patch(SparseFile, "_lacking", lambda self, start, stop: (start, stop))


def short_silences(patch: Callable[[Any, str, Any], None], seconds: float = 1.0) -> None:
    """Have connections that bring nothing given up soon: patch(mapping or module, name, value)."""
    from takestream.storage import open_filesystem
    from workers.store import objects

    patch(open_filesystem.__kwdefaults__, "silent", seconds)
    patch(objects, "UPLOAD_SECONDS", seconds)
    patch(objects, "PROBE_PATIENCE", seconds)


def heal(proxy: FaultProxy) -> str:
    """Let everything pass; the proxy's address."""
    proxy.heal()
    return proxy.endpoint_url
