"""What an encoder is, known without building it and without torch: digest, dim, preprocessing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from configs.schema import EncoderSpec
from models.errors import ModelError
from models.families import efficientnet_lite, huggingface, maws, omnivore
from models.weights import Checkpoint, fetch, is_elsewhere, is_remote
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
    wants_digest: weights of it that lie elsewhere are not used without `sha256`: their makers
        publish files without a digest or a version.
    working: bytes that a clip takes on CPU beside the weights, where that is much.
    """

    resolve: Callable[[EncoderSpec, Checkpoint], EncoderSpec]
    build: Callable[[EncoderSpec, Checkpoint], "nn.Module"]
    wants_digest: bool = False
    working: Callable[[EncoderSpec], int] | None = None


FAMILIES = {
    "efficientnet_lite": Family(efficientnet_lite.resolve, efficientnet_lite.build),
    "huggingface": Family(huggingface.resolve, huggingface.build),
    "maws": Family(maws.resolve, maws.build, wants_digest=True),
    "omnivore": Family(
        omnivore.resolve, omnivore.build, wants_digest=True, working=omnivore.working_bytes
    ),
}


def working_bytes(spec: EncoderSpec) -> int:
    """Bytes that a clip takes at most on CPU, beside the weights and what every encoder takes.

    Args:
        spec: resolved.
    """
    working = FAMILIES[spec.family].working
    return 0 if working is None else working(spec)


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
    family = FAMILIES[spec.family]
    if family.wants_digest and spec.sha256 is None and is_elsewhere(spec.weights):
        raise ModelError(
            f"encoder '{spec.name}': the makers of '{spec.weights}' publish no digest of it, so"
            " none is known here, and without one other weights could come under the same name."
            " Download it once, look at it, and give what `sha256sum` says of it as `sha256`"
            " (--sha256), or give your copy as `weights` (--weights)"
        )
    checkpoint = fetch(spec.weights, spec.revision, s3)
    if spec.sha256 not in (None, checkpoint.sha256):
        raise ModelError(
            f"encoder '{spec.name}': the weights at '{spec.weights}' have sha256"
            f" {checkpoint.sha256}, not {spec.sha256}; fetch them again, or correct `sha256` if the"
            " change is meant"
        )
    found = {"sha256": checkpoint.sha256, "revision": checkpoint.revision or spec.revision}
    return family.resolve(spec.model_copy(update=found), checkpoint), checkpoint
