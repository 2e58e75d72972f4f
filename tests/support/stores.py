"""Small stores as the workers write them."""

from pathlib import Path

import numpy as np

from workers.store.layout import StoreLayout
from workers.store.takestore import TakeStore


def make_store(root: Path | str, encoder: str, uid: str, name: str) -> str:
    """A complete store of three clips and two streams under `root`; its URI."""
    layout = StoreLayout(
        streams=("aria01_rgb", "cam01_0"),
        dim=4,
        dtype="float16",
        unit_clips=8,
        start_frame=np.arange(3) * 16,
        stop_frame=np.arange(3) * 16 + 32,
        start_time=np.arange(3) * 0.5,
        end_time=np.arange(3) * 0.5 + 1,
        attributes={"take": {"take_uid": uid, "take_name": name}},
    )
    store = TakeStore.create(f"{root}/{encoder}/{uid}.zarr", layout)
    for stream in layout.streams:
        store.write(
            stream,
            0,
            features=np.ones((3, 4)),
            valid=np.ones(3, bool),
            frame_time=np.zeros(3),
            reason=np.zeros(3, np.uint8),
        )
    store.finish()
    return store.uri
