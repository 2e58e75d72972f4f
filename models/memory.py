"""Memory of the CPU encoder. Nothing here loads torch."""

import ctypes

# glibc's names (malloc.h) and a size that holds one pass of the larger networks.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_ARENA_MAX = -8
_KEPT_BYTES = 256 * 2**20
# Frames that are given to the encoder together on CPU, as a rule.
PASS_FRAMES = 64
_ARENAS = 2


def few_arenas() -> bool:
    """Lets all threads of this process share two heaps; False where the C library cannot.

    By default glibc gives each thread one of its own, up to eight for each core, and what is freed
    in one is not used in another: with decode threads that come and go a worker's memory grew by a
    tenth of a GB with every take. Only threads that are started afterwards are concerned.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_ARENA_MAX, _ARENAS))


def keep_freed_memory() -> bool:
    """Lets this process keep and reuse freed memory; False where the C library cannot.

    By default glibc returns each freed activation of more than 32 MB to the kernel and gets it back
    page by page, which costs a convolutional network on CPU half its time. The setting is the
    process's: up to 256 MiB of freed memory stay with it. Only glibc knows it (`mallopt(3)`).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(name, _KEPT_BYTES) for name in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))
