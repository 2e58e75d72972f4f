"""The picture tower of MAWS CLIP as a network of transformers."""

import re
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.schema import EncoderSpec
from models.errors import ModelError
from models.families.hub_kinds import class_named
from models.families.huggingface_network import quiet
from models.weights import Checkpoint

TOWER, PROJECTION = "vision_encoder.", "vision_projection"
# By width, which the tensors tell, the heads, which they do not (`maws/model_builder.py`).
HEADS = {768: 12, 1024: 16, 1280: 16, 2560: 32}
# timm's names of a block, and those of transformers.
BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.o_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
ROOT = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
}


def dim_of(spec: EncoderSpec, uri: str, tensors: Mapping[str, Tensor]) -> int:
    """Numbers of a vector. Raises ModelError when the weights are not those of a MAWS CLIP."""
    projection = tensors.get(PROJECTION)
    if projection is None or projection.ndim != 2:
        raise _other(spec, uri, f"they lack {PROJECTION}")
    return projection.shape[1]


def build_network(spec: EncoderSpec, checkpoint: Checkpoint) -> nn.Module:
    """The network: float [B, T, 3, H, W] → [B, D].

    Raises ModelError when the weights are not those of a MAWS CLIP.
    """
    tensors, uri = checkpoint.state_dict(), checkpoint.uri
    dim = dim_of(spec, uri, tensors)
    if spec.dim not in (None, dim):
        raise _other(spec, uri, f"they give {dim} numbers, not {spec.dim}")
    tower = {
        name.removeprefix(TOWER): tensor
        for name, tensor in tensors.items()
        if name.startswith(TOWER)
    }
    absent = [name for name in (*ROOT, "blocks.0.mlp.fc1.weight") if name not in tower]
    if absent:
        raise _other(spec, uri, f"they lack {TOWER}{absent[0]}")
    width, _, patch, _ = tower["patch_embed.proj.weight"].shape
    if width not in HEADS:
        raise _other(spec, uri, f"no tower is {width} wide; known are {', '.join(map(str, HEADS))}")
    side = round((tower["pos_embed"].shape[1] - 1) ** 0.5) * patch
    assert spec.preprocess is not None
    if spec.preprocess.size != (side, side):
        raise ModelError(
            f"encoder '{spec.name}': it takes {side} x {side} pixels, its preprocessing gives"
            f" {spec.preprocess.size}"
        )
    config = class_named("ViTConfig")(
        hidden_size=width,
        intermediate_size=len(tower["blocks.0.mlp.fc1.weight"]),
        num_hidden_layers=len({name.split(".")[1] for name in tower if name.startswith("blocks")}),
        num_attention_heads=HEADS[width],
        image_size=side,
        patch_size=patch,
        # timm's; that of transformers is 1e-12.
        layer_norm_eps=1e-6,
    )
    with quiet(), torch.device("meta"):
        model = class_named("ViTModel")(config, add_pooling_layer=False)
    try:
        # The tensors take the place of the model's, which has none yet: no second copy of them.
        model.load_state_dict(dict(_renamed(tower)), assign=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise _other(spec, uri, first) from error
    return _Projected(model.float(), tensors[PROJECTION].float()).eval()


def _renamed(tower: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a tower by their names in transformers; an unknown name stays as it is."""
    for name, tensor in tower.items():
        if (block := re.match(r"blocks\.(\d+)\.(.+)\.(weight|bias)$", name)) is None:
            yield ROOT.get(name, name), tensor
            continue
        number, part, kind = block.groups()
        if part == "attn.qkv":
            for letter, third in zip("qkv", tensor.chunk(3), strict=True):
                yield f"layers.{number}.attention.{letter}_proj.{kind}", third
        else:
            yield f"layers.{number}.{BLOCK.get(part, part)}.{kind}", tensor


def _other(spec: EncoderSpec, uri: str, what: str) -> ModelError:
    return ModelError(
        f"encoder '{spec.name}': '{uri}' are not the weights of MAWS CLIP that it wants: {what}"
    )


class _Projected(nn.Module):
    def __init__(self, model: nn.Module, projection: Tensor) -> None:
        super().__init__()
        self.model = model
        self.projection = nn.Parameter(projection)

    def forward(self, clips: Tensor) -> Tensor:
        tokens = self.model(pixel_values=clips.flatten(0, 1)).last_hidden_state
        vectors = F.normalize(tokens[:, 0] @ self.projection, dim=-1)
        return vectors.float().view(*clips.shape[:2], -1).mean(1)
