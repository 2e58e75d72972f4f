"""Objects read from the mirrors of a machine: whole, short, damaged, gone; and what is said."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs
import torch
import xarray as xr

from configs.load import load_job
from service.demo.s3server import ObjectStore
from takestream.schema import READ_FROM
from tests.support.brightness import STREAMS, BrightnessEncoder, Job
from tests.support.release import StandIn
from workers.dataset.layouts import dataset_of
from workers.dataset.mirrors import Machine, on_machine
from workers.run.extract import UnitExtractor
from workers.run.recipe import Recipe, make_recipe
from workers.run.tasks import PreparedTake, UnitRecord

FOLDER = "takes/t/frame_aligned_videos"
CAMERAS = {name[:5]: {"0": name} for name in STREAMS}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return Job(tmp_path_factory.mktemp("job"))


@pytest.fixture(scope="module")
def root(local: Job, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ObjectStore]]:
    """A release whose videos lie on S3."""
    made = StandIn()
    sizes = {name: local.path(name).stat().st_size for name in STREAMS}
    made.add("t", "videos", CAMERAS, lambda path: sizes[Path(path).stem], take_uid="u")
    for part in made.manifests.values():
        part[0]["uid"] = "u"
    with ObjectStore(tmp_path_factory.mktemp("s3")) as server:
        server.make_bucket("videos")
        filesystem = s3fs.S3FileSystem(**server.storage_options())
        for path in made.paths():
            filesystem.put(str(local.path(Path(path["relative_path"]).stem)), path["source_path"])
        yield made.write(tmp_path_factory.mktemp("release")), server


class Run:
    """A job over the release, as the workers of a machine do it."""

    def __init__(self, root: tuple[str, ObjectStore], output: Path, **mirrors: Path) -> None:
        self.job = {
            "dataset": root[0], "output": str(output), "mirrors": {k: str(v) for k, v in
            mirrors.items()}, "s3": {"endpoint_url": root[1].endpoint_url, "patience": 2.0},
            "store": {"unit_frames": 32, "dtype": "float32"},
        }  # fmt: skip
        self.recipe: Recipe = make_recipe(load_job(None, self.job))
        (self.take,) = dataset_of(self.recipe.job).takes()

    def on(self, host: str) -> UnitExtractor:
        """An extractor in a process of its own on a machine."""
        on_machine(Machine(host))
        encoders = [BrightnessEncoder(target.encoder) for target in self.recipe.targets]
        return UnitExtractor(self.recipe, encoders, torch.device("cpu"))

    def whole(self, host: str) -> tuple[PreparedTake, list[UnitRecord]]:
        extractor = self.on(host)
        prepared = extractor.prepare(self.take, STREAMS)
        assert not prepared.failures
        records = [extractor.extract(unit) for unit in prepared.units]
        if records:
            assert extractor.finish(self.take).complete
        return prepared, records

    @property
    def store(self) -> xr.Dataset:
        return xr.open_zarr(self.recipe.store_uri("u")).load()


@pytest.fixture(autouse=True)
def keys(root: tuple[str, ObjectStore], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    options = root[1].storage_options()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", options["key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", options["secret"])
    yield
    on_machine(Machine())


@pytest.fixture(scope="module")
def expected(local: Job) -> xr.Dataset:
    local.run()
    return local.dataset()


def copied(local: Job, mirror: Path) -> Path:
    for name in STREAMS:
        (mirror / FOLDER).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(local.path(name), mirror / FOLDER / f"{name}.mp4")
    return mirror


def provenance(found: xr.Dataset, name: str) -> dict[str, object]:
    facts: dict[str, object] = found.attrs["provenance"]["streams"][name]
    return facts


def test_a_take_is_read_at_each_machine_from_what_it_has(
    root: tuple[str, ObjectStore], local: Job, expected: xr.Dataset, tmp_path: Path
) -> None:
    one, two = (copied(local, tmp_path / name) for name in ("one", "two"))
    (two / FOLDER / "cam02_0.mp4").unlink()
    run = Run(root, tmp_path / "out", **{"host-1": one, "host-2": two})
    prepared = run.on("host-1").prepare(run.take, STREAMS)
    # Units of one take on three machines: two mirrors with files of other times, and none.
    records = []
    for number, unit in enumerate(prepared.units):
        records.append(run.on(f"host-{number % 3 + 1}").extract(unit))
    assert len(records) >= 3
    assert run.on("host-3").finish(run.take).complete
    assert [record.places for record in records[:3]] == [
        {"cam01_0": f"host-1:{one}", "cam02_0": f"host-1:{one}"},
        {"cam01_0": f"host-2:{two}", "cam02_0": "s3://videos"},
        {"cam01_0": "s3://videos", "cam02_0": "s3://videos"},
    ]
    found = run.store
    xr.testing.assert_equal(found, expected)
    assert not found.attrs["problems"]
    first = provenance(found, "cam01_0")
    assert (first["host"], first["uri"]) == ("host-1", str(one / FOLDER / "cam01_0.mp4"))
    assert first[READ_FROM] == sorted([f"host-1:{one}", f"host-2:{two}", "s3://videos"])
    assert provenance(found, "cam02_0")[READ_FROM] == [f"host-1:{one}", "s3://videos"]
    # Wherever the next run is, it is the same video: nothing is done again.
    for host in ("host-1", "host-2", "host-3"):
        assert run.whole(host)[0].units == ()
    assert Run(root, tmp_path / "out").whole("host-1")[0].units == ()


def test_the_same_path_on_two_disks_is_no_change(
    root: tuple[str, ObjectStore], local: Job, expected: xr.Dataset, tmp_path: Path
) -> None:
    mirror = copied(local, tmp_path / "mirror")
    run = Run(root, tmp_path / "out", **{"*": mirror})
    run.whole("host-1")
    for name in STREAMS:
        (mirror / FOLDER / f"{name}.mp4").touch()
    assert run.whole("host-2")[0].units == ()
    xr.testing.assert_equal(run.store, expected)


def test_a_damaged_copy_costs_nothing(
    root: tuple[str, ObjectStore], local: Job, expected: xr.Dataset, tmp_path: Path
) -> None:
    mirror = copied(local, tmp_path / "mirror")
    path = mirror / FOLDER / "cam01_0.mp4"
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(600)
    path.write_bytes(data)
    (mirror / FOLDER / "cam02_0.mp4").write_bytes(bytes(local.path("cam02_0").stat().st_size))
    run = Run(root, tmp_path / "out", **{"*": mirror})
    _, records = run.whole("host-1")
    found = run.store
    xr.testing.assert_equal(found, expected)
    assert records[-1].places == {"cam01_0": "s3://videos", "cam02_0": "s3://videos"}
    assert provenance(found, "cam01_0")[READ_FROM] == [f"host-1:{mirror}", "s3://videos"]
    (why,) = found.attrs["problems"]["cam02_0"]
    assert "the mirror's file cannot be read" in why
    assert why.endswith("read from s3://videos")


def test_a_copy_that_vanishes_under_way_costs_nothing(
    root: tuple[str, ObjectStore], local: Job, expected: xr.Dataset, tmp_path: Path
) -> None:
    mirror = copied(local, tmp_path / "mirror")
    run = Run(root, tmp_path / "out", **{"*": mirror, "host-*": tmp_path / "none"})
    extractor = run.on("host-1")
    prepared = extractor.prepare(run.take, STREAMS)
    first = extractor.extract(prepared.units[0])
    shutil.rmtree(mirror)
    rest = [extractor.extract(unit) for unit in prepared.units[1:]]
    assert extractor.finish(run.take, {"cam01_0": ["host-9:/m"]}).complete
    assert set(first.places.values()) == {f"host-1:{mirror}"}
    assert {place for one in rest for place in one.places.values()} == {"s3://videos"}
    assert first.notes == (f"host-1: nothing is at the mirror {tmp_path / 'none'}",)
    xr.testing.assert_equal(run.store, expected)
    kept = provenance(run.store, "cam01_0")[READ_FROM]
    assert kept == sorted([f"host-1:{mirror}", "host-9:/m", "s3://videos"])
    assert json.loads(run.recipe.job.model_dump_json())["mirrors"]["host-*"].endswith("none")
