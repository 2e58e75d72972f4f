"""Opening stores by URI and by take, with errors that say what is there."""

import warnings
from pathlib import Path

import pytest

import takestream
from tests.support.stores import make_store
from tests.support.takestores import fill, make_layout, unit_of
from workers.store.takestore import TakeStore


@pytest.fixture(params=["local", "memory"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    root = str(tmp_path / "out put") if request.param == "local" else f"memory://{tmp_path.name}"
    make_store(root, "videomae-base-0123456789", "uid-1", "cmu_bike01_2")
    make_store(root, "videomae-base-0123456789", "uid-2", "cmu_bike01_3")
    make_store(root, "efficientnet_lite-0123456789", "uid-2", "cmu_bike01_3")
    return root


def test_by_uri_uid_and_name(output: str) -> None:
    by_uri = takestream.open(f"{output}/videomae-base-0123456789/uid-1.zarr")
    assert dict(by_uri.sizes) == {"clip": 3, "stream": 2, "feature": 4}
    assert by_uri.features.values.all()
    for take in ("uid-1", "cmu_bike01_2"):
        assert takestream.open(output, take).identical(by_uri)
    both = {"take": "cmu_bike01_3", "encoder": "efficientnet_lite"}
    assert takestream.open(output, **both).attrs["take"]["take_uid"] == "uid-2"


def test_errors_say_what_is_there(output: str) -> None:
    with pytest.raises(FileNotFoundError, match="did you mean 'cmu_bike01_"):
        takestream.open(output, "cmu_bike01_9")
    with pytest.raises(ValueError, match="features of several encoders: encoder= one of"):
        takestream.open(output)  # all takes of which encoder?
    with pytest.raises(ValueError, match="efficientnet_lite-0123456789"):
        takestream.open(output, "uid-2")
    with pytest.raises(FileNotFoundError, match="videomae-base-0123456789"):
        takestream.open(output, "uid-1", encoder="clip")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        takestream.open(f"{output}-not")
    store = f"{output}/videomae-base-0123456789/uid-1.zarr"
    with pytest.raises(FileNotFoundError, match="is of encoder videomae-base-0123456789, not clip"):
        takestream.open(store, encoder="clip")
    assert takestream.open(store, encoder="videomae-base").sizes["clip"] == 3
    with pytest.raises(ValueError, match="which folder"):
        takestream.open("")
    with pytest.raises(FileNotFoundError, match="is of take uid-1"):
        takestream.open(f"{output}/videomae-base-0123456789/uid-1.zarr", "other")


def test_paths_as_people_write_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path / "out", "e-0123456789", "uid-1", "cmu_bike01_2")
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in (tmp_path / "out", f"file://{tmp_path}/out/", "~/out"):
        assert takestream.open(given, "uid-1").sizes["clip"] == 3


def test_a_store_half_made_harms_no_other(tmp_path: Path) -> None:
    make_store(tmp_path, "e-0123456789", "uid-1", "cmu_bike01_2")
    half = tmp_path / "e-0123456789" / "uid-0.zarr"
    half.mkdir()
    assert takestream.open(tmp_path, "cmu_bike01_2").attrs["take"]["take_uid"] == "uid-1"
    with pytest.raises(FileNotFoundError, match="did you mean 'cmu_bike01_2'"):
        takestream.open(tmp_path, "cmu_bike01_3")
    with pytest.raises(FileNotFoundError, match="half made"):
        takestream.open(half)


def test_a_store_that_is_not_complete_says_so(tmp_path: Path) -> None:
    uri = make_store(tmp_path, "e-0123456789", "uid-1", "cmu_bike01_2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        takestream.open(uri)
    root = Path(uri) / "zarr.json"
    root.write_text(root.read_text().replace('"complete"', '"partial"'))
    with pytest.warns(UserWarning, match="is not complete"):
        takestream.open(uri)


def test_an_endpoint_that_is_not_there_is_no_missing_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setattr("takestream.storage.S3_TRIES", 1)
    for read in (takestream.open, takestream.Windows):
        for uri in ("s3://bucket", "s3a://bucket/folder", "s3://bucket/x.zarr"):
            with pytest.raises(ConnectionError, match=r"endpoint http://127\.0\.0\.1:9") as caught:
                read(uri, endpoint_url="http://127.0.0.1:9")
            assert uri.removeprefix("s3a://") in str(caught.value)
        with pytest.raises(PermissionError, match="profile nope"):
            read("s3://bucket", profile="nope")


def test_without_a_take_all_of_an_encoder_are_a_tree(output: str) -> None:
    make_store(output, "videomae-base-0123456789", "uid-4", "cmu_bike01_3")
    make_store(output, "videomae-base-0123456789", "uid-5", "odd/name")
    tree = takestream.open(output, encoder="videomae-base")
    assert list(tree.children) == ["cmu_bike01_2", "uid-2", "uid-4", "uid-5"]
    assert tree["cmu_bike01_2"].to_dataset().identical(takestream.open(output, "uid-1"))
    assert tree["uid-2/features"].sel(stream="cam01_0").shape == (3, 4)
    assert float(tree.mean()["uid-5/features"]) == 1
    with pytest.raises(ValueError, match=r"several takes of that name: take= .*uid-2.*uid-4"):
        takestream.open(output, "cmu_bike01_3", encoder="videomae-base")


def test_a_tree_says_what_is_partial_and_what_it_leaves_out(tmp_path: Path) -> None:
    roots = [
        Path(make_store(tmp_path, "e-0123456789", f"uid-{n}", f"take_{n}")) / "zarr.json"
        for n in range(3)
    ]
    roots[0].write_text(roots[0].read_text().replace('"complete"', '"partial"'))
    roots[1].write_text("{}")
    with (
        pytest.warns(UserWarning, match="1 of 2 takes are not complete"),
        pytest.warns(UserWarning, match="1 stores are left out, e.g. .*uid-1.zarr is not a take"),
    ):
        tree = takestream.open(tmp_path)
    assert list(tree.children) == ["take_0", "take_2"]


def test_a_tree_says_what_its_takes_lost(tmp_path: Path) -> None:
    uris = [make_store(tmp_path, "e-0123456789", f"uid-{n}", f"take_{n}") for n in range(2)]
    (Path(uris[1]) / "reason/c/0/0").unlink()
    with pytest.warns(UserWarning, match=r"1 of 2 takes lost objects; .*uid-1.*reason/c/0/0"):
        takestream.open(tmp_path)


def test_folders_without_a_store_are_no_other_encoder(tmp_path: Path) -> None:
    make_store(tmp_path, "e-0123456789", "uid-1", "take_1")
    (tmp_path / "f-0123456789" / "uid-1.zarr").mkdir(parents=True)
    assert list(takestream.open(tmp_path).children) == ["take_1"]
    with pytest.raises(FileNotFoundError, match="nothing of encoder 'f'"):
        takestream.open(tmp_path, encoder="f")


def test_empty_stores_are_passed_over_and_complete_ones_preferred(tmp_path: Path) -> None:
    root = str(tmp_path)

    def store(encoder_id: str, uid: str, units: int | None) -> None:
        layout = make_layout(take={"take_uid": uid, "take_name": f"name of {uid}"})
        found = TakeStore.create(f"{root}/{encoder_id}/{uid}.zarr", layout)
        if units is None:
            fill(found)
            found.finish()
        elif units:
            values = unit_of(found, found.streams[0], 0)
            found.write(found.streams[0], 0, **values)

    empty, begun, whole, other = (f"enc-{digit * 10}" for digit in "0123")
    store(empty, "uid-1", 0)
    store(begun, "uid-1", 1)
    with pytest.warns(UserWarning, match="not complete"):
        assert begun in takestream.open(root, "uid-1", encoder="enc").encoding["source"]
    store(whole, "uid-1", None)
    for encoder in (None, "enc", whole):
        assert whole in takestream.open(root, "name of uid-1", encoder=encoder).encoding["source"]
        assert [one.uri for one in takestream.Windows(root, encoder=encoder).takes] == [
            f"{root}/{whole}/uid-1.zarr"
        ]
        assert list(takestream.open(root, encoder=encoder).children) == ["name of uid-1"]
    store(whole, "uid-2", 0)
    takes = takestream.Windows(root, encoder="enc", partial=True).takes
    assert [one.uid for one in takes] == ["uid-1"]
    store(other, "uid-1", None)
    for read in (lambda: takestream.open(root, "uid-1"), lambda: takestream.Windows(root)):
        with pytest.raises(ValueError, match=r"several encoders: .*enc-3333333333: .*1 of 1 takes"):
            read()


def test_clips_and_worn_cameras_by_coordinate(output: str, tmp_path: Path) -> None:
    dataset = takestream.open(output, "uid-1")
    assert dataset["clip"].values.tolist() == [0, 1, 2]
    streams = dataset.stream.values.tolist()
    worn = [name.startswith("aria") for name in streams]
    assert dataset.is_ego.dtype == bool
    assert dataset.is_ego.values.tolist() == worn
    assert dataset.sel(stream=~dataset.is_ego).sizes["stream"] == worn.count(False)
    assert dataset.stream.dtype.kind == "U"
    dataset.valid.plot()  # type: ignore[operator]  # axes of text are drawn
    other = takestream.open(output, "uid-2", encoder="videomae-base")
    both = takestream.concat([dataset, other])
    assert both.is_ego.dtype == bool
    assert both["clip"].values.tolist() == [0, 1, 2, 0, 1, 2]
    # What xarray writes of it is read as before.
    copy = tmp_path / "e-0123456789" / "uid-1.zarr"
    dataset.to_zarr(copy, zarr_format=3)
    assert takestream.open(copy).identical(dataset)
