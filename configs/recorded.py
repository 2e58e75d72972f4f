"""Vectors that encoders gave for the first bundled clip: a line each in `configs/encoders/`.

A line holds 32 numbers of the vector, evenly spaced: enough to tell other weights, another
preprocessing or another choice of frames, and short enough to read.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from configs.base import Settings
from configs.load import PRESETS
from configs.schema import Name, Precision, Sha256

RECORDED = PRESETS / "recorded.jsonl"
NUMBERS = 32


class Recorded(Settings):
    """One line.

    encoder: name of the preset.
    sha256: digest of the weights.
    precision, runtime: what it was recorded with.
    numbers: of the vector, at `positions`.
    """

    encoder: Name
    sha256: Sha256
    precision: Precision
    runtime: str
    numbers: tuple[float, ...]


def positions(dim: int) -> list[int]:
    """Which of a vector's numbers are recorded."""
    count = min(dim, NUMBERS)
    return [dim * n // count for n in range(count)]


def difference(recorded: Recorded, vector: Sequence[float]) -> float:
    """How far a vector is from the recorded one, as a part of its numbers' size; inf without any.

    Args:
        recorded: A line.
        vector: All numbers of the vector.
    """
    ours = [vector[n] for n in positions(len(vector))]
    if len(ours) != len(recorded.numbers):
        return float("inf")
    square = sum((a - b) ** 2 for a, b in zip(ours, recorded.numbers, strict=True))
    size = sum(b**2 for b in recorded.numbers)
    return float((square / size) ** 0.5) if size else float("inf")


def recorded_vectors(file: Path = RECORDED) -> dict[str, Recorded]:
    """All lines, by the name of the encoder."""
    if not file.exists():
        return {}
    lines = [line for line in file.read_text().splitlines() if line]
    return {line.encoder: line for line in map(Recorded.model_validate_json, lines)}


def record(line: Recorded, file: Path = RECORDED) -> None:
    """Write a line; one of the same encoder is replaced. Raises OSError."""
    lines = {**recorded_vectors(file), line.encoder: line}
    texts = [json.dumps(lines[name].model_dump(mode="json")) for name in sorted(lines)]
    file.write_text("\n".join(texts) + "\n")
