"""Text and pictures as queries: the joint space of CLIP and SigLIP.

A store holds what the encoder gave. With `pool: pooled` that is, per frame,

| model_type | stored | joint space |
| --- | --- | --- |
| clip | the class token after the last norm, before the projection | `visual_projection` of it |
| siglip (and SigLIP 2 of one picture size) | its attention pooling head | the same |

and for a clip of several frames the mean over them; the projection is linear without a bias, so the
projected mean is the mean of the projected frames. Other pools are refused: CLIP's projection was
trained on the normed class token, so it means nothing on patch tokens (`mean`), nor on the token
before the norm (`cls`), and SigLIP's patch tokens never met its text.

Texts are taken as they are written, without a prompt around them ("a photo of …").
"""

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.schema import EncoderSpec
from models.encoder import Encoder, load_encoder
from models.errors import ModelError
from models.families import huggingface
from models.families.huggingface_network import load_model
from models.preprocess import frame_to_tensor, resize_and_crop, resized_shape
from models.search.query import MAX_PIXELS, QueryError, decode_picture
from models.search.tokenizer import Tokenizer, load_tokenizer
from models.weights import HUB_ID, Checkpoint, fetch, is_remote
from takestream.storage import S3Options

__all__ = ["Joint", "QueryError", "has_joint_space", "load_joint", "scores"]

# The text tower of each model_type, by its class in `transformers`.
_TEXT = {"clip": "CLIPTextModelWithProjection", "siglip": "SiglipTextModel"}
_ROWS = 8192


def has_joint_space(spec: EncoderSpec) -> bool:
    """Whether features of `spec` can be searched with text and pictures, as far as is known here.

    Reads the checkpoint's config.json where that lies on this machine (a folder, the hub's cache).
    Of a checkpoint elsewhere it takes the name's word: "clip" or "siglip" in that of the preset or
    of the weights. Never opens a connection or a weights file. False for a missing folder, and
    for a hub id that is not cached while the hub is switched off; `load_joint` says why.
    """
    if spec.family != "huggingface" or spec.pool != "pooled":
        return False
    path = _config_here(spec)
    if path is None:
        return _may_be_fetched(spec) and _is_named_so(spec)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and _why_not(spec, config) is None


def load_joint(
    spec: EncoderSpec,
    device: torch.device,
    s3: S3Options | None = None,
    encoder: Encoder | None = None,
) -> "Joint":
    """The joint space of `spec`'s encoder, with its text tower on `device` in float32.

    encoder: the loaded encoder of the same spec where there is one already; without it the first
        picture query loads it onto `device`.
    Raises ModelError when the checkpoint is missing or is not the one that `spec.sha256` names,
    when its network has no joint space or its features are not in it, and when it has no tokenizer.
    """
    if spec.family != "huggingface":
        raise _refusal(spec, f"its network ({spec.family}) has no text tower")
    checkpoint = fetch(spec.weights, spec.revision, s3)
    if spec.sha256 not in (None, checkpoint.sha256):
        raise ModelError(
            f"encoder '{spec.name}': the weights at '{spec.weights}' have sha256"
            f" {checkpoint.sha256}, not {spec.sha256}, so their text does not fit the features;"
            " fetch them again"
        )
    config = checkpoint.read_json("config.json") or {}
    if why := _why_not(spec, config):
        raise _refusal(spec, why)
    found = {"sha256": checkpoint.sha256, "revision": checkpoint.revision or spec.revision}
    resolved = huggingface.resolve(spec.model_copy(update=found), checkpoint)
    tower, project = _towers(resolved, checkpoint, config)
    length = int(tower.config.max_position_embeddings)
    tokenizer = load_tokenizer(checkpoint, length, config["model_type"] == "siglip", s3)
    return Joint(resolved, device, tower, tokenizer, project, s3, encoder)


class Joint:
    """Queries for the features of one encoder. Safe to call from several threads.

    spec: the resolved encoder.
    project: float32 [D, P] from stored features to the joint space; None where they are in it.
    dim: P.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        device: torch.device,
        tower: Any,
        tokenizer: Tokenizer,
        project: NDArray[np.float32] | None,
        s3: S3Options | None,
        encoder: Encoder | None,
    ) -> None:
        assert spec.dim is not None
        self.spec = spec
        self.project = project
        self.dim = spec.dim if project is None else project.shape[1]
        self._device = device
        self._tower = tower.requires_grad_(False).to(device)
        self._tokenizer = tokenizer
        self._s3 = s3
        self._encoder = encoder
        self._lock = threading.Lock()
        self._check_text()

    def text(self, text: str) -> NDArray[np.float32]:
        """The text as float32 [P] of length 1.

        A text of more tokens than the network reads (77 for CLIP, 64 for SigLIP) is cut there, as
        the model's own processor does; `is_cut` tells.
        Raises QueryError for an empty text, a very long one, or broken Unicode.
        """
        with torch.inference_mode():
            # No attention mask: CLIP's text is not padded, and SigLIP learned with its padding.
            output = self._tower(input_ids=self._tokenizer.ids(text).to(self._device))
            vectors: Tensor = output["text_embeds" if "text_embeds" in output else "pooler_output"]
        return _unit(vectors[0].cpu().numpy())

    def is_cut(self, text: str) -> bool:
        """Whether the network reads only the beginning of `text`. Raises QueryError as `text`."""
        return self._tokenizer.count(text) > self._tokenizer.length

    def image(self, data: bytes) -> NDArray[np.float32]:
        """A PNG, JPEG or WebP file as float32 [P] of length 1.

        It goes through the encoder that made the features, so a frame finds itself. The first call
        loads it, unless `load_joint` was given one.
        Raises QueryError for a file that is not such a picture or is too large, and ModelError when
        the encoder cannot be loaded.
        """
        preprocess = self.spec.preprocess
        assert preprocess is not None
        frame = decode_picture(data)
        height, width = resized_shape(frame.shape[0], frame.shape[1], preprocess)
        if height * width > MAX_PIXELS:
            raise QueryError(
                f"the picture has {frame.shape[1]} x {frame.shape[0]} pixels, too long and narrow"
                " to be resized; cut out the part to look for"
            )
        small = resize_and_crop(frame_to_tensor(frame), preprocess)
        encoder = self._image_encoder()
        # The mean over equal frames is that of one.
        clip = small.expand(encoder.spec.frames, -1, -1, -1)[None].to(self._device)
        stored = encoder.encode(clip)[0].cpu().numpy()
        return _unit(stored if self.project is None else stored @ self.project)

    def scores(self, features: NDArray[Any], query: NDArray[np.float32]) -> NDArray[np.float32]:
        """As the function `scores`, with this encoder's projection."""
        return scores(features, query, self.project)

    def _image_encoder(self) -> Encoder:
        with self._lock:
            if self._encoder is None:
                # One frame is enough, and costs a fraction of a clip's.
                alone = self.spec.model_copy(update={"frames": 1})
                self._encoder = load_encoder(alone, self._device, s3=self._s3)
            return self._encoder

    def _check_text(self) -> None:
        """A tokenizer of another model answers too, with nonsense; most are found out here."""
        config, ids = self._tower.config, self._tokenizer.ids("a")
        vocabulary = int(config.vocab_size)
        # CLIP's vector is that at its end token, which older configs call 2 and never look up.
        end = getattr(config, "eos_token_id", None)
        ends = config.model_type != "clip_text_model" or end == 2 or end in ids.flatten().tolist()
        if int(ids.max()) >= vocabulary or not ends:
            raise ModelError(
                f"encoder '{self.spec.name}': the tokenizer beside its weights is not this"
                " network's; put the checkpoint's own there"
            )


def scores(
    features: NDArray[Any], query: NDArray[np.float32], project: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Cosine in the joint space: stored features [N, D], query [P] → float32 [N].

    features: float16 or float32 as a store has them; rows with NaN (invalid clips) score NaN.
    project: `Joint.project`.
    Between text and pictures even good matches have small cosines (about 0.2 to 0.35 for CLIP,
    around 0.1 for SigLIP): compare them within one query, not with 1.
    Raises ValueError when the dimensions do not fit.
    """
    dim = len(query) if project is None else len(project)
    if features.ndim != 2 or features.shape[1] != dim:
        raise ValueError(f"expected features [N, {dim}], got {list(features.shape)}")
    found = np.empty(len(features), np.float32)
    for start in range(0, len(features), _ROWS):
        # In parts, so that a float32 copy of a long take's features never exists as a whole.
        part = features[start : start + _ROWS].astype(np.float32)
        part = part if project is None else part @ project
        norms = np.maximum(np.linalg.norm(part, axis=1), 1e-12)
        found[start : start + _ROWS] = part @ query / norms
    return found


def _why_not(spec: EncoderSpec, config: Mapping[str, Any]) -> str | None:
    """What keeps features of `spec` out of a joint space; None when they are in one."""
    kind = str(config.get("model_type"))
    if kind not in _TEXT:
        return f"its network ({kind}) has no text tower"
    if not ({"text_config", "text_config_dict"} & config.keys()):
        return "its checkpoint holds the vision tower alone"
    if spec.pool != "pooled":
        return f"its features are '{spec.pool}' vectors, which text was not matched with (pooled)"
    if kind == "siglip" and not config.get("vision_config", {}).get("vision_use_head", True):
        return "its checkpoint has no attention pooling head"
    return None


def _towers(
    spec: EncoderSpec, checkpoint: Checkpoint, config: Mapping[str, Any]
) -> tuple[Any, NDArray[np.float32] | None]:
    """The text tower, and the projection of stored features [D, P] or None."""
    import transformers

    kind = str(config["model_type"])
    whole = getattr(transformers, "CLIPConfig" if kind == "clip" else "SiglipConfig")
    whole = whole.from_dict(dict(config))
    if kind == "clip":
        # The towers' own entry is often left at its default; the whole network reads this one.
        whole.text_config.projection_dim = whole.projection_dim
    tower = load_model(spec, _TEXT[kind], whole.text_config, checkpoint)
    if kind == "siglip":
        dim = int(whole.text_config.projection_size)
        if dim != spec.dim:
            raise _refusal(spec, f"its text has {dim} dimensions, its pictures {spec.dim}")
        return tower, None
    weight = checkpoint.state_dict().get("visual_projection.weight")
    if weight is None or tuple(weight.shape) != (whole.projection_dim, spec.dim):
        raise _refusal(spec, "its checkpoint has no visual_projection that fits")
    return tower, np.ascontiguousarray(weight.float().numpy().T)


def _config_here(spec: EncoderSpec) -> Path | None:
    """The checkpoint's config.json on this machine, whether or not a local path has it."""
    if not is_remote(spec.weights):
        path = Path(spec.weights.removeprefix("file://")).expanduser()
        return (path.parent if path.is_file() else path) / "config.json"
    repo = _hub_name(spec.weights)
    if repo is None:
        return None
    from huggingface_hub import constants, try_to_load_from_cache

    # The constant is read here, so that whoever moves the cache moves it for this too.
    cache = constants.HF_HUB_CACHE
    found = try_to_load_from_cache(repo, "config.json", cache_dir=cache, revision=spec.revision)
    return Path(found) if isinstance(found, str) else None


def _may_be_fetched(spec: EncoderSpec) -> bool:
    """Whether weights that are not on this machine can be had at all."""
    if _hub_name(spec.weights) is None:
        return "://" in spec.weights
    from huggingface_hub import constants

    return not constants.HF_HUB_OFFLINE


def _hub_name(uri: str) -> str | None:
    name = uri.removeprefix("hf://").strip("/") if uri.startswith("hf://") else uri
    return name if HUB_ID.match(name) else None


def _is_named_so(spec: EncoderSpec) -> bool:
    names = (spec.name.lower(), Path(spec.weights.lower()).name)
    return any("clip" in name or "siglip" in name for name in names)


def _unit(vector: NDArray[Any]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = np.asarray(vector, np.float32)
    return found / np.float32(max(float(np.linalg.norm(found)), 1e-12))


def _refusal(spec: EncoderSpec, why: str) -> ModelError:
    return ModelError(
        f"encoder '{spec.name}' takes no text or picture queries: {why}; use one of CLIP or SigLIP"
        " with pool: pooled (presets clip-vit-l14, siglip-so400m)"
    )
