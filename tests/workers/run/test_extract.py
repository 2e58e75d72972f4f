"""Units in, stores out, without Ray: resuming, and source objects that change, vanish or appear."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from takestream.errors import ErrorKind
from takestream.schema import Reason
from tests.support.brightness import STREAMS, Job, video
from tests.support.faulty_job import media_apart
from workers.media.source import Source
from workers.run.extract import Stopped
from workers.store.takestore import TakeStore


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def test_a_take_becomes_a_store_and_is_left_alone_then(job: Job) -> None:
    # 100 frames: windows at 0, 16, …, 64 and one over the last 32; units of 2 clips.
    records = job.run()
    assert [(r.ranges[0].start, r.ranges[0].stop) for r in records] == [(0, 2), (2, 4), (4, 6)]
    assert sum(r.counts["frames_decoded"] for r in records) >= 2 * 100
    found = job.dataset()
    assert found.attrs["status"] == "complete"
    assert found.start_frame.values.tolist() == [0, 16, 32, 48, 64, 68]
    assert found.valid.all()
    brightness = found.features.isel(feature=0).values
    expected = np.array([0, 16, 32, 48, 64, 68]) / 2 + 7.75
    assert np.abs(brightness[:, 0] - 40 - expected).max() < 3
    assert np.abs(brightness[:, 1] - 100 - expected).max() < 3
    np.testing.assert_allclose(found.frame_time[:, 0], found.start_frame / 30, atol=1e-4)
    before = job.chunks(0) | job.chunks(1)
    assert job.run() == []
    assert job.chunks(0) | job.chunks(1) == before


def test_a_lost_chunk_is_made_again_and_nothing_else(job: Job) -> None:
    job.run()
    whole = job.dataset()
    before = job.chunks(0) | job.chunks(1)
    lost = sorted(job.chunks(1))[1]
    lost.unlink()
    (record,) = job.run()
    assert (record.ranges[0].start, record.ranges[0].streams) == (2, ("cam02_0",))
    after = job.chunks(0) | job.chunks(1)
    assert {p for p in after if after[p] != before[p]} == {lost}
    xr.testing.assert_identical(job.dataset(), whole)


def test_at_its_end_a_take_says_which_clips_its_store_did_not_keep(job: Job) -> None:
    job.run()
    extractor, prepared = job.prepare()
    # As a storage that answers 200 and keeps nothing, or a rule that removes objects.
    for lost in (1, -1):
        sorted(job.chunks(1))[lost].unlink()
    finished = extractor.finish(prepared.take)
    assert not finished.complete
    assert dict(finished.missing) == {STREAMS[1]: 4}
    job.run()
    finished = extractor.finish(prepared.take)
    assert (finished.complete, dict(finished.missing)) == (True, {})


def test_a_changed_object_is_extracted_again_alone(job: Job) -> None:
    job.run()
    other = job.chunks(0)
    video(job.path("cam02_0"), 10)
    assert {r.ranges[0].streams for r in job.run()} == {("cam02_0",)}
    assert job.chunks(0) == other
    assert float(job.dataset().features[0, 1, 0]) < 40
    size = job.dataset().attrs["provenance"]["streams"]["cam02_0"]["size"]
    assert size == job.path("cam02_0").stat().st_size


def test_a_take_of_another_length_is_made_anew(job: Job) -> None:
    job.run()
    for name in STREAMS:
        video(job.path(name), 10, frames=60)
    assert job.run()
    assert job.dataset().sizes["clip"] == 3
    assert job.dataset().valid.all()


def test_an_object_that_vanished_loses_nothing_and_one_that_came_is_added(job: Job) -> None:
    away = job.root / "away.mp4"
    shutil.move(job.path("cam02_0"), away)
    job.run()
    assert job.dataset().reason[:, 1].values.tolist() == [Reason.STREAM_ABSENT] * 6
    assert "absent" in job.dataset().attrs["problems"]["cam02_0"][0]
    shutil.move(away, job.path("cam02_0"))
    assert {r.ranges[0].streams for r in job.run()} == {("cam02_0",)}
    assert job.dataset().valid.all()
    assert job.dataset().attrs["problems"] == {}
    whole = job.dataset()
    job.path("cam01_0").unlink()
    assert job.run() == []
    xr.testing.assert_identical(job.dataset(), whole)


def test_more_streams_extend_the_store(job: Job) -> None:
    job.run(["cam02_0"])
    first = job.dataset()
    assert first.stream.values.tolist() == ["cam02_0"]
    kept = job.chunks(0)
    assert {r.ranges[0].streams for r in job.run()} == {("cam01_0",)}
    assert job.chunks(0) == kept
    both = job.dataset()
    assert both.attrs["status"] == "complete"
    xr.testing.assert_equal(both.sel(stream=["cam02_0"]), first)


def test_an_object_that_changes_while_it_is_read_is_never_mixed(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    media_apart(monkeypatch.setattr)
    extractor, prepared = job.prepare()
    read = Source.read

    def change_then_read(self: Source, start: int, stop: int) -> bytes:
        if "cam02" in self.uri:
            os.utime(job.path("cam02_0"), ns=(1, 1))
        return read(self, start, stop)

    monkeypatch.setattr(Source, "read", change_then_read)
    record = extractor.extract(prepared.units[0])
    (failure,) = record.failures
    assert (failure.stream, failure.kind) == ("cam02_0", ErrorKind.CHANGED)
    assert "cam02_0.mp4" in failure.reason
    assert len(job.chunks(0)) == 1
    assert job.chunks(1) == {}


def test_stopped_it_writes_nothing(job: Job) -> None:
    extractor, prepared = job.prepare()
    with pytest.raises(Stopped):
        extractor.extract(prepared.units[0], lambda: True)
    assert job.chunks(0) == {}


def test_a_take_without_any_readable_stream_is_a_failure_with_reasons(job: Job) -> None:
    job.path("cam01_0").write_bytes(b"")
    job.path("cam02_0").unlink()
    _, prepared = job.prepare()
    assert [(f.stream, f.fatal) for f in prepared.failures] == [(n, False) for n in STREAMS]
    assert "empty" in prepared.failures[0].reason
    assert "absent" in prepared.failures[1].reason
    assert not job.output.exists()


def test_an_unwritable_unit_is_an_error_not_a_hole(job: Job) -> None:
    extractor, prepared = job.prepare()
    store = TakeStore.open(prepared.stores[0])
    shutil.rmtree(Path(store.uri) / "features")
    (Path(store.uri) / "features").write_text("in the way")
    with pytest.raises(Exception, match=r"u\.zarr"):
        extractor.extract(prepared.units[0])


@pytest.mark.parametrize("torn", [b"", b'{"streams": ["cam0', b"[]"])
def test_a_torn_claim_is_replaced(job: Job, torn: bytes) -> None:
    job.run(["cam02_0"])
    claim = next(job.output.glob("*/u.zarr")) / "stream" / "claims" / "1.json"
    claim.write_bytes(torn)
    assert {r.ranges[0].streams for r in job.run()} == {("cam01_0",)}
    assert job.dataset().attrs["status"] == "complete"
    assert b"cam01_0" in claim.read_bytes()


def test_a_torn_first_claim_is_replaced(job: Job) -> None:
    claim = Path(job.recipe.store_uri("u")) / "stream" / "claims" / "0.json"
    claim.parent.mkdir(parents=True)
    claim.write_bytes(b'{"streams": ["cam0')
    job.run()
    assert job.dataset().valid.all()


@pytest.mark.parametrize("lost", [(), (0,), (1, 2)])
def test_what_shared_frames_give_does_not_depend_on_how_the_take_is_cut(
    tmp_path: Path, lost: tuple[int, ...]
) -> None:
    found = []
    for unit_frames in (32, 48, 4096):
        job = Job(tmp_path / str(unit_frames), store={"unit_frames": unit_frames})
        records = job.run()
        chunks = sorted(job.chunks(1))
        for number in lost:
            chunks[min(number, len(chunks) - 1)].unlink(missing_ok=True)
        job.run()
        found.append(job.dataset().drop_attrs())
        if unit_frames == 4096 and not lost:
            # 24 frames of the clips on the lattice, and the last clip's eight, of which one is new
            # where its start is a multiple of four: here 68, so one.
            (record,) = records
            assert record.counts["frames_encoded"] == 25 * len(STREAMS)
            assert record.counts["frames_converted"] == 25 * len(STREAMS)
    for one in found[1:]:
        xr.testing.assert_identical(one, found[0])
