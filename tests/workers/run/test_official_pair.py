"""The official pair from a film to its store, in one decoding, as the official extractor has it."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from configs.load import load_job
from models.encoder import load_encoder
from models.families import maws, omnivore
from models.weights import fetch
from service.cli.main import run
from service.demo.footage import encode_video
from tests.support import official
from tests.support.brightness import Job
from tests.support.films import pictures
from workers.dataset.egoexo import read_takes
from workers.run.extract import UnitExtractor
from workers.run.recipe import Recipe, make_recipe

FRAMES, STREAM = 34, "cam01_0"
LOOKED_AT = [0, 20, 33]
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    where = Job(tmp_path)
    encode_video(where.path(STREAM), pictures(FRAMES, 426, 240, 3), audio=False, gop=12)
    where.path("cam02_0").unlink()
    torch.save(official.omnivore_tensors(), tmp_path / "o.torch")
    torch.save(official.maws_tensors(), tmp_path / "m.pt")
    encoders = [
        {"preset": "omnivore-swin-l", "weights": str(tmp_path / "o.torch")},
        {"preset": "maws-clip-2b", "weights": str(tmp_path / "m.pt"), "precision": "float32"},
        "efficientnet_lite",
    ]
    return make_recipe(load_job(None, {
        "dataset": str(where.root), "output": str(where.output), "encoders": encoders,
        "store": {"dtype": "float32"}, "run": {"runtime": "pytorch"},
    }))  # fmt: skip


def theirs(frames: list[Tensor], recipe: Recipe, moved: int = 0) -> dict[str, NDArray[np.float32]]:
    """The vectors of clips as the official extractor makes them, where `moved` is 0.

    frames: float32 [3, H, W]. moved: columns by which the crop lies elsewhere.
    """
    clips = [frames[:32], frames[2:]]
    pair = recipe.targets[:2]
    video, picture = (
        family.build(target.encoder, fetch(target.encoder.weights))
        for family, target in zip((omnivore, maws), pair, strict=True)
    )
    found = {}
    with torch.inference_mode():
        vectors = []
        for clip in clips:
            x = (torch.stack(clip) / 255.0).sub(MEAN).div(STD)
            x = F.interpolate(x, (256, 454), mode="bilinear", align_corners=False)
            vectors.append(video(x[None, :, :, 16:240, 115 + moved : 339 + moved])[0])
        found["omnivore-swin-l"] = torch.stack(vectors)
        x = torch.stack([frames[number] for number in LOOKED_AT]) / 255.0
        x = F.interpolate(x, (224, 397), mode="bicubic", align_corners=False)
        # Half of 397 - 224 is 86.5, which rounds to even.
        x = x[..., 86 + moved : 310 + moved].sub(MEAN).div(STD)
        found["maws-clip-2b"] = torch.cat([picture(one[None, None]) for one in x])
    return {name: vectors.numpy() for name, vectors in found.items()}


def test_stores_hold_what_the_makers_steps_give(recipe: Recipe) -> None:
    cpu = torch.device("cpu")
    encoders = [load_encoder(t.encoder, cpu, runtime="pytorch") for t in recipe.targets]
    (take,) = read_takes(recipe.job.dataset)
    extractor = UnitExtractor(recipe, encoders, cpu)
    prepared = extractor.prepare(take, [STREAM])
    records = [extractor.extract(unit) for unit in prepared.units]
    assert extractor.finish(take).complete
    # Three encoders, and each frame is decoded once.
    assert sum(record.counts["frames_decoded"] for record in records) == FRAMES
    path = next(s.uri for s in take.streams if s.key == STREAM)
    with av.open(path) as container:
        frames = [
            torch.from_numpy(frame.to_rgb().to_ndarray()).permute(2, 0, 1).float()
            for frame in container.decode(video=0)
        ]
    expected, elsewhere = theirs(frames, recipe), theirs(frames, recipe, moved=1)
    for target in recipe.targets[:2]:
        store = xr.open_zarr(recipe.store_uri(take.uid, target)).load()
        name, ours = target.encoder.name, store.features.values[:, 0]
        if name == "maws-clip-2b":
            assert len(ours) == FRAMES
            ours = ours[LOOKED_AT]
        apart = np.abs(ours - expected[name]).max()
        assert apart < 2e-6 * np.abs(expected[name]).max()
        # One column further is another vector.
        assert np.abs(ours - elsewhere[name]).max() > 10 * apart
        assert store.attrs["encoder"]["preprocess"]["method"] == "float"
    files = Path(recipe.job.output).parent / "omnivore_video"
    files.mkdir()
    for vectors, code in ((expected, 0), (elsewhere, 1)):
        # As the extractor leaves them.
        tensor = torch.from_numpy(vectors["omnivore-swin-l"])[:, None]
        torch.save(tensor, files / f"{take.uid}_{STREAM}.pt")
        ours = f"{recipe.job.output}/{recipe.encoder_ids[0]}"
        assert run(["compare", str(files), ours, "--min-cosine", "0.9999999"]) == code
    plain = xr.open_zarr(recipe.store_uri(take.uid, recipe.targets[2]))
    assert "method" not in plain.attrs["encoder"]["preprocess"]


def test_the_method_is_part_of_the_encoder_id(recipe: Recipe) -> None:
    spec = recipe.target.encoder
    assert spec.preprocess is not None
    other = spec.model_copy(
        update={"preprocess": spec.preprocess.model_copy(update={"method": "pil"})}
    )
    assert spec.identity() != other.identity()
