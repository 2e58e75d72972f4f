"""Is an encoder what it says? What its vectors do when its pictures are changed.

Every share is a distance between vectors, divided by the median distance between clips of
different films: 1 is as far as another film. A share does not depend on how long an encoder's
vectors are, nor on what they have in common.

**Looks untrained.** Two signs, either of which is enough:

* `structure`, of the weights themselves: no matrix differs from random numbers
  (`models.spectrum`).
* `light`, of the vectors: a trained network sees the same scene in another light; one with random
  weights follows the light more than the scene. It is the mean share for clips made darker (x0.7)
  and paler (0.7x + 76).

Measured on twelve clips of the bundled footage (eight, of 100 frames, for TransNet V2):

| network | `structure` | `light` |
| --- | --- | --- |
| EfficientNet-Lite0, EfficientNet-Lite2 | 3.8, 3.6 | 0.16, 0.17 |
| both, random weights, three or four seeds each | 1.08 at most | 0.94 to 2.1 |
| both, random weights, batch norms fitted to the footage | as random | 0.95, 0.92 |
| both, weights shuffled within each layer | 1.04, 1.03 | 0.88, 0.83 |
| DINOv2-small: class token, mean of the patch tokens | 5.1 | 0.25, 0.18 |
| the same, random weights | 1.04 | 1.5, 2.1 |
| TransNet V2: what it says of each frame | 1.48 | 0.006 |
| the same, random weights, two or three seeds | 1.07 at most | 0.08, 0.16 |
| a CLIP tower of six layers, random weights | | 1.6 |
| thirteen small random transformers (`tests/support/checkpoints.py`) | 1.10 at most | 0.63 to 2.0 |

`light` alone would call the random TransNet V2 trained: it compares frames with each other, which
light leaves as they were. Its last hidden layer as a vector would be called untrained (0.49), with
some right: of its 52 matrices one differs from random numbers, that layer's own. Neither sign finds
all trained weights that are in the wrong places: 24 of Lite0's, swapped among those of their shape,
leave `structure` at 3.8 and give a `light` of 0.36. The recorded vector does.

The cosine between different films does not tell them apart: it is 0.22 to 0.52 for the trained
Lite0, but 0.20 to 0.95 for a random DINOv2-base and 0.14 to 0.77 for a small random VideoMAE.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from configs.schema import Precision
from models.encoder import Encoder
from models.spectrum import structure

UNTRAINED = "looks untrained"
# Between the trained networks of the table above and the others, nearer to the others: what is
# trained to follow light more than these is not to be called untrained.
MOST_LIGHT = 0.4
# Between the largest ratio of random weights in the table, 1.10, and the smallest of trained ones.
LEAST_STRUCTURE = 1.25
# Films whose vectors lie closer than this part of their length are the same vector.
LEAST_SPREAD = 1e-5
# How far a clip's vector may be, as a part of its length, from the same clip's in a batch.
MOST_BATCH = {"float32": 1e-4, "bfloat16": 2e-2, "float16": 5e-3}


@dataclass(frozen=True)
class Findings:
    """What was found of one encoder. Shares are explained in the module's text.

    Attributes:
        encoder: its name.
        sha256: digest of its weights.
        precision: it runs in.
        runtime: what runs the network, with its version.
        dim: numbers of a vector.
        clips: how many clips of the footage were encoded.
        batch: largest difference between a clip's vector alone and in a batch, as a part of the
            vector's length.
        spread: median distance between clips of different films, as a part of the vectors' median
            length.
        structure: of its weights, as `models.spectrum.structure` has it; None where they were not
            looked at or are too small.
        light: share for other light.
        order: share for frames in reverse; None where a clip has one frame.
        red_blue: share for red and blue swapped.
        constant: share from a grey picture to the nearest clip.
    """

    encoder: str
    sha256: str
    precision: Precision
    runtime: str
    dim: int
    clips: int
    batch: float
    spread: float
    structure: float | None
    light: float
    order: float | None
    red_blue: float
    constant: float


def examine(
    encoder: Encoder,
    clips: Tensor,
    films: Sequence[str],
    weights: Mapping[str, Tensor] | None = None,
) -> tuple[Findings, Tensor]:
    """What `encoder` makes of real clips, and of the same clips changed.

    Args:
        encoder: a loaded one.
        clips: [N, T, 3, H, W] on its device, as `Encoder.encode` takes them.
        films: N names: the film that each clip is from; at least two films. With one clip of each
            film the shares depend on which that is: `light` of a network with random weights was
            0.32. Give four.
        weights: the tensors of its checkpoint, to look at them as well.

    Returns:
        The findings, and the clips' vectors, float32 [N, D], on CPU.

    Raises:
        ValueError: clips of fewer than two films, or that the encoder does not take.
    """
    firsts = [films.index(film) for film in dict.fromkeys(films)]
    if len(firsts) < 2 or len(films) != len(clips):
        raise ValueError(f"{len(clips)} clips with the films {list(films)}: give two films or more")
    vectors = encoder.encode(clips).cpu()
    exact = vectors.double()
    lengths = exact.norm(dim=1).clamp(min=1e-30)
    between = torch.cdist(exact, exact)[_differ(films)].median()
    some, seen = clips[firsts], exact[firsts]

    def share(changed: Tensor, of: Tensor) -> float:
        distances = (encoder.encode(changed).cpu().double() - of).norm(dim=1)
        return float(distances.median() / between.clamp(min=1e-30))

    alone = torch.cat([encoder.encode(clips[n : n + 1]) for n in firsts]).cpu().double()
    grey = encoder.encode(torch.full_like(clips[:1], 127)).cpu().double()
    spec = encoder.spec
    found = Findings(
        encoder=spec.name,
        sha256=spec.sha256 or "",
        precision=spec.precision,
        runtime=str(getattr(encoder, "runtime", "")),
        dim=vectors.shape[1],
        clips=len(clips),
        batch=float(((alone - seen).norm(dim=1) / lengths[firsts]).max()),
        spread=float(between / lengths.median()),
        structure=structure(weights or {}),
        light=(share(_lit(clips, 0.7, 0), exact) + share(_lit(clips, 0.7, 76), exact)) / 2,
        order=share(some.flip(1), seen) if clips.shape[1] > 1 else None,
        red_blue=share(some.flip(2), seen),
        constant=float((exact - grey).norm(dim=1).min() / between.clamp(min=1e-30)),
    )
    return found, vectors


def faults_of(found: Findings) -> tuple[str, ...]:
    """What is wrong with an encoder of which this was found, a sentence each."""
    values = (found.batch, found.spread, found.light, found.red_blue, found.constant)
    if not all(torch.isfinite(torch.tensor(values))):
        return ("its vectors hold numbers that are not finite: its weights are damaged",)
    faults = []
    if found.batch > MOST_BATCH[found.precision]:
        faults.append(
            f"a clip's vector changes by {found.batch:.1e} of its length with the clips beside it"
        )
    if found.spread < LEAST_SPREAD:
        faults.append(f"{UNTRAINED}: it gives the same vector whatever it is shown")
    elif found.structure is not None and found.structure < LEAST_STRUCTURE:
        faults.append(
            f"{UNTRAINED}: its weights are as good as random numbers, the most ordered of them"
            f" {found.structure:.2f} times as ordered as when shuffled (EfficientNet-Lite0: 3.8; at"
            f" least {LEAST_STRUCTURE})"
        )
    elif found.light > MOST_LIGHT:
        faults.append(
            f"{UNTRAINED}: other light changes its vectors by {found.light:.2f} of the distance"
            f" to another film (EfficientNet-Lite0: 0.16; at most {MOST_LIGHT}); look whether"
            " these are the weights that were meant"
        )
    return tuple(faults)


def _differ(films: Sequence[str]) -> Tensor:
    """bool [N, N]: which pairs of clips are of different films."""
    numbers = torch.tensor([films.index(film) for film in films])
    return numbers[:, None] != numbers[None]


def _lit(clips: Tensor, gain: float, offset: float) -> Tensor:
    return (clips.float() * gain + offset).round().clamp(0, 255).to(clips.dtype)
