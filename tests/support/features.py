"""Complete stores with features that are told apart, on the official grid."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from takestream.schema import Reason
from workers.store.layout import StoreLayout
from workers.store.takestore import TakeStore

ENCODER_ID = "tiny-0123456789"
DIM = 4


def official_starts(frames: int) -> NDArray[np.int64]:
    """First frames of the clips of the official rule: 32 frames, every 16, the last one padded."""
    last = max(0, frames - 32)
    return np.append(np.arange(0, last, 16), last).astype(np.int64)


def make_features(
    root: Path | str,
    uid: str,
    frames: int,
    streams: Mapping[str, int],
    *,
    invalid: Mapping[str, list[int]] | None = None,
    encoder_id: str = ENCODER_ID,
    dtype: str = "float32",
    finish: bool = True,
) -> str:
    """A store whose feature *d* of clip *i* of a stream is `seed + 10 i + d / 10`; its URI.

    Args:
        root: the output.
        uid: of the take, named `name of <uid>`.
        frames: of the take, at 30 frames per second.
        streams: by key, its seed.
        invalid: by stream, numbers of clips that are damaged.
        encoder_id: folder of the store.
        dtype: of the features.
        finish: whether it is complete.
    """
    start = official_starts(frames)
    grid = {
        "fps": 30.0, "window": 32, "stride": 16, "tail": "backpad", "frames": frames,
        "clips": len(start),
    }  # fmt: skip
    layout = StoreLayout(
        streams=tuple(streams), dim=DIM, dtype=dtype, unit_clips=len(start),
        start_frame=start, stop_frame=np.minimum(start + 32, frames),
        start_time=start / 30, end_time=np.minimum(start + 32, frames) / 30,
        attributes={
            "take": {"take_uid": uid, "take_name": f"name of {uid}"}, "grid": grid,
            "encoder": {"name": "tiny", "encoder_id": encoder_id},
            "provenance": {"streams": {key: {"cam_id": key.split("_")[0]} for key in streams}},
        },
    )  # fmt: skip
    store = TakeStore.create(f"{root}/{encoder_id}/{uid}.zarr", layout)
    for key, seed in streams.items():
        valid = np.ones(len(start), dtype=bool)
        valid[(invalid or {}).get(key, [])] = False
        features = features_of(seed, len(start))
        features[~valid] = np.nan
        store.write(
            key, 0, features=features, valid=valid,
            frame_time=np.where(valid, start / 30, np.nan),
            reason=np.where(valid, Reason.VALID, Reason.DAMAGED_FRAME).astype(np.uint8),
        )  # fmt: skip
    if finish:
        assert store.finish()
    return store.uri


def features_of(seed: int, clips: int) -> NDArray[np.float32]:
    """What `make_features` writes."""
    clip = np.arange(clips, dtype=np.float32)[:, None]
    return np.asarray(seed + 10 * clip + np.arange(DIM, dtype=np.float32) / 10)
