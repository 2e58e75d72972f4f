"""Small random checkpoints in the form of the official encoders' own files, and what their makers'
code made of them.

`python -m tests.support.official OMNIVORE MAWS` records the vectors anew, into `RECORDED`. It runs
the code of checkouts of facebookresearch/omnivore and facebookresearch/maws, and needs timm,
einops and torchvision, which nothing else here does.
"""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

RECORDED = Path(__file__).parents[1] / "data" / "official_vectors.json"
WIDTH, DEPTHS, HEADS, WINDOW = 16, (2, 2, 2, 2), (1, 2, 4, 8), (8, 7, 7)
TOWER, TOWER_DEPTH, PATCH, PROJECTED = 768, 2, 14, 40
# (frames, height, width) of clips: the official one, one that has to be padded everywhere and whose
# windows are smaller, a picture.
CLIPS = {"official": (32, 224, 224), "odd": (6, 86, 122), "picture": (1, 64, 64)}


def numbers(shape: tuple[int, ...], seed: int, spread: float) -> Tensor:
    """Normal numbers that every version of numpy draws alike, float32."""
    drawn = np.random.RandomState(seed).standard_normal(shape) * spread
    return torch.from_numpy(drawn.astype(np.float32))


def clip(name: str) -> Tensor:
    """float32 [1, T, 3, H, W], as a network takes it: patches that stay, and noise.

    Of noise alone all means are alike, and a network that mixes the wrong tokens is not told apart.
    """
    frames, height, width = CLIPS[name]
    parts = (1, -(-frames // 8), 3, -(-height // 32), -(-width // 32))
    coarse = numbers(parts, 7, 1.5)
    for dim, times in ((1, 8), (3, 32), (4, 32)):
        coarse = coarse.repeat_interleave(times, dim)
    noise = numbers((1, frames, 3, height, width), 8, 0.3)
    return coarse[:, :frames, :, :height, :width] + noise


def omnivore_tensors() -> dict[str, dict[str, Tensor]]:
    """`{"trunk": …, "heads": …}`, as Omnivore's files hold them."""
    positions = int(np.prod([2 * side - 1 for side in WINDOW]))
    tokens = int(np.prod(WINDOW))
    shapes: dict[str, tuple[int, ...]] = {}
    for embed, channels in (("patch_embed", 3), ("depth_patch_embed", 1)):
        shapes |= {
            f"{embed}.proj.weight": (WIDTH, channels, 2, 4, 4), f"{embed}.proj.bias": (WIDTH,),
            f"{embed}.norm.weight": (WIDTH,), f"{embed}.norm.bias": (WIDTH,),
        }  # fmt: skip
    for stage, (depth, heads) in enumerate(zip(DEPTHS, HEADS, strict=True)):
        c, layer = WIDTH * 2**stage, f"layers.{stage}"
        for block in (f"{layer}.blocks.{n}" for n in range(depth)):
            shapes |= {
                f"{block}.norm1.weight": (c,), f"{block}.norm1.bias": (c,),
                f"{block}.attn.relative_position_bias_table": (positions, heads),
                f"{block}.attn.relative_position_index": (tokens, tokens),
                f"{block}.attn.qkv.weight": (3 * c, c), f"{block}.attn.qkv.bias": (3 * c,),
                f"{block}.attn.proj.weight": (c, c), f"{block}.attn.proj.bias": (c,),
                f"{block}.norm2.weight": (c,), f"{block}.norm2.bias": (c,),
                f"{block}.mlp.fc1.weight": (4 * c, c), f"{block}.mlp.fc1.bias": (4 * c,),
                f"{block}.mlp.fc2.weight": (c, 4 * c), f"{block}.mlp.fc2.bias": (c,),
            }  # fmt: skip
        if stage < len(DEPTHS) - 1:
            shapes |= {
                f"{layer}.downsample.reduction.weight": (2 * c, 4 * c),
                f"{layer}.downsample.norm.weight": (4 * c,),
                f"{layer}.downsample.norm.bias": (4 * c,),
            }
    dim = WIDTH * 2 ** (len(DEPTHS) - 1)
    shapes |= {"norm.weight": (dim,), "norm.bias": (dim,)}
    trunk = {name: numbers(shape, seed, 0.3) for seed, (name, shape) in enumerate(shapes.items())}
    index = _position_index()
    for name in trunk:
        if name.endswith("relative_position_index"):
            trunk[name] = index
    ends = {"image.weight": numbers((1000, dim), 1, 0.1), "video.1.bias": numbers((400,), 2, 0.1)}
    return {"trunk": trunk, "heads": ends}


def _position_index() -> Tensor:
    """As the paper has it, token by token: which offset in time, rows and columns two have."""
    depth, height, width = WINDOW
    places = np.array(list(np.ndindex(*WINDOW)))
    t, y, x = (places[:, None] - places[None]).transpose(2, 0, 1)
    rows, columns = 2 * height - 1, 2 * width - 1
    return torch.from_numpy(((t + depth - 1) * rows + y + height - 1) * columns + x + width - 1)


def maws_tensors() -> dict[str, Tensor]:
    """As the files of MAWS CLIP hold them; of the text tower one tensor."""
    c, tokens = TOWER, (224 // PATCH) ** 2 + 1
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, c), "pos_embed": (1, tokens, c),
        "patch_embed.proj.weight": (c, 3, PATCH, PATCH), "patch_embed.proj.bias": (c,),
    }  # fmt: skip
    for block in (f"blocks.{n}" for n in range(TOWER_DEPTH)):
        shapes |= {
            f"{block}.norm1.weight": (c,), f"{block}.norm1.bias": (c,),
            f"{block}.attn.qkv.weight": (3 * c, c), f"{block}.attn.qkv.bias": (3 * c,),
            f"{block}.attn.proj.weight": (c, c), f"{block}.attn.proj.bias": (c,),
            f"{block}.norm2.weight": (c,), f"{block}.norm2.bias": (c,),
            f"{block}.mlp.fc1.weight": (4 * c, c), f"{block}.mlp.fc1.bias": (4 * c,),
            f"{block}.mlp.fc2.weight": (c, 4 * c), f"{block}.mlp.fc2.bias": (c,),
        }  # fmt: skip
    shapes |= {"norm.weight": (c,), "norm.bias": (c,)}
    tower = {
        f"vision_encoder.{name}": numbers(shape, seed, 0.05)
        for seed, (name, shape) in enumerate(shapes.items())
    }
    return {
        **tower,
        "vision_projection": numbers((c, PROJECTED), 900, 0.05),
        "text_projection": numbers((8, PROJECTED), 901, 0.05),
        "text_encoder.encoder.transformer.token_embedding.weight": numbers((20, 8), 902, 0.05),
        "logit_scale": torch.tensor(4.6),
    }


def recorded(network: str, name: str) -> Tensor:
    """The vector that the makers' code gave, float32 [D]."""
    return torch.tensor(json.loads(RECORDED.read_text())[network][name])


def _record(omnivore: str, maws: str) -> None:
    found = {
        "omnivore": _of_omnivore(omnivore),
        "maws": _of_maws(maws),
    }
    RECORDED.write_text(json.dumps(found, indent=None, separators=(",", ":")) + "\n")


def _of_omnivore(checkout: str) -> dict[str, list[float]]:
    # What it imports of timm 0.4 and of its own trainer, none of which a forward pass needs.
    layers = ModuleType("timm.models.layers")
    layers.__dict__.update(DropPath=torch.nn.Identity, trunc_normal_=torch.nn.init.trunc_normal_)
    loading = ModuleType("omnivision.utils.checkpoint")
    loading.__dict__.update(load_and_broadcast_checkpoint_list=None)
    sys.modules |= {"timm.models.layers": layers, "omnivision.utils.checkpoint": loading}
    sys.path.insert(0, checkout)
    from omnivision.models.swin_transformer import SwinTransformer3D  # type: ignore[import-not-found]
    from omnivore.models.omnivore_model import OmnivoreModel, get_all_heads  # type: ignore[import-not-found]

    trunk = SwinTransformer3D(
        pretrained2d=False, patch_size=(2, 4, 4), embed_dim=WIDTH, depths=list(DEPTHS),
        num_heads=list(HEADS), window_size=WINDOW, patch_norm=True,
        depth_mode="summed_rgb_d_tokens", drop_path_rate=0.0,
    )  # fmt: skip
    trunk.load_state_dict(omnivore_tensors()["trunk"])
    model = OmnivoreModel(trunk, get_all_heads(WIDTH * 8)).eval()
    for kind in ("image", "video", "rgbd"):
        setattr(model.heads, kind, torch.nn.Identity())
    with torch.inference_mode():
        return {
            name: model(clip(name).movedim(1, 2), input_type="video")[0].tolist() for name in CLIPS
        }


def _of_maws(checkout: str) -> dict[str, list[float]]:
    sys.modules |= {"matplotlib": ModuleType("matplotlib")}
    sys.modules["matplotlib.pyplot"] = sys.modules["matplotlib"].pyplot = ModuleType("pyplot")  # type: ignore[attr-defined]
    sys.modules.pop("timm.models.layers", None)
    sys.path.insert(0, checkout)
    from maws.model import CLIP  # type: ignore[import-not-found]
    from timm.models.vision_transformer import VisionTransformer  # type: ignore[import-not-found]

    tensors = maws_tensors()
    tower = VisionTransformer(
        patch_size=PATCH, embed_dim=TOWER, depth=TOWER_DEPTH, num_heads=12, num_classes=0,
        img_size=224,
    )  # fmt: skip
    text: Any = SimpleNamespace()
    model = CLIP(tower, torch.nn.Identity(), text, PROJECTED, TOWER, 8).eval()
    wanted = {name: tensor for name, tensor in tensors.items() if not name.startswith("text_enc")}
    model.load_state_dict(wanted)
    with torch.inference_mode():
        return {"official": model.encode_images(clip("official")[0, :2]).mean(0).tolist()}


if __name__ == "__main__":
    _record(*sys.argv[1:3])
