"""Do weights differ from random numbers? Training gives a matrix directions that stand out.

The largest singular value of a matrix of independent random numbers is known beforehand, and that
of the same numbers shuffled is the same; a trained matrix has larger ones. Martin & Mahoney,
"Implicit Self-Regularization in Deep Neural Networks" (arXiv:1810.01075).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

# Smaller matrices, such as the filters of depthwise convolutions, say too little.
LEAST_SIDE = 16
# Enough of a matrix, so that a large network takes no longer than its own pass.
MOST_ROWS, MOST_COLUMNS = 1024, 4096
STEPS = 30


def structure(tensors: Mapping[str, Tensor]) -> float | None:
    """How far the most ordered matrix of some weights is from random numbers.

    Args:
        tensors: by name, as a checkpoint holds them. Tables of positions are left out, as some
            networks have waves there that nobody trained.

    Returns:
        The largest ratio of a matrix's largest singular value to that of its own numbers shuffled:
        near 1 where all are random. Each row is centred and of length 1 first, so that scales of
        channels do not count. None without a matrix of `LEAST_SIDE` on both sides.
    """
    ratios = [
        found
        for name, tensor in tensors.items()
        if "position" not in name and (found := _ratio(tensor)) is not None
    ]
    return max(ratios, default=None)


def _ratio(tensor: Tensor) -> float | None:
    if tensor.ndim < 2 or not tensor.is_floating_point():
        return None
    matrix = tensor.flatten(1)[:MOST_ROWS, :MOST_COLUMNS].float()
    matrix = matrix - matrix.mean(1, keepdim=True)
    lengths = matrix.norm(dim=1, keepdim=True)
    # Rows of one number, such as that of a padding token, have no direction.
    matrix = (matrix / lengths)[lengths[:, 0] > 0]
    if min(matrix.shape) < LEAST_SIDE or not bool(matrix.isfinite().all()):
        return None
    generator = torch.Generator().manual_seed(0)
    places = torch.randperm(matrix.numel(), generator=generator)
    shuffled = matrix.flatten()[places].view_as(matrix)
    return _largest(matrix, generator) / _largest(shuffled, generator)


def _largest(matrix: Tensor, generator: torch.Generator) -> float:
    """The largest singular value of a matrix, by power iteration: from below."""
    vector = torch.randn(matrix.shape[1], generator=generator)
    for _ in range(STEPS):
        vector = matrix.T @ (matrix @ vector)
        vector = vector / vector.norm()
    return float((matrix @ vector).norm())
