"""Real shots, real weights: places are told apart, less so where red and blue change places.

Swapped in all shots alike, colours still tell the places apart: over ten settings (parts of 0.3 or
0.5 of the height, one or four to a shot) the linear probe lost 0.1 points on the mean, and
neighbours gained 1.7. So what is measured is what goes wrong in a data set: the takes of some
people are swapped.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from configs.load import choose_encoder
from configs.schema import EncoderChoice
from models.encoder import load_encoder
from models.preprocess import frame_to_tensor, resize_and_crop
from service.evaluate.evaluation import LINEAR, NEIGHBOURS, Settings, evaluate_stores
from service.evaluate.paired import differences
from service.transfer.stored import choose_stores
from takestream.storage import S3Options
from tests.support.feature_stores import facts_of, feature_store
from tests.support.shots import middles

# Shots of a stretch of the film are in one fold, as shots that follow each other are alike.
STRETCH, PARTS, SHARE = 16, 4, 0.3


@pytest.mark.slow
def test_places_are_told_apart_and_less_so_where_some_takes_have_red_and_blue_swapped(
    tmp_path: Path,
) -> None:
    encoder = load_encoder(choose_encoder(EncoderChoice(frames=1)), torch.device("cpu"))
    assert encoder.spec.preprocess is not None
    random = np.random.default_rng(0)
    for number, place, picture in middles():
        shown = picture[:, 20:140]  # black at both sides
        side = int(SHARE * len(shown))
        stretch = number // STRETCH
        gain = np.random.default_rng(stretch).uniform(0.6, 1.2)
        parts = []
        for _ in range(PARTS):
            top, left = (random.integers(n - side + 1) for n in shown.shape[:2])
            part = shown[top : top + side, left : left + side] * gain
            parts.append(np.clip(part, 0, 255).astype(np.uint8))
        take = facts_of(f"t{number:03}", task_name=place, participant_uid=f"stretch {stretch}")
        for name, swapped in (("as-filmed", False), ("swapped", stretch % 2 == 1)):
            channels = slice(None, None, -1 if swapped else 1)
            clips = [
                resize_and_crop(
                    frame_to_tensor(np.ascontiguousarray(part[..., channels])),
                    encoder.spec.preprocess,
                )
                for part in parts
            ]
            vectors = encoder.encode(torch.stack(clips)).numpy()[:, None]
            feature_store(
                str(tmp_path), take, vectors, ["aria01_rgb"], encoder_id=f"{name}-0123456789"
            )
    s3 = S3Options()
    swapped, filmed = (
        evaluate_stores(
            choose_stores(str(tmp_path / f"{name}-0123456789"), None, None, s3),
            Settings("task"),
            s3,
        )
        for name in ("swapped", "as-filmed")
    )
    for row in filmed.rows:
        assert row.shuffled is not None
        assert row.top1.low > max(row.majority.value, row.shuffled.value) + 0.2, row
    gains = {one.probe: one for one in differences(swapped, filmed)}
    assert gains[NEIGHBOURS].gain.low > 0.03, gains[NEIGHBOURS]
    assert gains[LINEAR].gain.value > 0, gains[LINEAR]
