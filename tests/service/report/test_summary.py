"""The report of a run: facts, file, summary."""

import io
import itertools
import json
import logging
from datetime import UTC, datetime

import fsspec
import numpy as np
import pytest
from rich.console import Console

from configs.load import encoder_presets
from configs.schema import JobSpec
from service.report.ending import end_of, why_not_ok
from service.report.summary import print_summary, report_facts, write_report
from takestream.errors import ErrorKind
from takestream.stores import find_stores
from workers.dataset.take import Take
from workers.run.recipe import Recipe, Target
from workers.run.report import Losses, Progress, Report
from workers.run.tasks import Failure
from workers.store.layout import StoreLayout
from workers.store.takestore import TakeStore

_numbers = itertools.count()
KEYS = {
    "bill",
    "streams",
    "bytes_read",
    "bytes_written",
    "clips",
    "counts",
    "dataset",
    "encoder_id",
    "encoder_ids",
    "failures",
    "finished_at",
    "frames_decoded",
    "git_commit",
    "history",
    "job",
    "machine_notes",
    "machines_left_out",
    "ok",
    "output",
    "problems",
    "rates",
    "read_from",
    "report_version",
    "requests",
    "retries",
    "seconds",
    "stores",
    "takes",
    "units",
    "versions",
}


def make_recipe(output="/out", **settings):
    encoder = encoder_presets()["efficientnet_lite"]
    job = JobSpec(dataset="s3://data/egoexo", output=str(output), **settings)
    return Recipe(job, (Target(encoder, encoder.grid, "tiny-0123456789"),), "abc")


def make_report(**changes):
    """2 of 2 takes, one of them complete before."""
    counts = {
        "bytes_read": 3_100_000.0, "bytes_written": 250_000.0, "requests": 42.0, "retries": 2.0,
        "frames_decoded": 1240.0, "clips": 60.0,
    }  # fmt: skip
    progress = Progress(
        takes=2, takes_prepared=2, takes_done=2, units=4, units_done=4, clips=93,
        clips_skipped=33, clips_done=60, clips_invalid=1, seconds=10.0, counts=counts,
    )  # fmt: skip
    fields = {name: changes.pop(name) for name in list(changes) if hasattr(progress, name)}
    for name, value in fields.items():
        setattr(progress, name, value)
    return Report(**{"progress": progress, "untouched": 1, "stores": ["/out/e/a.zarr"], **changes})


def summary(recipe, report, where=None, width=80, **options):
    out = io.StringIO()
    print_summary(recipe, report, Console(file=out, width=width, **options), where)
    text = out.getvalue()
    assert "\x1b" not in text
    return text


def test_facts_hold_every_number_under_stable_keys():
    failure = Failure("take_b", None, "its worker died 2 times")
    problems = {"take_a": {"cam01_0": ("listed, but the object is absent",)}}
    recipe = make_recipe(s3={"profile": "ego"})
    facts = report_facts(recipe, make_report(failures=[failure], problems=problems))
    assert set(facts) == KEYS == set(report_facts(make_recipe(), Report(Progress(0))))
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["encoder_id"] == recipe.target.encoder_id
    assert facts["ok"] is False
    assert facts["takes"] == {"asked": 2, "prepared": 2, "complete": 2, "untouched": 1}
    assert facts["units"] == {"planned": 4, "done": 4, "failed": 0}
    clips = {"total": 93, "found": 33, "written": 60, "invalid": 1, "failed": 0}
    assert facts["clips"] == clips
    assert (facts["bytes_read"], facts["bytes_written"]) == (3_100_000, 250_000)
    assert facts["rates"] == {"clips_per_s": 6.0, "frames_per_s": 124.0, "mb_per_s": 0.31}
    assert facts["problems"] == {"take_a": {"cam01_0": ["listed, but the object is absent"]}}
    assert facts["failures"] == [
        {
            "take": "take_b",
            "stream": None,
            "reason": "its worker died 2 times",
            "kind": "fault",
            "fatal": False,
        }
    ]
    assert facts["job"]["s3"] == {
        "profile": "ego", "endpoint_url": None, "patience": 60, "region": None,
        "anon": False, "requester_pays": False, "sse": None, "kms_key": None, "acl": None,
    }  # fmt: skip
    # The settings are whole: a script can run the same job again.
    assert JobSpec.model_validate(facts["job"]) == recipe.job


@pytest.mark.parametrize("place", ["local", "memory"])
def test_the_report_lies_beside_the_stores_and_is_none(tmp_path, place):
    root = f"memory://reports-{next(_numbers)}" if place == "memory" else tmp_path / "My Out"
    recipe = make_recipe(root)
    none = np.zeros(1)
    layout = StoreLayout(("cam01_0",), 2, "float16", 4, none, none + 1, none, none + 1)
    store = TakeStore.create(recipe.store_uri("uid-1"), layout)
    before = datetime.now(UTC)
    where, second = (write_report(recipe, make_report()) for _ in range(2))
    assert where != second
    folder, _, name = where.rpartition("/")
    assert folder == f"{root}/{recipe.target.encoder_id}/reports"
    stamp = datetime.strptime(name, "%Y%m%dT%H%M%S.%fZ.json").replace(tzinfo=UTC)
    assert 0 <= (stamp - before).total_seconds() < 60
    with fsspec.open(where) as file:
        facts = json.load(file)
    facts.pop("finished_at")
    expected = report_facts(recipe, make_report())
    assert facts == {name: expected[name] for name in facts}
    for top in (str(root), f"{root}/{recipe.target.encoder_id}"):
        assert find_stores(top) == [store.uri]


def test_a_report_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("not a folder")
    with caplog.at_level(logging.WARNING):
        assert write_report(make_recipe(tmp_path / "file"), make_report()) is None
    assert "the report of this run was not written" in caplog.text


def test_summary_says_what_was_done_and_what_is_next():
    recipe = make_recipe("/my out")
    text = summary(recipe, make_report(stores=["/my out/e/a.zarr"]), "/my out/e/reports/1.json")
    assert text.splitlines()[0] == "2 of 2 takes complete (1 now, 1 before)"
    assert "60 written (1 of them invalid), 33 found in the stores" in " ".join(text.split())
    assert "3.1 MB read in 42 requests, 2 of them tried again; 250.0 kB written" in text
    assert "10.0 s: 6.0 clips/s, 124 frames/s, 0.3 MB/s read" in text
    assert f"stores: /my out/{recipe.target.encoder_id}\n" in text
    assert "report: /my out/e/reports/1.json\n" in text
    assert "takestream inspect '/my out/e/a.zarr'\n" in text
    assert "xarray.open_zarr('/my out/e/a.zarr')\n" in text
    for absent in ("Problems", "Failures", "again:"):
        assert absent not in text


def test_summary_says_what_a_gpu_did():
    assert "GPU" not in summary(make_recipe(), make_report())
    counts = {
        "frames_decoded": 1240.0,
        "frames_decoded_gpu": 1000.0,
        "frames_converted": 620.0,
        "frames_converted_gpu": 620.0,
        "out_of_memory": 1.0,
    }
    report = make_report(counts=counts)
    text = " ".join(summary(make_recipe(), report).split())
    assert "620 pictures made on the GPU; NVDEC decoded 1,000 of 1,240 frames" in text
    assert "out of GPU memory 1 time: batches were halved" in text
    assert report_facts(make_recipe(), report)["counts"] == counts


def test_summary_tells_how_to_reach_s3():
    recipe = make_recipe("s3://mine/out", s3={"profile": "ego", "endpoint_url": "http://h:1"})
    text = summary(recipe, make_report(stores=["s3://mine/out/e/a.zarr"]))
    assert "inspect s3://mine/out/e/a.zarr --s3-profile ego --endpoint-url http://h:1\n" in text
    assert "storage_options={'profile': 'ego', 'endpoint_url': 'http://h:1'})" in text


def test_summary_of_nothing_to_do():
    report = make_report(untouched=2, clips_done=0, clips_invalid=0, clips_skipped=93, counts={})
    text = summary(make_recipe(), report)
    assert text.splitlines()[0] == "Nothing to do: 2 takes complete already"
    assert "93 found in the stores" in text
    assert "written" not in text


def test_summary_names_few_problems_and_groups_many():
    few = {"take_a": {"cam01_0": ("shorter than the take: 186 frames, the take has 187",)}}
    text = summary(make_recipe(), make_report(problems=few), width=100)
    assert "Problems with 1 stream of 1 take" in text
    assert "  take_a cam01_0  shorter than the take: 186 frames, the take has 187\n" in text

    many = {
        f"take_{i}": {f"cam{k}_0": (f"{i} of 90 clips are invalid",) for k in range(3)}
        for i in range(50)
    }
    odd = {f"odd_{chr(97 + i)}": {"[b]cam_0": (f"trouble {chr(97 + i)}",)} for i in range(26)}
    text = summary(make_recipe(), make_report(problems={**odd, **many}), "/r.json", width=100)
    assert "Problems with 176 streams of 76 takes" in text
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("Problems"))
    assert lines[first + 1].split("  ")[1:] == [
        "150 streams of 50 takes", "e.g. take_0 cam0_0: 0 of 90 clips are invalid",
    ]  # fmt: skip
    assert "odd_a [b]cam_0" in lines[first + 2]
    assert lines[first + 21] == "  … and 7 more in the report"
    assert "in the report" not in summary(make_recipe(), make_report(problems=many | odd))


def test_summary_of_failures():
    failures = [Failure("take_b", "cam01_0", "its worker died 2 times (its process died)")]
    report = make_report(failures=failures, takes_done=1, untouched=0, clips_failed=11)
    text = summary(make_recipe(), report)
    assert text.splitlines()[0] == "1 of 2 takes complete"
    assert "11 given up" in text
    assert "take_b cam01_0  its worker died 2 times (its process died)\n" in text
    assert "Run the same command again: it does only what is missing." in text


def test_summary_of_a_run_that_stopped_says_why_once():
    reason = "the AWS credentials have expired"
    fatal = [Failure(f"take_{i}", None, reason, ErrorKind.CREDENTIALS) for i in range(4)]
    text = summary(make_recipe(), make_report(failures=fatal, takes_done=1, untouched=0))
    assert text.splitlines()[0] == "The run stopped early; 1 of 2 takes complete"
    assert text.count(reason) == 1
    assert "Failures" not in text
    assert "Set that right, then run the same command again" in text


def test_summary_fits_80_columns_but_for_what_is_copied():
    problems = {"t" * 60: {"cam01_0": ("words " * 30,)}}
    text = summary(make_recipe(), make_report(problems=problems))
    assert all(len(line) <= 80 for line in text.splitlines() if "/out" not in line)


def test_streams_that_are_not_wholly_valid_are_told_first_and_fail_a_strict_job():
    take = Take("uid-b", "take_b", None, None, None, 1.0, ())
    for strict in (False, True):
        losses = Losses([(take, ["aria01_rgb", "cam01_0"])], strict=strict)
        losses.count(take, {"cam01_0": 3})
        report = make_report(losses=losses)
        lines = summary(make_recipe(), report).splitlines()
        assert lines[1].strip().startswith("not wholly valid: 1 of 2 streams, in 1 of 1 takes")
        facts = report_facts(make_recipe(), report)
        assert facts["streams"] == {"asked": 2, "lost": {"uid-b": ["cam01_0"]}}
        assert facts["ok"] == report.ok == (not strict)
        assert end_of(report).exit_code == int(strict)
        assert ("--strict" in (why_not_ok(report) or "")) == strict
    assert "Failures" in "\n".join(lines)
