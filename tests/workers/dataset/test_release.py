"""The release as a data set: what its manifests say, and what is wrong with them."""

import json
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from configs.schema import JobSpec
from service.demo.s3server import ObjectStore
from takestream.storage import S3Options
from tests.support.fault_proxy import fault_proxy, in_region, refused
from tests.support.release import PART_448, StandIn
from workers.dataset.base import Dataset
from workers.dataset.egoexo import EgoExo
from workers.dataset.layouts import dataset_of, open_dataset
from workers.dataset.mirrors import Machine, Mirrors, distrust, on_machine
from workers.dataset.regions import Reach
from workers.dataset.release import OFFICIAL, release_root
from workers.dataset.take import DatasetError, Take


@pytest.fixture
def release() -> StandIn:
    made = StandIn()
    made.add("tea", "uni-a", size=lambda path: 10)
    made.add("bike", "uni-b", size=lambda path: 20)
    return made


def read(release: StandIn, folder: Path, **options: Any) -> tuple[Dataset, list[Take]]:
    dataset = open_dataset(release.write(folder), **options)
    return dataset, dataset.takes()


def by_key(take: Take) -> dict[str, Any]:
    return {stream.key: stream for stream in take.streams}


@pytest.mark.parametrize(("resolution", "part"), [("full", "takes"), ("448", PART_448)])
def test_objects_and_sizes_are_the_manifests(
    release: StandIn, folder: Path, resolution: Any, part: str
) -> None:
    dataset, (tea, bike) = read(release, folder, resolution=resolution)
    assert [s.uri for s in tea.streams] == [f"s3://uni-a/k/0/{part}/{n}" for n in range(5)]
    assert [s.key for s in bike.streams] == [
        "aria01_rgb", "aria01_slam-left", "aria01_et", "cam01_0", "gp02_0",
    ]  # fmt: skip
    # No bucket is asked: none of them exists.
    assert dataset.sizes([tea, bike]) == {
        s.uri: size for take, size in ((tea, 10), (bike, 20)) for s in take.streams
    }
    assert dataset.notes() == ()
    assert {s.note for take in (tea, bike) for s in take.streams} == {""}


def test_the_official_release_has_a_name() -> None:
    assert release_root("egoexo://v2") == release_root("egoexo://v2/") == OFFICIAL["v2"]
    assert release_root("s3://mine/copy") == "s3://mine/copy"
    with pytest.raises(DatasetError, match=r"egoexo://v3: there is no such release.*v2"):
        release_root("egoexo://v3")
    dataset = dataset_of(JobSpec(dataset="egoexo://v2", output="o"))
    assert isinstance(dataset, EgoExo)


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"relative_path": "takes/tea/elsewhere.mp4"}, "the manifest of part takes has no takes/"),
        ({"source_path": None}, "gives None as its object, which is no s3://bucket/key"),
        ({"source_path": "file:///etc/passwd"}, "no s3://bucket/key"),
        ({"source_path": "s3://only-a-bucket"}, "no s3://bucket/key"),
        ({"source_path": "s3://b/k::file:///etc/passwd"}, "no s3://bucket/key"),
        ({"size": 0}, "0 bytes"),
    ],
)
def test_a_bad_entry_costs_its_stream(
    release: StandIn, folder: Path, change: dict[str, Any], note: str
) -> None:
    release.paths()[3].update(change)
    dataset, (tea, bike) = read(release, folder)
    lost = by_key(tea)["cam01_0"]
    assert lost.uri is None
    assert note in lost.note
    others = [s for take in (tea, bike) for s in take.streams if s is not lost]
    assert len(others) == 9
    assert all(s.uri and not s.note for s in others)
    assert len(dataset.sizes([tea, bike])) == 9


@pytest.mark.parametrize("size", [None, "10", 1.5, -1, True])
def test_a_size_that_is_none_is_asked_for(
    release: StandIn, folder: Path, size: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    release.paths()[3]["size"] = size
    asked: list[str] = []

    def measured(streams: Any, reach: Any) -> Any:
        asked.extend(stream.uri for stream in streams)
        return [(stream.uri, 77) for stream in streams]

    monkeypatch.setattr("workers.dataset.egoexo.measured", measured)
    dataset, (tea, bike) = read(release, folder)
    stream = by_key(tea)["cam01_0"]
    assert stream.size is None
    assert dataset.sizes([tea, bike])[stream.uri] == 77
    assert asked == [stream.uri]
    assert (f"size as {size!r}" in stream.note) == (size is not None)


def test_entries_that_are_none_cost_themselves(release: StandIn, folder: Path) -> None:
    release.manifests["takes"][1:1] = [
        7, None, [], {"uid": 5, "paths": None}, {"uid": "gone", "paths": [{}, 3]}, {"paths": "x"},
    ]  # fmt: skip
    release.manifests["takes"][0]["paths"].append({"relative_path": 3, "source_path": "s3://b/k"})
    dataset, takes = read(release, folder)
    assert all(s.uri for take in takes for s in take.streams)
    unusable, strange = dataset.notes()
    assert "manifest of part takes: 7 entries cannot be used" in unusable
    assert "1 uids are of takes that takes.json does not know, and are left out: gone" in strange


def test_a_path_that_stands_there_twice(release: StandIn, folder: Path) -> None:
    paths = release.manifests["takes"][0]["paths"]
    paths.append(dict(paths[0]))  # the same again is no matter
    paths.append({**paths[3], "source_path": "s3://other/object"})
    paths.append({**paths[4], "size": 11})
    dataset, (tea, _) = read(release, folder)
    found = by_key(tea)
    assert not found["aria01_rgb"].note
    assert found["cam01_0"].uri == paths[3]["source_path"]
    assert "gives it two objects" in found["cam01_0"].note
    assert found["gp02_0"].size is None
    assert "with 10 and with 11 bytes" in found["gp02_0"].note
    assert "1 paths stand there twice" in dataset.notes()[0]


def test_videos_of_cameras_that_takes_json_does_not_know_are_named(
    release: StandIn, folder: Path
) -> None:
    del release.takes[0]["frame_aligned_videos"]["gp02"]
    release.manifests["takes"][0]["paths"].append({
        "relative_path": "takes/tea/frame_aligned_videos/ego_preview.mp4",
        "source_path": "s3://uni-a/preview", "size": 1,
    })  # fmt: skip
    dataset, (tea, _) = read(release, folder)
    assert "gp02_0" not in by_key(tea)
    (note,) = dataset.notes()
    assert "1 videos are of no camera in takes.json" in note
    assert note.endswith("takes/tea/frame_aligned_videos/gp02.mp4")


def test_a_part_without_a_manifest(release: StandIn, folder: Path) -> None:
    del release.manifests[PART_448]
    root = release.write(folder)
    assert open_dataset(root, "full").takes()
    with pytest.raises(DatasetError, match=r"no part downscaled_takes/448; try --resolution full"):
        open_dataset(root, "448").takes()
    (folder / "takes" / "manifest.json").unlink()
    assert open_dataset(root).takes()  # now it is a mirror
    (folder / "metadata").mkdir()
    (folder / "metadata" / "manifest.json").write_text("[]")
    with pytest.raises(DatasetError, match="no part takes; try --resolution 448"):
        open_dataset(root).takes()


@pytest.mark.parametrize("text", ["", "{}", "[1,", "null", "\xff"])
def test_a_manifest_that_is_none(release: StandIn, folder: Path, text: str) -> None:
    root = release.write(folder)
    (folder / "takes" / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DatasetError, match="not a manifest, a JSON list of entries"):
        open_dataset(root).takes()


def test_without_takes_json_it_is_said_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="writes it with --parts metadata"):
        open_dataset(str(tmp_path)).takes()


class TestMirror:
    """A partial mirror laid over a release."""

    FOLDER = "takes/tea/frame_aligned_videos"

    def put(self, mirror: Path, files: dict[str, int]) -> None:
        for name, size in files.items():
            path = mirror / self.FOLDER / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * size)

    def test_whole_files_are_read_and_others_named(
        self, release: StandIn, folder: Path, tmp_path: Path
    ) -> None:
        mirror = tmp_path / "mirror"
        release.paths()[2]["size"] = None
        self.put(mirror, {
            "aria01_214-1.mp4": 10, "aria01_1201-1.mp4": 9, "aria01_211-1.mp4": 10,
            "cam01.mp4.a_B3c5D7": 10,
        })  # fmt: skip
        (mirror / "takes" / "bike").mkdir()  # empty, as where a bucket refused
        dataset, (tea, bike) = read(release, folder, mirrors={"*": str(mirror)})
        found = {key: dataset.nearest(stream) for key, stream in by_key(tea).items()}
        whole = found["aria01_rgb"]
        assert (whole.uri, whole.note) == (str(mirror / self.FOLDER / "aria01_214-1.mp4"), "")
        assert whole.name == f"{socket.gethostname()}:{mirror}"
        for key, words in {
            "aria01_slam-left": "the mirror's file has 9 of 10 bytes; read from s3://uni-a",
            "aria01_et": "not known whether the mirror's file is whole; read from s3://uni-a",
            "cam01_0": "a broken-off download of it; read from s3://uni-a",
            "gp02_0": "",
        }.items():
            assert found[key].uri.startswith("s3://uni-a/k/0/")
            assert found[key].note.endswith(words)
            assert bool(found[key].note) == bool(words)
        places = [dataset.nearest(stream) for stream in bike.streams]
        assert all(place.uri.startswith("s3://uni-b/") and not place.note for place in places)
        # The data set's own objects stay what they are: sizes and proofs go by them.
        rgb = by_key(tea)["aria01_rgb"]
        assert dataset.where(rgb)[0] == rgb.uri == release.paths()[0]["source_path"]
        assert dataset.sizes([bike, tea.only(["aria01_rgb"])])[rgb.uri] == 10

    def test_a_whole_file_beside_a_broken_download(
        self, release: StandIn, folder: Path, tmp_path: Path
    ) -> None:
        self.put(tmp_path / "m", {"cam01.mp4": 10, "cam01.mp4.abcdefgh": 3, "Cam.mp4.zzzzzzzz": 1})
        dataset, (tea, _) = read(release, folder, mirrors={"*": str(tmp_path / "m")})
        place = dataset.nearest(by_key(tea)["cam01_0"])
        assert place.uri == str(tmp_path / "m" / self.FOLDER / "cam01.mp4")

    def test_a_mirror_lies_over_a_release_alone(self, release: StandIn, folder: Path) -> None:
        release.manifests.clear()
        with pytest.raises(DatasetError, match="leave mirrors out"):
            read(release, folder, mirrors={"*": "m"})
        with pytest.raises(DatasetError, match="such a data set has no mirror"):
            open_dataset("cameras.csv", mirrors={"*": "m"})

    def test_a_mirror_that_is_not_there_is_no_error(self, release: StandIn, folder: Path) -> None:
        dataset, takes = read(release, folder, mirrors={"*": "/nowhere"})
        places = [dataset.nearest(stream) for take in takes for stream in take.streams]
        assert all(place.uri.startswith("s3://") and not place.note for place in places)

    def test_each_machine_has_its_own_nearest_first(
        self, release: StandIn, folder: Path, tmp_path: Path, machine: Callable[..., None]
    ) -> None:
        near, far, other = (tmp_path / name for name in ("near", "far", "other"))
        self.put(near, {"cam01.mp4": 10, "gp02.mp4": 9})
        self.put(far, {"cam01.mp4": 10, "gp02.mp4": 10})
        self.put(other, {"cam01.mp4": 10})
        mirrors = {"gpu-*": str(near), "zone=eu*": str(far), "cpu-1": str(other)}
        dataset, (tea, _) = read(release, folder, mirrors=mirrors)
        cam, gp = (by_key(tea)[key] for key in ("cam01_0", "gp02_0"))

        def names() -> list[tuple[str, str]]:
            return [(p.name, p.note) for p in (dataset.nearest(cam), dataset.nearest(gp))]

        machine("gpu-7", zone="eu-1")
        short = f"the mirror's file has 9 of 10 bytes; read from gpu-7:{far}"
        assert names() == [(f"gpu-7:{near}", ""), (f"gpu-7:{far}", short)]
        machine("gpu-7", zone="us-1")
        short = "the mirror's file has 9 of 10 bytes; read from s3://uni-a"
        assert names() == [(f"gpu-7:{near}", ""), ("s3://uni-a", short)]
        machine("cpu-1")
        assert names() == [(f"cpu-1:{other}", ""), ("s3://uni-a", "")]
        machine("cpu-2", zone="asia")
        assert names() == [("s3://uni-a", ""), ("s3://uni-a", "")]

    def test_several_mirrors_of_all_machines_in_their_order(
        self, release: StandIn, folder: Path, tmp_path: Path
    ) -> None:
        root, one, two = release.write(folder), tmp_path / "one", tmp_path / "two"
        self.put(one, {"cam01.mp4": 10, "gp02.mp4": 9})
        self.put(two, {"cam01.mp4": 10, "gp02.mp4": 10})
        job = JobSpec.model_validate(
            {"dataset": root, "output": "o", "mirror": [str(one), str(two)]}
        )
        dataset = dataset_of(job)
        tea = by_key(dataset.takes()[0])
        found = [dataset.nearest(tea[key]) for key in ("cam01_0", "gp02_0", "aria01_rgb")]
        assert [place.mirror for place in found] == [str(one), str(two), ""]
        assert found[1].note.startswith("the mirror's file has 9 of 10 bytes; read from ")
        for mirror in (3, [3], [""]):
            with pytest.raises(ValueError, match="mirrors"):
                JobSpec.model_validate({"dataset": root, "output": "o", "mirror": mirror})

    def test_a_copy_that_failed_is_read_no_more(
        self, release: StandIn, folder: Path, tmp_path: Path
    ) -> None:
        self.put(tmp_path / "m", {"cam01.mp4": 10})
        dataset, (tea, _) = read(release, folder, mirrors={"*": str(tmp_path / "m")})
        stream = by_key(tea)["cam01_0"]
        place = dataset.nearest(stream)
        assert place.mirror
        distrust(place, "its disk failed")
        assert not dataset.nearest(stream).mirror
        assert dataset.nearest(stream).note == "its disk failed; read from s3://uni-a"

    def test_a_machine_without_its_mirror_says_so(
        self, tmp_path: Path, machine: Callable[..., None]
    ) -> None:
        machine("gpu-7")
        (tmp_path / "m" / "takes").mkdir(parents=True)
        places = {"gpu-*": str(tmp_path / "gone"), "*": str(tmp_path / "m"), "cpu": "/nowhere"}
        found = list(Mirrors(places, lambda uri: S3Options()).absent())
        assert found == [f"gpu-7: nothing is at the mirror {tmp_path / 'gone'}"]


@pytest.fixture
def machine() -> Iterator[Callable[..., None]]:
    """machine(host, label=value, …) makes this process be on that machine."""
    yield lambda host, **labels: on_machine(Machine(host, labels))
    on_machine(Machine())


def split_of(takes: Sequence[Take]) -> list[tuple[Any, Any]]:
    return [(take.splits, take.benchmarks) for take in takes]


def test_splits_are_the_manifests_and_where_it_is_silent_those_of_the_file(
    release: StandIn, folder: Path
) -> None:
    for name in ("third", "fourth"):
        release.add(name, "uni-a")
    entries = release.manifests["takes"]
    entries[1].update(splits=None, benchmarks=[])
    entries[2].update(splits=None, benchmarks=None)
    entries[3].update(splits="test", benchmarks=None)
    silent = [
        (("train",), ("keystep",)), (None, ()), (None, None), (("test",), None),
    ]  # fmt: skip
    _, takes = read(release, folder, annotated=True)
    assert split_of(takes) == silent
    release.splits = {
        "split_to_take_uids": {"train": ["uid-bike"], "val": ["uid-tea", "uid-unknown"]},
        "take_uid_to_split": {"uid-bike": "train"},
        "take_uid_to_benchmark": {"uid-bike": ["pose"], "uid-third": ["pose", "hand"]},
    }
    _, takes = read(release, folder, annotated=True)
    assert split_of(takes) == [
        (("train",), ("keystep",)), (("train",), ()), (None, ("pose", "hand")), (("test",), None),
    ]  # fmt: skip
    release.manifests.clear()
    for part in ("takes", PART_448):
        (folder / part / "manifest.json").unlink()
    _, takes = read(release, folder, annotated=True)
    assert split_of(takes) == [
        (("val",), ()), (("train",), ("pose",)), ((), ("pose", "hand")), ((), ()),
    ]  # fmt: skip
    (folder / "annotations" / "splits.json").write_text(json.dumps([]))
    with pytest.raises(DatasetError, match="expected a JSON object"):
        open_dataset(str(folder), annotated=True).takes()
    (folder / "annotations" / "splits.json").unlink()
    with pytest.raises(DatasetError, match="--parts annotations"):
        open_dataset(str(folder), annotated=True).takes()


def test_a_region_is_asked_for_once_and_told_by_a_refusal_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with ObjectStore(tmp_path / "s3") as server, fault_proxy(server.endpoint_url) as proxy:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
        for name in ("plain", "away", "own"):
            server.make_bucket(name)
        proxy.fault(refused(403, "AccessDenied", x_amz_bucket_region="sa-east-1"), path="^/shut")
        proxy.fault(refused(403, "InvalidAccessKeyId"), path="^/ended")
        proxy.fault(in_region("ap-south-1"), path="^/away")
        s3 = S3Options(endpoint_url=proxy.endpoint_url)
        other = S3Options(profile="other", region="eu-west-1")
        reach = Reach("s3://own/v2", s3, {"map*": other, "mapped": s3})
        for _ in range(2):
            assert reach("s3://shut/a").region == "sa-east-1"
            assert reach("s3://away/a").region == "ap-south-1"
            assert reach("s3://plain/a") == reach("s3://ended/a") == reach("s3://own/a") == s3
            assert reach("s3://mapped/a") == other
            assert reach("/a/path") == s3
        asked = [path for method, path in proxy.seen if method == "HEAD"]
        assert asked.count("/shut") == asked.count("/plain") == asked.count("/ended") == 1
        assert not [path for path in asked if path.startswith(("/own", "/mapped"))]
