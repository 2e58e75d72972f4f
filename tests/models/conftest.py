"""What the tests of models share: an own cache, pictures, JSON files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test touches the user's cache, the hub's cache or the network."""
    from huggingface_hub import constants

    monkeypatch.setenv("TAKESTREAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


@pytest.fixture
def picture() -> Callable[..., Picture]:
    """Makes an RGB picture uint8 [H, W, 3]: smooth shades, edges and noise, different by `seed`."""

    def make(height: int, width: int, seed: int = 0) -> Picture:
        random = np.random.default_rng([height, width, seed])
        y, x = np.mgrid[0:height, 0:width] / max(height, width)
        waves = random.uniform(2, 30, (3, 2))
        shades = np.stack([np.sin(a * x + seed) * np.cos(b * y) for a, b in waves], -1)
        edges = 60 * np.sign(shades[..., ::-1])
        noise = random.normal(0, 12, shades.shape)
        return np.clip(128 + 60 * shades + edges + noise, 0, 255).astype(np.uint8)

    return make


@pytest.fixture
def write_json() -> Callable[[Path, dict[str, Any]], None]:
    def write(path: Path, data: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data))

    return write
