"""What is exported, read as the public readers of official features read it; and imported again."""

import contextlib
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import fsspec
import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import xarray as xr

from configs.load import SettingsError
from service.cli.main import run
from service.transfer import exports
from service.transfer.exports import ExportJob, export_to
from service.transfer.imports import Imported, ImportJob, import_to
from service.transfer.official import NoFeatures, as_features, parse_file, split_name
from service.transfer.rule import OFFICIAL
from service.transfer.stored import choose_stores
from takestream.licence import ATTRIBUTE, Licence, Licences
from takestream.storage import S3Options
from tests.support.features import features_of, make_features, official_starts
from tests.support.release import StandIn
from tests.support.takestores import die_after
from workers.dataset.egoexo import LICENCE
from workers.dataset.layouts import open_dataset
from workers.dataset.take import DatasetError
from workers.store.verify import verify

S3 = S3Options()
TEA = {"Aria_rgb": 100, "cam01_0": 200, "cam02_0": 300, "cam03_0": 400, "gp04_0": 500}
FORMATS = ("pt", "npy", "hdf5", "parquet", "webdataset")


@pytest.fixture
def output(tmp_path: Path) -> str:
    root = str(tmp_path / "features")
    make_features(root, "uid-tea", 120, TEA, invalid={"cam01_0": [2]})
    make_features(root, "uid-short", 20, {"Aria_rgb": 600})
    return root


def job(output: str, form: Any = "pt", **more: Any) -> ExportJob:
    given = {"dtype": "float32", "invalid": "nan", **more}
    return ExportJob(choose_stores(output, None, None, S3), form, s3=S3, **given)


def test_the_proficiency_baselines_loop(output: str, tmp_path: Path) -> None:
    export_to(job(output), str(tmp_path / "pt"), S3)
    cameras = [{"cam_id": key.split("_")[0], "is_ego": key.startswith("Aria")} for key in TEA]
    ego = next(c["cam_id"] for c in cameras if c["is_ego"])
    exo = [c["cam_id"] for c in cameras if not c["is_ego"]][:4]
    names = [f"uid-tea_{ego}_rgb.pt", *(f"uid-tea_{cam}_0.pt" for cam in exo)]
    found = [torch.load(tmp_path / "pt" / name).squeeze() for name in names]
    assert torch.cat(found, dim=1).shape == (7, 5 * 4)
    assert {one.dtype for one in found} == {torch.float32}
    np.testing.assert_array_equal(found[2], features_of(300, 7))
    # The damaged clip stands there as NaN, so that all cameras have as many rows.
    np.testing.assert_array_equal(torch.isnan(found[1]).any(1), np.arange(7) == 2)
    # A take of one clip keeps its first dimension.
    assert torch.load(tmp_path / "pt" / "uid-short_Aria_rgb.pt").shape == (1, 4)
    for path in (tmp_path / "pt").glob("*.pt"):
        take_uid, _cam, _stream = path.stem.split("_")
        assert take_uid in ("uid-tea", "uid-short")


def test_the_hdf5_tutorials_loop(output: str, tmp_path: Path) -> None:
    export_to(job(output, "hdf5", dtype="float16", invalid="zero"), str(tmp_path / "h5"), S3)
    lengths = {}
    with h5py.File(tmp_path / "h5" / "features.hdf5") as file:
        for key in file.keys():  # noqa: SIM118 - as they do it
            take_uid, cam_id, stream_id = key.split("_")
            values = file[key][...]
            assert values.dtype == np.float16
            lengths[take_uid, cam_id, stream_id] = values.shape
        assert not file["uid-tea_cam01_0"][2].any()
    assert lengths["uid-tea", "gp04", "0"] == (7, 4)
    assert lengths["uid-short", "Aria", "rgb"] == (1, 4)
    assert len(lengths) == 6
    assert not list((tmp_path / "h5").glob("*.partial"))


def test_parquet_and_npy(output: str, tmp_path: Path) -> None:
    export_to(job(output, "parquet"), str(tmp_path / "pq"), S3)
    table = pq.read_table(tmp_path / "pq" / "uid-tea.parquet")
    rows = table.filter(np.array(table["stream"].to_pylist()) == "cam02_0").to_pylist()
    assert [row["clip"] for row in rows] == list(range(7))
    np.testing.assert_allclose([row["features"] for row in rows], features_of(300, 7))
    np.testing.assert_allclose([row["start_time"] for row in rows], official_starts(120) / 30)
    (bad,) = [row for row in table.to_pylist() if not row["valid"]]
    assert (bad["stream"], bad["clip"], bad["reason"]) == ("cam01_0", 2, 6)
    export_to(job(output, "npy"), str(tmp_path / "npy"), S3)
    np.testing.assert_array_equal(
        np.load(tmp_path / "npy" / "uid-tea_gp04_0.npy"), features_of(500, 7)
    )


def samples(path: Path) -> dict[str, dict[str, Any]]:
    """A shard as WebDataset reads it: members in a row, of one name up to its first dot."""
    found: dict[str, dict[str, Any]] = {}
    with tarfile.open(path, mode="r|") as shard:
        for member in shard:
            key, _, kind = member.name.partition(".")
            assert kind not in found.get(key, {})
            assert key in found or kind == "features.npy"
            data = shard.extractfile(member)
            assert data is not None
            raw = data.read()
            value = json.loads(raw) if kind == "json" else np.load(io.BytesIO(raw))
            found.setdefault(key, {})[kind] = value
    return found


def test_shards_of_webdataset(output: str, tmp_path: Path) -> None:
    shards = tmp_path / "wds"
    result = export_to(job(output, "webdataset", dtype="float16"), str(shards), S3)
    assert result.invalid == 1
    found = samples(shards / "uid-tea.tar")
    assert list(found) == [f"uid-tea-{clip:06d}" for clip in range(7)]
    starts = official_starts(120) / 30
    for clip, sample in enumerate(found.values()):
        said = sample["json"]
        assert (sorted(said["streams"]), said["clip"]) == (sorted(TEA), clip)
        assert said["start_time"] == pytest.approx(starts[clip])
        assert said["take_uid"] == "uid-tea"
        assert said["licences"]
        bad = [said["streams"].index("cam01_0")] if clip == 2 else []
        assert np.flatnonzero(~sample["valid.npy"]).tolist() == bad
        assert np.flatnonzero(np.isnan(sample["features.npy"]).any(1)).tolist() == bad
        row = said["streams"].index("cam02_0")
        expected = features_of(300, 7)[clip].astype(np.float16)
        np.testing.assert_array_equal(sample["features.npy"][row], expected)
    assert len(samples(shards / "uid-short.tar")) == 1
    first = (shards / "uid-tea.tar").read_bytes()
    again = tmp_path / "again"
    export_to(job(output, "webdataset", dtype="float16"), str(again), S3)
    assert (again / "uid-tea.tar").read_bytes() == first


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("writes", [0, 1, 3])
def test_an_export_goes_on_and_follows_its_stores(
    output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Any, writes: int
) -> None:
    target = str(tmp_path / "out")
    monkeypatch.setattr(exports, "SAVED_EVERY", 1)
    with monkeypatch.context() as patch:
        die_after(writes, patch, ConnectionError)
        with contextlib.suppress(ConnectionError):
            export_to(job(output, form), target, S3)
    export_to(job(output, form), target, S3)
    whole = str(tmp_path / "whole")
    assert export_to(job(output, form), whole, S3).done == 2
    names = sorted(p.name for p in Path(whole).iterdir())
    assert names == sorted(p.name for p in Path(target).iterdir())
    assert export_to(job(output, form), target, S3).done == 0
    with pytest.raises(SettingsError, match=r"something else \(other invalid\)"):
        export_to(job(output, form, invalid="zero"), target, S3)
    # A store that was made again is written again, alone.
    shutil.rmtree(tmp_path / "features" / "tiny-0123456789" / "uid-short.zarr")
    make_features(output, "uid-short", 64, {"Aria_rgb": 700})
    assert export_to(job(output, form), target, S3).done == 1
    if form == "hdf5":
        with h5py.File(tmp_path / "out" / "features.hdf5") as file:
            assert len(file) == 6
            np.testing.assert_array_equal(file["uid-short_Aria_rgb"], features_of(700, 3))
            np.testing.assert_array_equal(file["uid-tea_gp04_0"], features_of(500, 7))


TERMS = Licence("terms", "https://example.org/terms")


def say_licence(output: str) -> None:
    """Have the store of one take say under which licence its videos were used."""
    root = Path(output) / "tiny-0123456789" / "uid-tea.zarr" / "zarr.json"
    said = json.loads(root.read_text())
    said["attributes"][ATTRIBUTE] = TERMS.facts()
    root.write_text(json.dumps(said))


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_names_the_licences_of_its_stores(output: str, tmp_path: Path, form: Any) -> None:
    target, sidecar = tmp_path / "out", tmp_path / "out" / exports.SIDECAR
    assert export_to(job(output, form), str(target), S3).done == 2
    none = {"dataset": None, "encoder": None}
    assert json.loads(sidecar.read_text())["licences"] == [none]
    # An export of before licences were kept gets them without any take being written again.
    say_licence(output)
    told = {**none, "dataset": TERMS.facts()}
    before = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps({k: v for k, v in before.items() if k != "licences"}))
    assert export_to(job(output, form), str(target), S3).done == 0
    now = json.loads(sidecar.read_text())
    assert now.pop("licences") == [none, told]
    assert now == {k: v for k, v in before.items() if k != "licences"}
    whole = tmp_path / "whole"
    export_to(job(output, form), str(whole), S3)
    if form == "hdf5":
        with h5py.File(whole / "features.hdf5") as file:
            assert json.loads(file["uid-tea_cam01_0"].attrs["licences"]) == told
    if form == "parquet":
        facts = pq.read_schema(whole / "uid-tea.parquet").metadata[b"takestream"]
        assert json.loads(facts)["licences"] == told


def test_the_commands_tell_and_take_licences(
    output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    say_licence(output)
    assert run(["export", output, "--output", str(tmp_path / "pt")]) == 0
    assert f"licences: videos: {TERMS}; encoder: not said" in capsys.readouterr()[0]
    command = ["import", str(tmp_path / "pt"), "--name", "omnivore", "--output"]
    assert run([*command, str(tmp_path / "bare")]) == 0
    own = [
        "--dataset-licence",
        "terms https://example.org/terms",
        "--encoder-licence",
        "CC-BY-NC-4.0",
    ]
    assert run([*command, str(tmp_path / "said"), *own]) == 0
    assert run([*command, str(tmp_path / "bad"), "--dataset-licence", " "]) == 2
    assert "--dataset-licence: a licence's name" in capsys.readouterr()[1]

    def licences(folder: str) -> Licences:
        return Licences.of(xr.open_zarr(next((tmp_path / folder).glob("*/uid-tea.zarr"))).attrs)

    assert licences("bare") == Licences()
    assert licences("said") == Licences(TERMS, Licence("CC-BY-NC-4.0"))


def test_what_does_not_fit_float16(tmp_path: Path) -> None:
    make_features(tmp_path, "uid-x", 64, {"cam01_0": 70_000})
    with pytest.raises(SettingsError, match="too large for float16: --dtype float32"):
        export_to(job(str(tmp_path), dtype="float16"), str(tmp_path / "out"), S3)


def imported(source: str, output: str, *, dataset: str | None = None, **more: Any) -> Imported:
    takes = {t.uid: t for t in open_dataset(dataset).takes()} if dataset else {}
    name = more.get("name", "omnivore_video")
    return import_to(ImportJob(source, name, takes, S3, dataset), output, S3)


@pytest.mark.parametrize("form", ["pt", "npy", "hdf5"])
def test_there_and_back(output: str, tmp_path: Path, form: Any) -> None:
    target, back = str(tmp_path / "there"), str(tmp_path / "back")
    export_to(job(output, form), target, S3)
    source = f"{target}/features.hdf5" if form == "hdf5" else target
    release = StandIn()
    release.add("tea", "cmu", duration_sec=121 / 30)
    release.add("short", "cmu", duration_sec=21 / 30)
    result = imported(source, back, dataset=release.write(tmp_path / "data"))
    assert (result.takes, result.done, result.uncertain) == (2, 2, 0)
    for uid in ("uid-tea", "uid-short"):
        report = verify(f"{back}/{result.encoder_id}/{uid}.zarr")
        assert report.faults == []
        one = xr.open_zarr(f"{output}/tiny-0123456789/{uid}.zarr").load()
        other = xr.open_zarr(report.uri).load().sel(stream=one.stream)
        for name in ("features", "valid", "reason", "start_frame", "stop_frame", "start_time"):
            np.testing.assert_array_equal(one[name], other[name])
        assert other.attrs["take"]["take_name"] == uid.removeprefix("uid-")
        assert set(other.attrs["provenance"]["imported"]["files"]) == set(one.stream.values)
        assert other.attrs[ATTRIBUTE] == LICENCE.facts()
    assert imported(source, back, dataset=str(tmp_path / "data")).done == 0
    make_features(output, "uid-new", 64, {"Aria_rgb": 1})
    assert "uid-new" not in str(result)


def save(folder: Path, **tensors: Any) -> None:
    folder.mkdir(exist_ok=True)
    for name, value in tensors.items():
        torch.save(value, folder / f"{name.replace('__', '-')}.pt")


def test_the_shapes_that_occur_and_what_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "official"
    save(
        folder, a_aria01_rgb=torch.ones(5, 1, 3), a_cam_left_0=torch.ones(4, 3),
        b_cam01_0=torch.ones(3), c_cam01_0=torch.ones(2, 3, dtype=torch.float16),
        d_cam01_0={"features": torch.ones(2, 3)}, e_cam01_0=torch.ones(2, 2, 3),
        f_cam01_0=torch.ones(2, 3, dtype=torch.int64), g_cam01_0=torch.zeros(0, 3),
        h_cam01_0=torch.full((2, 3), torch.nan), a_cam09_0=torch.ones(5, 7),
        nonsense=torch.ones(2, 3),
    )  # fmt: skip
    (folder / "config.yaml").write_text("model: x\n")
    (folder / "i_cam01_0.pt").write_bytes(b"PK\x03\x04 torn")
    result = imported(str(folder), str(tmp_path / "out"))
    assert result.left_out.keys() == {
        "config.yaml", "nonsense.pt", "d_cam01_0.pt", "e_cam01_0.pt", "f_cam01_0.pt",
        "g_cam01_0.pt", "i_cam01_0.pt", "a_cam09_0.pt",
    }  # fmt: skip
    assert "holds a dict" in result.left_out["d_cam01_0.pt"]
    assert "[2, 2, 3]" in result.left_out["e_cam01_0.pt"]
    assert "7 numbers, the take's others 3" in result.left_out["a_cam09_0.pt"]
    stores = {uid: xr.open_zarr(f"{tmp_path}/out/{result.encoder_id}/{uid}.zarr").load()
              for uid in "abch"}  # fmt: skip
    a = stores["a"]
    assert a.stream.values.tolist() == ["aria01_rgb", "cam_left_0"]
    assert a.valid.values.tolist() == [[True, True]] * 4 + [[True, False]]
    assert a.attrs["problems"]["cam_left_0"][0] == "its file has 4 of the take's 5 clips"
    assert "where its last clip lies is not known" in a.attrs["problems"]["aria01_rgb"][0]
    assert stores["b"].sizes["clip"] == 1
    assert stores["c"].features.dtype == np.float16
    assert not stores["h"].valid.any()
    for uid in "abch":
        assert verify(f"{tmp_path}/out/{result.encoder_id}/{uid}.zarr").faults == []
    assert result.uncertain == 4


def test_a_file_that_changed_is_imported_again(tmp_path: Path) -> None:
    folder, out = tmp_path / "official", str(tmp_path / "out")
    save(folder, a_cam01_0=torch.ones(5, 3), b_cam01_0=torch.ones(5, 3))
    assert imported(str(folder), out).done == 2
    save(folder, a_cam01_0=torch.ones(9, 3))
    result = imported(str(folder), out)
    assert (result.takes, result.done) == (2, 1)
    assert xr.open_zarr(f"{out}/{result.encoder_id}/a.zarr").sizes["clip"] == 9


def test_code_in_a_pt_file_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path(tmp_path / "ran").touch, ())

    data = io.BytesIO()
    torch.save({"x": Evil()}, data)
    with pytest.raises(NoFeatures, match="cannot be read"):
        parse_file("a.pt", data.getvalue())
    data = io.BytesIO()
    np.save(data, np.array([{}], dtype=object))
    with pytest.raises(NoFeatures, match="cannot be read"):
        parse_file("a.npy", data.getvalue())
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "uids", "parts"),
    [
        ("u-1_cam01_0", (), ("u-1", "cam01_0")), ("u-1_cam_left_0", (), ("u-1", "cam_left_0")),
        ("my_take_cam01_0", ("my", "my_take"), ("my_take", "cam01_0")),
        ("u_cam", (), None), ("_a_b", (), None), ("config", (), None), ("u__", (), None),
    ],
)  # fmt: skip
def test_names(name: str, uids: tuple[str, ...], parts: tuple[str, str] | None) -> None:
    if parts:
        assert split_name(name, uids) == parts
    else:
        with pytest.raises(NoFeatures):
            split_name(name, uids)


def test_shapes_and_the_official_rule() -> None:
    assert as_features(np.ones((1, 1, 4), np.float64)).shape == (1, 4)
    assert as_features(np.ones((1, 4), np.float32)).dtype == np.float32
    for frames in range(1, 200):
        assert OFFICIAL.clips(frames) == len(official_starts(frames))


def test_the_commands_over_s3_like_storage(output: str, capsys: Any, tmp_path: Path) -> None:
    target = f"memory://exports/{tmp_path.name}"
    make_features(output, "uid-half", 64, {"head_left_0": 1}, finish=False)
    make_features(output, "uid-odd", 64, {"head_left_0": 1})
    for form in FORMATS:
        assert run(["export", output, "--output", f"{target}/{form}", "--format", form]) == 1
        out, err = capsys.readouterr()
        assert "3 takes in memory://" in out
        assert "into three cannot take these streams apart: head_left_0" in out
        assert "1 stores are not complete and were left out (name of uid-half" in err
    assert fsspec.filesystem("memory").exists(f"{target}/hdf5/features.hdf5")
    command = ["import", f"{target}/pt", "--output", str(tmp_path / "in"), "--name"]
    assert run([*command, "omnivore", "--json"]) == 0
    facts = json.loads(capsys.readouterr()[0])
    assert (facts["takes"], facts["uncertain"]) == (3, 3)
    assert (Path(facts["output"]) / "catalogue.parquet").exists()
    assert facts["left_out"] == {"takestream.json": "it is neither .pt nor .npy"}
    assert run([*command, "../evil"]) == 2
    assert run(["import", str(tmp_path / "none"), "--output", "o", "--name", "x"]) == 2
    with pytest.raises(DatasetError, match="no feature files"):
        imported(str(tmp_path / "features"), str(tmp_path / "o"))
