"""A job with an image encoder from a folder in the hub's format, frame by frame."""

import json
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import transformers
import xarray as xr

pytestmark = pytest.mark.e2e


def save_checkpoint(folder: Path) -> tuple[torch.nn.Module, object]:
    """A small DINOv2 with random weights, and its own processor."""
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
    )
    model = transformers.Dinov2Model(config).eval()
    model.save_pretrained(folder)
    processor = transformers.BitImageProcessorPil(
        size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56}, resample=3
    )
    processor.save_pretrained(folder)
    return model, processor


def test_every_frame_of_every_stream_has_the_processors_and_models_vector(
    make_video: Callable[..., Path],
    make_dataset: Callable[..., Path],
    takestream: Callable,
    tmp_path: Path,
) -> None:
    model, processor = save_checkpoint(tmp_path / "model")
    streams = {
        "aria01_rgb": make_video(frames=40, crf=15),
        "cam01_0": make_video(frames=37, seed=4, crf=15),
    }
    done = takestream(
        "extract", "--dataset", make_dataset({"take": streams}), "--output", tmp_path / "out",
        "--encoder", "dinov2-base", "--weights", tmp_path / "model", "--dtype", "float32",
        "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    store = xr.open_zarr(json.loads(done.stdout)["stores"][0]).load()
    assert dict(store.sizes) == {"clip": 40, "stream": 2, "feature": 32}
    assert store.valid.sum("clip").values.tolist() == [40, 37]
    assert store.start_frame.values.tolist() == list(range(40))
    for key, video in streams.items():
        with av.open(str(video)) as container:
            frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        pixels = processor(frames, return_tensors="pt")["pixel_values"]  # type: ignore[operator]
        with torch.inference_mode():
            expected = model(pixels).last_hidden_state[:, 0].numpy()
        ours = store.features.sel(stream=key).values[: len(frames)]
        cosine = (ours * expected).sum(1)
        cosine /= np.linalg.norm(ours, axis=1) * np.linalg.norm(expected, axis=1)
        assert cosine.min() >= 0.9999


@pytest.mark.slow
def test_two_encoders_of_one_job_are_what_each_is_alone(
    make_video: Callable[..., Path],
    make_dataset: Callable[..., Path],
    takestream: Callable,
    tmp_path: Path,
) -> None:
    save_checkpoint(tmp_path / "model")
    streams = {
        "aria01_rgb": make_video(frames=70, crf=15),
        "cam01_0": make_video(frames=70, seed=4, crf=15),
    }
    dataset = make_dataset({"take": streams})
    image = {"preset": "dinov2-base", "weights": str(tmp_path / "model")}
    job = {
        "dataset": str(dataset), "output": str(tmp_path / "both"),
        "encoders": ["efficientnet_lite", image],
    }  # fmt: skip
    (tmp_path / "job.yaml").write_text(json.dumps(job))
    planned = json.loads(takestream("plan", "--job", tmp_path / "job.yaml", "--json").stdout)
    done = takestream("extract", "--job", tmp_path / "job.yaml", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["encoder_ids"] == [one["encoder_id"] for one in planned["encoders"]]
    assert report["frames_decoded"] == 140
    assert report["clips"]["written"] == 2 * (4 + 70)
    both = [xr.open_zarr(uri).load() for uri in report["stores"]]
    one_each = [["efficientnet_lite"], ["dinov2-base", "--weights", image["weights"]]]
    for number, encoder in enumerate(one_each):
        alone = takestream(
            "extract", "--dataset", dataset, "--output", tmp_path / str(number),
            "--encoder", *encoder, "--json",
        )  # fmt: skip
        (uri,) = json.loads(alone.stdout)["stores"]
        assert report["encoder_ids"][number] in uri
        xr.testing.assert_identical(
            both[number].drop_attrs(), xr.open_zarr(uri).load().drop_attrs()
        )
    again = takestream("extract", "--job", tmp_path / "job.yaml")
    assert "Nothing to do: 1 take complete already" in again.stdout
    refused = takestream("extract", "--job", tmp_path / "job.yaml", "--precision", "bfloat16")
    assert refused.returncode == 2
    assert "would change one of 2 encoders" in refused.stderr
