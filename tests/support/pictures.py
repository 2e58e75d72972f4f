"""Pictures to make videos from."""

import numpy as np

WIDTH, HEIGHT = 192, 112


def moving_picture(number: int, seed: int = 0) -> np.ndarray:
    """A textured picture that moves with the frame number, uint8 [HEIGHT, WIDTH, 3]."""
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    picture = np.kron(base, np.ones((8, 8, 1), dtype=np.uint8))
    return np.roll(picture, (3 * number, number), axis=(1, 0))
