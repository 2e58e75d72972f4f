"""The 3-D Swin transformer of Omnivore, with the names of its makers' checkpoints."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.schema import EncoderSpec
from models.errors import ModelError
from models.weights import Checkpoint

TRUNK = "trunk."
# Of depth pictures, which are no input here.
UNUSED = "depth_patch_embed."
INDEX = "relative_position_index"
Sides = tuple[int, int, int]


@dataclass(frozen=True)
class Shape:
    """What the tensors of a checkpoint tell of its network.

    Attributes:
        width: of the first stage; each later one has twice as much.
        heads: of each stage.
        depths: blocks of each stage.
        window: tokens of an attention window in time, height and width.
        patch: frames, rows and columns of a token.
    """

    width: int
    heads: tuple[int, ...]
    depths: tuple[int, ...]
    window: Sides
    patch: Sides

    @property
    def dim(self) -> int:
        """Numbers of a vector."""
        return self.width << (len(self.depths) - 1)


def shape_of(spec: EncoderSpec, uri: str, tensors: Mapping[str, Tensor]) -> Shape:
    """The shape of the network whose checkpoint holds `tensors`.

    Raises ModelError when they are not those of an Omnivore trunk.
    """
    blocks: dict[int, int] = {}
    for name in tensors:
        if found := re.match(r"trunk\.layers\.(\d+)\.blocks\.(\d+)\.norm1\.weight$", name):
            stage, block = map(int, found.groups())
            blocks[stage] = max(blocks.get(stage, 0), block + 1)
    patches = tensors.get("trunk.patch_embed.proj.weight")
    attention = [f"trunk.layers.{stage}.blocks.0.attn" for stage in range(len(blocks))]
    tables = [tensors.get(f"{name}.relative_position_bias_table") for name in attention]
    heads = [table.shape[1] for table in tables if table is not None and table.ndim == 2]
    index = tensors.get(f"{attention[0]}.{INDEX}") if attention else None
    window = None
    if tables[:1] and tables[0] is not None and index is not None and index.ndim == 2:
        window = _window(len(tables[0]), len(index))
    if patches is None or patches.ndim != 5 or window is None or len(heads) < len(blocks):
        raise _other(spec, uri, "they lack its trunk")
    frames, rows, columns = patches.shape[2:]
    return Shape(
        width=len(patches),
        heads=tuple(heads),
        depths=tuple(blocks.get(stage, 0) for stage in range(len(blocks))),
        window=window,
        patch=(frames, rows, columns),
    )


def _window(offsets: int, tokens: int) -> Sides | None:
    """The window with so many relative positions and tokens; its rows and columns are as many."""
    for side in range(1, int(tokens**0.5) + 1):
        frames, rest = divmod(tokens, side * side)
        if not rest and (2 * frames - 1) * (2 * side - 1) ** 2 == offsets:
            return frames, side, side
    return None


def build_network(spec: EncoderSpec, checkpoint: Checkpoint) -> nn.Module:
    """The network: float [B, T, 3, H, W] → [B, D].

    Raises ModelError when the weights are not those of an Omnivore trunk.
    """
    tensors = checkpoint.state_dict()
    shape = shape_of(spec, checkpoint.uri, tensors)
    if spec.dim not in (None, shape.dim):
        raise _other(spec, checkpoint.uri, f"they give {shape.dim} numbers, not {spec.dim}")
    network = OmnivoreTrunk(shape)
    own = {
        name.removeprefix(TRUNK): tensor
        for name, tensor in tensors.items()
        if name.startswith(TRUNK) and not name.startswith(TRUNK + UNUSED)
    }
    indexes = {name: own.pop(name) for name in [*own] if name.endswith(INDEX)}
    try:
        network.load_state_dict(own)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise _other(spec, checkpoint.uri, first) from error
    expected = _relative_positions(network.shape.window)
    for name, index in indexes.items():
        if not torch.equal(index, expected):
            raise _other(spec, checkpoint.uri, f"{name} numbers positions in another order")
    return network.eval()


def _other(spec: EncoderSpec, uri: str, what: str) -> ModelError:
    return ModelError(
        f"encoder '{spec.name}': '{uri}' are not the weights of Omnivore that it wants: {what}"
    )


class OmnivoreTrunk(nn.Module):
    """Float [B, T, 3, H, W] → [B, D]: the mean of all tokens after the last norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.patch_embed = _Patches(shape.width, shape.patch)
        last = len(shape.depths) - 1
        self.layers = nn.ModuleList(
            _Stage(shape.width * 2**n, depth, heads, shape.window, merges=n < last)
            for n, (depth, heads) in enumerate(zip(shape.depths, shape.heads, strict=True))
        )
        self.norm = nn.LayerNorm(shape.dim)

    def forward(self, clips: Tensor) -> Tensor:
        tokens: Tensor = self.patch_embed(clips.movedim(1, 2))
        for layer in self.layers:
            tokens = layer(tokens)
        mean: Tensor = self.norm(tokens).mean((1, 2, 3))
        return mean


class _Patches(nn.Module):
    """[B, 3, T, H, W] → tokens [B, t, h, w, C]."""

    def __init__(self, width: int, patch: Sides) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv3d(3, width, patch, patch)
        self.norm = nn.LayerNorm(width)

    def forward(self, pixels: Tensor) -> Tensor:
        sides = pixels.shape[2:]
        missing = [-side % patch for side, patch in zip(sides, self.patch, strict=True)]
        if any(missing):
            pixels = F.pad(pixels, (0, missing[2], 0, missing[1], 0, missing[0]))
        tokens: Tensor = self.norm(self.proj(pixels).movedim(1, -1))
        return tokens


class _Stage(nn.Module):
    def __init__(self, width: int, depth: int, heads: int, window: Sides, *, merges: bool) -> None:
        super().__init__()
        self.window = window
        self.blocks = nn.ModuleList(_Block(width, heads, window) for _ in range(depth))
        self.downsample = _Merging(width) if merges else None

    def forward(self, tokens: Tensor) -> Tensor:
        sides = tokens.shape[1:4]
        # A side that one window covers is not shifted.
        frames, rows, columns = (
            min(part, side) for part, side in zip(self.window, sides, strict=True)
        )
        window = frames, rows, columns
        moved = (
            full // 2 if side > full else 0 for full, side in zip(self.window, sides, strict=True)
        )
        shift = next(moved), next(moved), next(moved)
        padded = [-(-side // part) * part for side, part in zip(sides, window, strict=True)]
        apart = _apart(padded, window, shift, tokens.device) if any(shift) else None
        if apart is not None and torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            # Zero, but only the numbers tell: what is made of constants alone OpenVINO makes once
            # and keeps, and these sums with each block's bias are twice the size of the weights.
            first = tokens.flatten()[0]
            apart = apart + (first != first).float()
        for number, block in enumerate(self.blocks):
            shifted = number % 2 and apart is not None
            tokens = block(
                tokens, window, shift if shifted else (0, 0, 0), apart if shifted else None
            )
        return tokens if self.downsample is None else self.downsample(tokens)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, window: Sides) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = _WindowAttention(width, heads, window)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = _Mlp(width)

    def forward(self, tokens: Tensor, window: Sides, shift: Sides, apart: Tensor | None) -> Tensor:
        seen = self._attended(self.norm1(tokens), window, shift, apart)
        tokens = tokens + seen
        done: Tensor = tokens + self.mlp(self.norm2(tokens))
        return done

    def _attended(
        self, tokens: Tensor, window: Sides, shift: Sides, apart: Tensor | None
    ) -> Tensor:
        clips, *sides, width = tokens.shape
        missing = [-side % part for side, part in zip(sides, window, strict=True)]
        if any(missing):
            # Padded after the norm, and not masked, as in the makers' network.
            tokens = F.pad(tokens, (0, 0, 0, missing[2], 0, missing[1], 0, missing[0]))
        if any(shift):
            tokens = tokens.roll([-s for s in shift], (1, 2, 3))
        counts = [n // part for n, part in zip(tokens.shape[1:4], window, strict=True)]
        windows = _windows(tokens, window)
        seen: Tensor = self.attn(windows, apart)
        tokens = (
            seen.view(clips, *counts, *window, width)
            .permute(0, 1, 4, 2, 5, 3, 6, 7)
            .reshape(tokens.shape)
        )
        if any(shift):
            tokens = tokens.roll(shift, (1, 2, 3))
        return tokens[:, : sides[0], : sides[1], : sides[2]]


class _WindowAttention(nn.Module):
    """Attention within windows [B, windows, N, C], with a bias for relative positions."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int, window: Sides) -> None:
        super().__init__()
        self.heads = heads
        positions = (2 * window[0] - 1) * (2 * window[1] - 1) * (2 * window[2] - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(positions, heads))
        self.register_buffer(INDEX, _relative_positions(window), persistent=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, windows: Tensor, apart: Tensor | None) -> Tensor:
        clips, count, tokens, _ = windows.shape
        # A smaller window takes the first rows and columns, in the order of the full one's, as the
        # makers' network does.
        index = self.relative_position_index[:tokens, :tokens].reshape(-1)
        bias = self.relative_position_bias_table[index].view(tokens, tokens, -1)
        bias = bias.permute(2, 0, 1)[None]
        if apart is not None:
            bias = bias + apart[:, None]
        parts = self.qkv(windows).view(clips, count, tokens, 3, self.heads, -1)
        query, key, value = parts.permute(3, 0, 1, 4, 2, 5)
        bias = bias.to(query.dtype)
        # Clip by clip: the bias is as large as the attention of one.
        seen = torch.stack(
            [
                F.scaled_dot_product_attention(query[n], key[n], value[n], attn_mask=bias)
                for n in range(clips)
            ]
        )
        done: Tensor = self.proj(seen.transpose(2, 3).reshape(windows.shape))
        return done


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        done: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return done


class _Merging(nn.Module):
    """Each two by two tokens of a frame into one of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(4 * width)

    def forward(self, tokens: Tensor) -> Tensor:
        height, width = tokens.shape[2:4]
        if height % 2 or width % 2:
            tokens = F.pad(tokens, (0, 0, 0, width % 2, 0, height % 2))
        corners = [tokens[:, :, row::2, column::2] for column, row in product((0, 1), repeat=2)]
        done: Tensor = self.reduction(self.norm(torch.cat(corners, -1)))
        return done


def _windows(grid: Tensor, window: Sides) -> Tensor:
    """[B, t, h, w, C] → [B, windows, tokens of a window, C]."""
    clips, frames, rows, columns, width = grid.shape
    a, b, c = window
    parts = grid.view(clips, frames // a, a, rows // b, b, columns // c, c, width)
    return parts.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(clips, -1, a * b * c, width)


def _apart(sides: list[int], window: Sides, shift: Sides, device: torch.device) -> Tensor:
    """[windows, N, N]: -100 between tokens that only the cyclic shift put side by side, else 0."""
    regions = torch.zeros(1, 1, 1, 1, 1, device=device)
    for dim, (length, part, moved) in enumerate(zip(sides, window, shift, strict=True), 1):
        place = torch.arange(length, device=device).view([-1 if n == dim else 1 for n in range(5)])
        if moved:
            region = (place >= length - part).float() + (place >= length - moved).float()
        else:
            region = torch.zeros_like(place, dtype=torch.float32)
        regions = regions * 3 + region
    ids = _windows(regions, window)[0, :, :, 0]
    return (ids[:, :, None] != ids[:, None, :]).float() * -100.0


def _relative_positions(window: Sides) -> Tensor:
    """int64 [N, N]: which row of the bias table is for two tokens of a window."""
    axes = torch.meshgrid(*(torch.arange(side) for side in window), indexing="ij")
    places = torch.stack([axis.flatten() for axis in axes], 1)
    offsets = places[:, None] - places[None] + torch.tensor(window) - 1
    _, rows, columns = (2 * side - 1 for side in window)
    return offsets[..., 0] * rows * columns + offsets[..., 1] * columns + offsets[..., 2]
