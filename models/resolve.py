"""What an encoder is, known without building it and without torch: digest, dim, preprocessing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from configs.schema import EncoderSpec
from models.errors import ModelError
from models.families import efficientnet_lite, huggingface
from models.weights import Checkpoint, fetch, is_remote
from takestream.storage import S3Options

if TYPE_CHECKING:
    from torch import nn

# Part of every `encoder_id`: raise it whenever `models.preprocess` gives other numbers for the same
# picture and spec.
PREPROCESSING_VERSION = 1


@dataclass(frozen=True)
class Family:
    """How one kind of network is described and built.

    resolve: fills dim and preprocess in.
    build: a module in eval mode, float [B, T, 3, H, W] → float [B, D].
    """

    resolve: Callable[[EncoderSpec, Checkpoint], EncoderSpec]
    build: Callable[[EncoderSpec, Checkpoint], "nn.Module"]


FAMILIES = {
    "efficientnet_lite": Family(efficientnet_lite.resolve, efficientnet_lite.build),
    "huggingface": Family(huggingface.resolve, huggingface.build),
}


def resolve_encoder(spec: EncoderSpec, s3: S3Options | None = None) -> EncoderSpec:
    """`spec` with sha256, dim, preprocess (and the hub's commit) filled in, no network built.

    A spec that names all of them is not looked up again when its weights lie elsewhere: the workers
    check the digest. Raises ModelError when the checkpoint is missing, not supported or not the one
    that `spec.sha256` names.
    """
    complete = spec.sha256 and spec.dim and spec.preprocess
    if complete and is_remote(spec.weights):
        return spec
    resolved, _ = resolve(spec, s3)
    return resolved


def resolve(spec: EncoderSpec, s3: S3Options | None) -> tuple[EncoderSpec, Checkpoint]:
    """`spec` resolved, and its checkpoint. Raises ModelError as `resolve_encoder` does."""
    checkpoint = fetch(spec.weights, spec.revision, s3)
    if spec.sha256 not in (None, checkpoint.sha256):
        raise ModelError(
            f"encoder '{spec.name}': the weights at '{spec.weights}' have sha256"
            f" {checkpoint.sha256}, not {spec.sha256}; fetch them again, or correct `sha256` if the"
            " change is meant"
        )
    found = {"sha256": checkpoint.sha256, "revision": checkpoint.revision or spec.revision}
    family = FAMILIES[spec.family]
    return family.resolve(spec.model_copy(update=found), checkpoint), checkpoint
