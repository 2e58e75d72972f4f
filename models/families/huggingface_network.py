"""The networks of transformers, loaded with our own tensors and pooled."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from configs.schema import EncoderSpec
from models.families.hub_kinds import Kind, class_named, describe, refusal
from models.weights import Checkpoint


def build_network(spec: EncoderSpec, checkpoint: Checkpoint) -> nn.Module:
    """The network: float [B, T, 3, H, W] → [B, D], pooled as `spec.pool` says.

    Raises ModelError when the checkpoint lacks a weight that the network needs.
    """
    name, kind, config = describe(spec, checkpoint)
    if name == "videomae" and spec.pool == "pooled":
        whole = load_model(spec, "VideoMAEForVideoClassification", config, checkpoint)
        return _Network(whole.videomae, kind, spec.pool, config, norm=whole.fc_norm)
    model = load_model(spec, kind.model, config, checkpoint)
    if name == "vjepa2":
        del model.predictor
    return _Network(model, kind, spec.pool, config)


class _Network(nn.Module):
    def __init__(
        self, model: nn.Module, kind: Kind, pool: str, config: Any, norm: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.norm = norm
        self.video = kind.video
        self.pool = pool
        self.prefix = kind.prefix + int(getattr(config, "num_register_tokens", 0) or 0)
        self.is_vjepa = kind.model == "VJEPA2Model"

    def forward(self, clips: Tensor) -> Tensor:
        if self.is_vjepa:
            return self._vector(self.model(pixel_values_videos=clips, skip_predictor=True))
        if self.video:
            return self._vector(self.model(pixel_values=clips))
        vectors = self._vector(self.model(pixel_values=clips.flatten(0, 1)))
        return vectors.view(*clips.shape[:2], -1).mean(1)

    def _vector(self, output: Any) -> Tensor:
        tokens: Tensor = output.last_hidden_state
        if self.norm is not None:
            normed: Tensor = self.norm(tokens.float().mean(1))
            return normed.float()
        if self.pool == "mean":
            return tokens[:, self.prefix :].float().mean(1)
        pooled: Tensor | None = getattr(output, "pooler_output", None)
        return (tokens[:, 0] if self.pool == "cls" or pooled is None else pooled).float()


def load_model(spec: EncoderSpec, name: str, config: Any, checkpoint: Checkpoint) -> Any:
    options: dict[str, Any] = {"add_pooling_layer": False} if name == "VivitModel" else {}
    try:
        with quiet():
            model, info = class_named(name).from_pretrained(
                None,
                config=config,
                # Our own tensors, so that what was hashed is what is loaded.
                state_dict=checkpoint.state_dict(),
                dtype=torch.float32,
                output_loading_info=True,
                **options,
            )
    except (RuntimeError, ValueError, OSError) as error:
        raise refusal(spec, f"{name} does not load from '{checkpoint.uri}': {error}") from error
    # transformers only warns, and goes on with random numbers.
    unused = ("predictor.", "classifier.")
    missing = sorted(map(str, info["missing_keys"]))
    wanted = [key for key in missing if not any(part in key for part in unused)]
    wrong = sorted(map(str, info["mismatched_keys"])) + list(map(str, info["error_msgs"]))
    if wanted or wrong:
        first = (wanted or wrong)[0]
        what = "lack" if wanted else "do not fit"
        raise refusal(spec, f"the weights at '{checkpoint.uri}' {what} {first}")
    return model.eval()


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bar and its report on weights, which is checked here."""
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()
