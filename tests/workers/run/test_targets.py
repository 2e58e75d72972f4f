"""Several targets of one job: one decoding, a store for each, each finished by itself."""

import itertools
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import takestream
from configs.schema import GridSpec
from service.demo.footage import encode_video
from takestream.schema import Reason
from tests.support.brightness import STREAMS, Job
from tests.support.faulty_job import media_apart
from workers.clock.grid import make_grid
from workers.dataset.egoexo import read_takes
from workers.dataset.segments import read_segments
from workers.dataset.take import Segment, Take
from workers.media.index import read_index
from workers.media.source import Source
from workers.run.prepare import make_units
from workers.run.recipe import Recipe
from workers.run.stale import states
from workers.store.gap import Gap
from workers.store.takestore import TakeStore
from workers.store.verify import verify

WHOLE = {"store": {"unit_frames": 4096}}
BOTH = {"encoders": ["efficientnet_lite", {"preset": "efficientnet_lite", "frames": 4}]}


def on_grids(recipe: Recipe, *grids: GridSpec) -> Recipe:
    """The recipe with its first target on each of the grids."""
    return replace(
        recipe,
        targets=tuple(
            replace(recipe.target, grid=grid, encoder_id=f"tiny-{number:010x}")
            for number, grid in enumerate(grids)
        ),
    )


def stores(job: Job) -> dict[str, xr.Dataset]:
    return {name: job.dataset(name).drop_attrs() for name in job.recipe.encoder_ids}


def alone(root: Path, job: Job) -> dict[str, xr.Dataset]:
    """The stores when each target is extracted by a job of its own."""
    found = {}
    for number, target in enumerate(job.recipe.targets):
        other = Job(root / str(number))
        settings = other.recipe.job.model_copy(update={"store": job.recipe.job.store})
        other.recipe = replace(job.recipe, job=settings, targets=(target,))
        other.run()
        found |= stores(other)
    return found


def test_frames_are_decoded_once_for_all_targets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media_apart(monkeypatch.setattr)
    job = Job(tmp_path / "both", **BOTH, **WHOLE)
    (record,) = job.run()
    assert record.counts["frames_decoded"] == 100 * len(STREAMS)
    assert record.clips == 6 * len(STREAMS) * 2
    # 8 of 32 and 4 of 32 frames share some; each is turned into a picture once.
    grid = make_grid(100, Fraction(30), GridSpec())
    frames = [grid.sampled(count, "lattice") for count in (8, 4)]
    seen = {number for sampled in frames for number in sampled.ravel().tolist()}
    assert record.counts["frames_converted"] == len(seen) * len(STREAMS)
    bytes_read = record.counts["bytes_read"]
    job.recipe = job.with_settings(output=str(tmp_path / "one"), **WHOLE)
    (alone,) = job.run()
    assert bytes_read == alone.counts["bytes_read"]


@pytest.mark.parametrize("unit_frames", [32, 48, 4096])
def test_each_store_is_the_same_as_if_extracted_alone(tmp_path: Path, unit_frames: int) -> None:
    job = Job(tmp_path / "all", store={"unit_frames": unit_frames})
    job.recipe = on_grids(
        job.recipe,
        GridSpec(),
        GridSpec(window=1, stride=1),
        GridSpec(fps=10, window=8, stride=5),
        GridSpec(window=40, stride=7, tail="drop"),
    )
    job.run()
    found, expected = stores(job), alone(tmp_path, job)
    assert list(found) == list(expected)
    for name, one in found.items():
        assert one.valid.all(), name
        xr.testing.assert_identical(one, expected[name])
    assert job.run() == []


def test_a_store_that_is_complete_is_not_touched(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.run()
    both = job.with_settings(**BOTH)
    done = job.output / job.recipe.target.encoder_id
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*") if path.is_file()}
    job.recipe = both
    records = job.run()
    assert {part.target for record in records for part in record.ranges} == {1}
    assert {p: p.stat().st_mtime_ns for p in done.rglob("*") if p.is_file()} == before
    assert job.dataset(both.encoder_ids[1]).attrs["status"] == "complete"


def test_a_target_without_clips_is_named_and_the_others_are_written(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.recipe = on_grids(job.recipe, GridSpec(), GridSpec(window=500, stride=500, tail="drop"))
    extractor, prepared = job.prepare()
    (failure,) = prepared.failures
    assert "tiny-0000000001: too short for one clip (100 frames" in failure.reason
    for unit in prepared.units:
        extractor.extract(unit)
    assert not extractor.finish(prepared.take).complete
    assert job.dataset("tiny-0000000000").attrs["status"] == "complete"


def test_units_of_several_targets_meet_where_they_begin() -> None:
    take = Take("u", "t", None, None, None, None, ())
    gaps = {}
    for target, spec in enumerate([GridSpec(), GridSpec(window=16, stride=12)]):
        grid = make_grid(20_000, Fraction(30), spec)
        size = 4096 // spec.stride
        starts = range(0, grid.clips, size)
        gaps[target] = grid, [Gap(a, min(a + size, grid.clips), ("a",)) for a in starts]
    units = make_units(take, gaps, 4096)
    assert [[part.target for part in unit.ranges] for unit in units] == [[0, 1]] * 5
    clips = [(p.target, n) for unit in units for p in unit.ranges for n in range(p.start, p.stop)]
    assert len(clips) == len(set(clips)) == sum(grid.clips for grid, _ in gaps.values())
    # Neighbours share a window at most, however their strides divide a unit.
    spans = [(unit.first_frame, unit.last_frame) for unit in units]
    overlap = [before[1] - after[0] for before, after in itertools.pairwise(spans)]
    assert max(overlap) <= 32


def test_a_target_is_never_twice_in_one_unit() -> None:
    take = Take("u", "t", None, None, None, None, ())
    grid = make_grid(500, Fraction(30), GridSpec(window=1, stride=1))
    missing = [Gap(n, n + 10, ("a",)) for n in range(0, 500, 10)]
    units = make_units(take, {0: (grid, missing)}, 96)
    assert [unit.ranges[0].start for unit in units if len(unit.ranges) == 1] == sorted(
        gap.start for gap in missing
    )
    assert len(units) == len(missing)


def test_one_clip_for_each_segment(tmp_path: Path) -> None:
    file = tmp_path / "steps.csv"
    file.write_text(
        "take,start,end,name,label\n"
        "t,1.0,2.0,stir,7\nt,0,0.5,cut,12\nt,1.5,3.0,pour,\nt,3.2,9,rinse,3\nt,60,61,late,4\n"
    )
    Job(tmp_path / "job", **BOTH).run()
    job = Job(tmp_path / "job", segments=str(file), **BOTH)
    records = job.run()
    assert len({tuple(record.ranges) for record in records}) == len(records)
    found = job.dataset(job.recipe.target.encoder_id)
    assert found.segment_name.values.tolist() == ["cut", "stir", "pour", "rinse", "late"]
    assert found.segment_label.values.tolist() == ["12", "7", "", "3", "4"]
    assert "segment_name" in found.coords
    assert found.start_time.values.tolist() == [0, 1, 1.5, 3.2, 60]
    assert found.valid[:4].all()
    assert (found.reason[4] == Reason.PAST_END).all()
    (take,) = read_takes(str(job.root))
    (take,) = read_segments(str(file)).of([take])
    grid = make_grid(100, Fraction(30), job.recipe.target.grid, take.segments)
    expected = 40 + (grid.sampled(8)[:4] // 2).mean(axis=1)
    assert np.abs(found.features[:4, 0, 0].values - expected).max() < 3
    report = verify(str(next(job.output.glob(f"{job.recipe.target.encoder_id}/u.zarr"))))
    assert report.ok, report.faults
    assert job.run() == []


def test_a_damaged_frame_that_no_segment_shows_costs_nothing(tmp_path: Path) -> None:
    file = tmp_path / "steps.csv"
    file.write_text("take,start,end\nt,0,3.3\n")
    job = Job(tmp_path / "job", segments=str(file))
    grid = make_grid(100, Fraction(30), job.recipe.target.grid, [Segment(0, 3.3)])
    unseen = sorted(set(range(26, 50)) - set(grid.sampled(8).ravel().tolist()))
    path = job.path("cam01_0")
    data = bytearray(path.read_bytes())
    index = read_index(Source(str(path)))
    last_of_group = max(n for n in unseen if n < 50)
    packet = int(index.shown[last_of_group])
    at, size = int(index.position[packet]), int(index.size[packet])
    data[at + 8 : at + size] = bytes(size - 8)
    path.write_bytes(data)
    job.run()
    assert job.dataset().valid.all()
    # On the ordinary grid the same damage is seen.
    job.recipe = job.with_settings()
    job.run()
    assert not job.dataset(job.recipe.target.encoder_id).valid[:, 0].all()


def test_frames_by_their_time(tmp_path: Path) -> None:
    # The second camera at half the rate shows the same moments in half as many frames.
    def half_rate(job: Job) -> None:
        pictures = (np.full((64, 96, 3), 100 + n // 2, dtype=np.uint8) for n in range(0, 100, 2))
        encode_video(job.path("cam02_0"), pictures, audio=False, gop=25, fps=15)

    job = Job(tmp_path / "time", timeline={"kind": "pts", "tolerance": 1}, **WHOLE)
    half_rate(job)
    job.run()
    found = job.dataset()
    assert found.attrs["provenance"]["timeline"] == {"kind": "pts", "tolerance": 1.0}
    assert found.valid.all()
    assert np.abs(found.features[:, 1, 0] - found.features[:, 0, 0] - 60).max() < 3
    by_number = Job(tmp_path / "number", **WHOLE)
    half_rate(by_number)
    by_number.run()
    assert (by_number.dataset().reason[-2:, 1] == Reason.PAST_END).all()


def test_a_table_of_cameras_gives_the_same_features(tmp_path: Path) -> None:
    job = Job(tmp_path, **WHOLE)
    job.run()
    rows = "".join(f"u,{name[:5]},{job.path(name)}\n" for name in STREAMS)
    (tmp_path / "cameras.csv").write_text("take,camera,uri\n" + rows)
    by_table = Job(tmp_path / "table", **WHOLE)
    by_table.recipe = by_table.with_settings(dataset=str(tmp_path / "cameras.csv"), **WHOLE)
    assert by_table.recipe.target == job.recipe.target
    (take,) = by_table.recipe.dataset.takes()
    extractor, prepared = by_table.prepare(take=take)
    for unit in prepared.units:
        extractor.extract(unit)
    assert extractor.finish(take).complete
    xr.testing.assert_identical(by_table.dataset().drop_attrs(), job.dataset().drop_attrs())


def test_takes_that_share_an_object_have_each_its_span(tmp_path: Path) -> None:
    job = Job(tmp_path / "whole", **WHOLE)
    path = job.path("cam01_0")
    (tmp_path / "cameras.csv").write_text(
        f"take,camera,uri,start,end\nu,cam01,{path},1,2.5\nu,cam02,{path},1,\n"
    )
    part = Job(tmp_path / "part", **WHOLE)
    part.recipe = part.with_settings(dataset=str(tmp_path / "cameras.csv"), **WHOLE)
    (take,) = part.recipe.dataset.takes()
    extractor, prepared = part.prepare(take=take)
    for unit in prepared.units:
        extractor.extract(unit)
    assert extractor.finish(take).complete
    found = part.dataset()
    # The longer of two counts is the take's; the first camera ends after 45 frames.
    assert found.reason[:, 0].values.tolist() == [0, 4, 4, 4]
    assert found.valid[:, 1].all()
    np.testing.assert_allclose(found.frame_time[:, 1], found.start_frame / 30, atol=1e-4)
    grid = make_grid(70, Fraction(30), GridSpec())
    expected = 40 + ((30 + grid.sampled(8)) // 2).mean(axis=1)
    assert np.abs(found.features[:, 1, 0] - expected).max() < 3


def test_features_differ_by_what_each_target_sees(tmp_path: Path) -> None:
    job = Job(tmp_path, **BOTH)
    job.run()
    eight, four = (job.dataset(name).features[:, 0, 0].values for name in job.recipe.encoder_ids)
    grid = make_grid(100, Fraction(30), GridSpec())
    for features, frames in ((eight, 8), (four, 4)):
        expected = 40 + (grid.sampled(frames) // 2).mean(axis=1)
        assert np.abs(features - expected).max() < 3


def _timed(job: Job, start: float, end: float) -> None:
    listed = json.loads((job.root / "takes.json").read_text())
    listed[0].update(task_start_sec=start, task_end_sec=end)
    (job.root / "takes.json").write_text(json.dumps(listed))


def test_only_the_span_of_the_task_is_computed(tmp_path: Path) -> None:
    job = Job(tmp_path / "job", **BOTH)
    _timed(job, 1.0, 2.6)
    job.run()
    whole = job.recipe
    job.recipe = job.with_settings(select={"task_span": True}, **BOTH)
    job.run()
    for target, before in zip(job.recipe.targets, whole.targets, strict=True):
        assert target.encoder_id != before.encoder_id
        uris = [str(job.output / one.encoder_id / "u.zarr") for one in (target, before)]
        found, everything = (takestream.open(uri).load() for uri in uris)
        assert 0 < found.sizes["clip"] < everything.sizes["clip"]
        assert found.in_task.values.all()
        inside = everything.isel(clip=np.flatnonzero(everything.in_task.values))
        np.testing.assert_array_equal(found.start_frame, inside.start_frame)
        np.testing.assert_array_equal(found.features, inside.features)
        assert verify(uris[0]).ok
    assert job.run() == []


def test_a_task_that_holds_no_clip_is_named(tmp_path: Path) -> None:
    job = Job(tmp_path / "job", select={"task_span": True})
    _timed(job, 3.31, 3.32)
    _, prepared = job.prepare()
    (failure,) = prepared.failures
    assert failure.reason == "no clip lies in its task, 3.31 to 3.32 s"


def test_clips_follow_a_span_that_changes(tmp_path: Path) -> None:
    job = Job(tmp_path / "job", select={"task_span": True})
    store = str(job.output / job.recipe.encoder_ids[0] / "u.zarr")
    _timed(job, 1.0, 2.6)
    job.run()
    before = takestream.open(store).load()
    assert _states(job) == [("current", ())]

    _timed(job, 1.0, 2.61)
    assert _states(job) == [("stale", ("span of the task: 1 to 2.6 s → 1 to 2.61 s",))]
    assert job.run() == []
    np.testing.assert_array_equal(takestream.open(store).features, before.features)
    assert _states(job) == [("current", ())]

    _timed(job, 0.5, 1.5)
    assert _states(job)[0][0] == "stale"
    job.run()
    moved = takestream.open(store).load()
    assert moved.in_task.values.all()
    assert not np.array_equal(moved.start_frame, before.start_frame)
    assert verify(store).ok

    _timed(job, 9.0, 2.0)
    assert _states(job) == [("stale", ("span of the task: 0.5 to 1.5 s → the whole take",))]
    job.run()
    assert takestream.open(store).sizes["clip"] > moved.sizes["clip"]
    assert job.run() == []


def test_stores_of_before_the_span_was_noted_have_that_of_their_facts(tmp_path: Path) -> None:
    job = Job(tmp_path / "job", select={"task_span": True})
    _timed(job, 1.0, 2.6)
    job.run()
    store = TakeStore.open(
        str(job.output / job.recipe.encoder_ids[0] / "u.zarr"), job.recipe.output_s3, writable=True
    )
    store.change_attributes(lambda old: old["provenance"].pop("task_span_sec"))
    assert _states(job) == [("current", ())]
    _timed(job, 0.5, 1.5)
    assert _states(job)[0][0] == "stale"


def _states(job: Job) -> list[tuple[str, tuple[str, ...]]]:
    listed = job.recipe.dataset.takes()
    takes = [(take, tuple(stream.key for stream in take.streams)) for take in listed]
    return [(one.state, one.reasons) for one in states(job.recipe, takes)]
