"""Classes by their names alone, where the encoder has a text side."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.load import SettingsError, encoder_presets
from service.evaluate.samples import Vectors
from takestream.storage import S3Options

PROMPTS = Path(__file__).with_name("prompts.txt")
Scorer = Callable[[Vectors], NDArray[np.float32]]


def read_prompts(path: str | Path = PROMPTS) -> list[str]:
    """The sentences in a file, one a line, with {} where the name of a class goes.

    Raises:
        SettingsError: There is no such file, or a line has no {}.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--prompts {path}: {error}") from error
    found = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if wrong := [line for line in found if line.count("{}") != 1]:
        raise SettingsError(f"--prompts {path}: {wrong[0]!r} has no {{}} for the name of the class")
    if not found:
        raise SettingsError(f"--prompts {path}: it holds no sentence")
    return found


def zero_shot(
    encoder: Mapping[str, Any], prompts: Sequence[str], s3: S3Options
) -> Callable[[Sequence[str]], Scorer] | None:
    """What scores vectors by names of classes; None where the encoder has no text side here.

    A class is the mean of its sentences' vectors, each of length 1, as in CLIP (arXiv:2103.00020).
    The network is that of the preset of the same name, with the digest that the store names.

    Args:
        encoder: The attribute `encoder` of a store.
        prompts: As `read_prompts` gives them.
        s3: How to reach weights on S3.

    Raises:
        ModelError: The network cannot be loaded.
    """
    from models.search.joint import has_joint_space

    spec = encoder_presets().get(str(encoder.get("name")))
    if spec is None or spec.pool != encoder.get("pool") or not has_joint_space(spec):
        return None

    def scorer(classes: Sequence[str]) -> Scorer:
        import torch

        from models.search.joint import load_joint

        digest = encoder.get("sha256")
        joint = load_joint(spec.model_copy(update={"sha256": digest}), torch.device("cpu"), s3)
        vectors = []
        for name in classes:
            mean = np.mean([joint.text(prompt.format(name)) for prompt in prompts], axis=0)
            vectors.append(mean / max(float(np.linalg.norm(mean)), 1e-12))

        def score(features: Vectors) -> NDArray[np.float32]:
            return np.stack([joint.scores(features, v.astype(np.float32)) for v in vectors], axis=1)

        return score

    return scorer
