"""Ranges of films decoded, and what is checked of them."""

from __future__ import annotations

import numpy as np

from takestream.schema import Reason
from workers.media.decode import decode, rgb


def picture(number, frame):
    return rgb(frame)


def everything(number):
    return True


def decoded(source, index, first=0, last=None, wanted=everything):
    last = index.frames if last is None else last
    frames = list(decode(source, index, first, last, wanted, picture))
    assert [frame.frame for frame in frames] == list(range(first, last))
    return frames


def check_exact(film, frames):
    for frame in frames:
        assert frame.reason is Reason.VALID, frame.frame
        assert np.array_equal(frame.picture, film.pictures[frame.frame]), frame.frame


def check_placed(film, index, frames):
    """The film's pictures in order, and nothing where the index says that frames are missing."""
    pictures = iter(film.pictures)
    for frame, packet in zip(frames, index.shown.tolist(), strict=True):
        if packet < 0:
            assert frame.reason is Reason.MISSING_FRAME
        else:
            assert frame.reason is Reason.VALID, frame.frame
            assert np.array_equal(frame.picture, next(pictures)), frame.frame
    assert next(pictures, None) is None


# Exactness
