"""Complete stores of made-up features, with what a data set says of their takes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from takestream.facts import FACTS
from workers.store.layout import StoreLayout
from workers.store.takestore import TakeStore

ENCODER_ID = "made-0123456789"
UNIT = 64


def facts_of(uid: str, **said: Any) -> dict[str, Any]:
    """The attribute `take` of a store: every fact null but those that are given."""
    return {**{fact.name: None for fact in FACTS}, "take_uid": uid, "take_name": uid, **said}


def feature_store(
    output: str,
    take: Mapping[str, Any],
    features: NDArray[np.floating[Any]],
    streams: Sequence[str] = ("aria01_rgb", "cam01_0"),
    *,
    encoder_id: str = ENCODER_ID,
    valid: NDArray[np.bool_] | None = None,
    clip_seconds: float = 1.0,
) -> TakeStore:
    """A complete store.

    Args:
        output: Folder or URI.
        take: Of `facts_of`.
        features: [clips, streams, D].
        streams: Their names.
        encoder_id: Folder of the store.
        valid: bool [clips, streams]; all by default.
        clip_seconds: Clip i shows `[i, i + 1)` times this.
    """
    clips, count, dim = features.shape
    assert count == len(streams)
    frames = np.arange(clips) * 16
    times = np.arange(clips) * clip_seconds
    worn = {name: {"is_ego": name.startswith("aria"), "cam_id": name} for name in streams}
    layout = StoreLayout(
        tuple(streams), dim, "float32", UNIT, frames, frames + 16, times, times + clip_seconds,
        {
            "take": dict(take), "encoder": {"encoder_id": encoder_id, "name": "made"},
            "grid": {"window": 16, "stride": 16, "fps": 16 / clip_seconds, "frames": clips * 16},
            "provenance": {"streams": worn},
        },
    )  # fmt: skip
    store = TakeStore.create(f"{output}/{encoder_id}/{take['take_uid']}.zarr", layout)
    there = np.ones((clips, count), bool) if valid is None else valid
    for first in range(0, clips, UNIT):
        rows = slice(first, min(first + UNIT, clips))
        for column, stream in enumerate(streams):
            ok = there[rows, column]
            store.write(
                stream, first,
                features=features[rows, column].astype(np.float32), valid=ok,
                frame_time=times[rows], reason=(~ok) * np.uint8(5),
            )  # fmt: skip
    assert store.finish()
    return store
