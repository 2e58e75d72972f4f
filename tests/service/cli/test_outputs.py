"""`ls`, `diff`, `prune`, `catalogue` on outputs as jobs leave them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from service.cli.main import run
from service.jobs.records import JobRecord, Records, new_job_id, now
from takestream import catalogue
from tests.support.takestores import fill, make_layout, unit_of
from workers.store.takestore import TakeStore

OLD, NEW = "tiny-0123456789", "tiny-9876543210"
CLIP = 16 / 30


def store(output: Path, encoder: str, uid: str, dim: int = 5, **attributes) -> TakeStore:
    attributes = {
        "take": {"take_uid": uid, "take_name": f"take {uid}"},
        "encoder": {"name": "tiny", "frames": 8, "encoder_id": encoder},
        "provenance": {"resolution": "448"},
        **attributes,
    }
    return TakeStore.create(f"{output}/{encoder}/{uid}.zarr", make_layout(dim=dim, **attributes))


def filled(output: Path, encoder: str, uid: str, seed: int = 0, **options) -> TakeStore:
    made = store(output, encoder, uid, **options)
    fill(made, seed=seed)
    assert made.finish()
    return made


def facts(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, object]:
    capsys.readouterr()
    code = run([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_ls_says_versions_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(tmp_path, OLD, "a")
    store(tmp_path, OLD, "b")
    (tmp_path / OLD / "c.zarr").mkdir()
    assert run(["catalogue", str(tmp_path)]) == 0
    assert "2 takes, 3 stores read" in capsys.readouterr().out
    assert run(["ls", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "tiny, 8 of 32 frames, every 16, at 30 fps, 448 px" in said
    code, (version,) = facts(capsys, "ls", tmp_path)
    counted = {name: version[name] for name in ("takes", "complete", "partial", "half_made")}
    assert (code, counted) == (0, {"takes": 3, "complete": 1, "partial": 1, "half_made": 1})
    assert version["bytes"] == sum(
        path.stat().st_size for path in (tmp_path / OLD / "a.zarr").rglob("*") if path.is_file()
    )
    assert run(["ls", str(tmp_path), "--takes", "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[3] for line in lines[1:]] == ["complete", "partial"]


def test_verify_says_where_the_catalogue_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(tmp_path, OLD, "a")
    assert run(["catalogue", str(tmp_path)]) == 0
    assert run(["verify", str(tmp_path)]) == 0
    assert "catalogue" not in capsys.readouterr().err
    # Another complete store in its place, by other means than takestream.
    shutil.rmtree(tmp_path / OLD / "a.zarr")
    filled(tmp_path, OLD, "a", seed=5)
    assert run(["verify", str(tmp_path)]) == 0
    assert "says otherwise of 1 stores (first: a)" in capsys.readouterr().err
    assert run(["catalogue", str(tmp_path), "--rebuild"]) == 0
    assert run(["verify", str(tmp_path)]) == 0
    assert "catalogue" not in capsys.readouterr().err


def test_diff_of_the_same_finds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for encoder in (OLD, NEW):
        filled(tmp_path, encoder, "a")
    code, found = facts(capsys, "diff", tmp_path / OLD, tmp_path / NEW)
    assert (code, found["alike"]) == (0, True)
    assert list(found["settings"]) == ["encoder.encoder_id"]
    assert all(one["equal"] == one["both"] for one in found["takes"][0]["streams"])


def test_diff_names_the_clip_where_two_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(tmp_path, OLD, "a")
    other = filled(tmp_path, NEW, "a", provenance={"resolution": "full"})
    filled(tmp_path, OLD, "b")
    unit = unit_of(other, "cam01_0", 8)
    number = int(np.flatnonzero(unit["valid"])[1])
    unit["features"][number] *= -1
    other.write("cam01_0", 8, **unit)
    code, found = facts(capsys, "diff", tmp_path / OLD, tmp_path / NEW)
    (take,) = found["takes"]
    part = next(one for one in take["streams"] if one["stream"] == "cam01_0")
    clip = 8 + number
    where = {"clip": clip, "seconds": pytest.approx(clip * CLIP), "cosine": part["cosine_min"]}
    assert (code, part["parted"], part["first"], part["worst"]) == (1, 1, where, [where])
    assert part["cosine_min"] == pytest.approx(-1, abs=1e-3)
    assert part["equal"] == part["both"] - 1
    assert found["settings"]["provenance.resolution"] == ["448", "full"]
    assert found["only_a"] == ["b"]
    assert run(["diff", str(tmp_path / OLD), str(tmp_path / NEW)]) == 1
    assert f"clip {clip} at {clip * CLIP:.2f} s" in capsys.readouterr().out
    # Asked for less, they do not part; but A has a take more.
    assert run(["diff", str(other.uri), str(tmp_path / OLD / "a.zarr"), "--cosine", "-1"]) == 0


def test_diff_of_a_copy_elsewhere_says_no_more_than_it_knows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for encoder, etag in ((OLD, "5d41402a"), (NEW, "local-77")):
        videos = {"cam01_0": {"etag": etag, "size": 9}}
        filled(tmp_path, encoder, "a", provenance={"streams": videos})
    assert run(["diff", str(tmp_path / OLD), str(tmp_path / NEW)]) == 0
    said = capsys.readouterr()
    assert "of videos that are another object or file: take a cam01_0" in said.out + said.err


def test_diff_of_other_dims_and_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(tmp_path, OLD, "a")
    filled(tmp_path, NEW, "a", seed=1, dim=7)
    code, found = facts(capsys, "diff", tmp_path / OLD, tmp_path / NEW)
    one = found["takes"][0]["streams"][0]
    assert code == 1
    assert one["cosine_min"] is None
    assert 0 <= one["cka"] <= 1
    assert 0 <= one["neighbours"] <= 1
    assert run(["diff", str(tmp_path), str(tmp_path / NEW)]) == 2
    assert "several encoders" in capsys.readouterr().err


def test_prune_names_first_and_removes_when_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(tmp_path, OLD, "a")
    store(tmp_path, OLD, "b")
    filled(tmp_path, NEW, "a")
    assert run(["catalogue", str(tmp_path)]) == 0
    half = tmp_path / OLD / "c.zarr" / "features"
    half.mkdir(parents=True)
    (half / "zarr.json").write_text("{}")
    ask = ("prune", tmp_path, "--partial")
    # Just written: a job may be at it.
    code, found = facts(capsys, *ask, "--yes")
    assert (code, found["removed"]) == (1, False)
    assert all("written to 0 minutes ago" in one["refused"] for one in found["candidates"])
    code, found = facts(capsys, *ask, "--min-age", "0")
    names = [Path(one["uri"]).name for one in found["candidates"]]
    assert (code, names) == (0, ["b.zarr", "c.zarr"])
    assert half.exists()
    assert facts(capsys, *ask, "--min-age", "0", "--yes")[1]["removed"]
    assert sorted(path.name for path in (tmp_path / OLD).glob("*.zarr")) == ["a.zarr"]
    rows = catalogue.ls(tmp_path)
    assert list(zip(rows.encoder_id, rows.take_uid, strict=True)) == [(OLD, "a"), (NEW, "a")]
    assert run(["prune", str(tmp_path), "--encoder", "tiny"]) == 2
    assert "no encoder_id 'tiny'" in capsys.readouterr().err
    assert run(["prune", str(tmp_path), "--encoder", NEW, "--min-age", "0", "--yes"]) == 0
    assert not (tmp_path / NEW).exists()


def test_prune_refuses_what_a_job_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path, OLD, "b")
    record = JobRecord(
        job_id=new_job_id(), kind="service", status="running", submitted_at=now(), spec={},
        encoder_ids=(OLD,),
    )  # fmt: skip
    Records(str(tmp_path)).save(record)
    code, found = facts(capsys, "prune", tmp_path, "--partial", "--min-age", "0", "--yes")
    assert code == 1
    assert record.job_id in found["candidates"][0]["refused"]
    assert (tmp_path / OLD / "b.zarr" / "zarr.json").exists()
