"""Pictures made for a device have the CPU path's values; shown on the CPU, where both can run."""

from dataclasses import replace

import pytest
import torch

from configs.preprocess import PreprocessSpec
from models.preprocess import frame_to_tensor, resize_and_crop
from takestream.schema import Reason
from tests.support.muxer import mux, track_of
from workers.media.decode import decode, rgb
from workers.media.index import read_index
from workers.media.pictures import TOGETHER, DevicePictures

CPU = torch.device("cpu")
SPEC = PreprocessSpec(resize=64, crop=(56, 56), interpolation="bicubic")
OTHER = PreprocessSpec(resize=(40, 50), interpolation="bilinear")
FLOATS = PreprocessSpec(resize=64, crop=(56, 56), interpolation="bicubic", method="float")
ONE = 1 << 16
MIRRORED = {"mirrored": (-1, 0, 0, 1), "transposed": (0, 1, 1, 0), "turned": (0, 1, -1, 0)}


def held(number, frame):
    return frame


def everything(number):
    return True


def expected(frame, turns=0, spec=SPEC):
    picture = torch.rot90(frame_to_tensor(rgb(frame)), turns, (-2, -1))
    return resize_and_crop(picture, spec)[0]


def made_of(source, index, turns=0):
    pictures = DevicePictures([SPEC], CPU, turns, source.counters)
    return list(pictures.made(decode(source, index, 0, index.frames, everything, held)))


def plain(source, index, turns=0):
    def convert(number, frame):
        return (expected(frame, turns),)

    return list(decode(source, index, 0, index.frames, everything, convert))


def same(frames, others):
    for one, other in zip(frames, others, strict=True):
        assert (one.frame, one.reason) == (other.frame, other.reason)
        assert (one.picture is None) == (other.picture is None)
        if one.picture is not None:
            for picture, wanted in zip(one.picture, other.picture, strict=True):
                assert torch.equal(picture, wanted), one.frame


def test_pictures_of_every_film_are_the_cpus(any_film, stored):
    source = stored(any_film.data)
    index = read_index(source)
    expected_ones = plain(source, index)
    same(made_of(source, index), expected_ones)
    good = sum(frame.reason is Reason.VALID for frame in expected_ones)
    assert good == (index.shown >= 0).sum() > 0
    assert source.counters.snapshot()["frames_converted"] == good


@pytest.mark.parametrize("turns", [0, 1, 3])
@pytest.mark.parametrize("rotate", [0, 90, 270])
def test_turns_of_the_display_matrix_and_of_the_job_add_up(encode, stored, rotate, turns):
    source = stored(encode(count=5, size=(96, 64), rotate=rotate))
    index = read_index(source)
    same(made_of(source, index, turns), plain(source, index, turns))


@pytest.mark.parametrize("turns", [0, 1])
@pytest.mark.parametrize("name", MIRRORED)
def test_mirrors_are_shown_as_mirrors(encode, stored, name, turns):
    a, b, c, d = MIRRORED[name]
    matrix = (a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30)
    track = track_of(encode(count=5, size=(96, 64), audio=False))
    sources = [stored(mux(track)), stored(mux(replace(track, matrix=matrix)))]
    as_stored, shown = (made_of(source, read_index(source), turns) for source in sources)
    same(shown, plain(sources[1], read_index(sources[1]), turns))
    assert not torch.equal(as_stored[0].picture[0], shown[0].picture[0])


@pytest.mark.parametrize("second", [OTHER, FLOATS])
def test_each_frame_is_made_in_the_sizes_that_it_is_wanted_in(film, stored, second):
    source = stored(film("large").data)
    index = read_index(source)
    wanted = [frozenset(range(0, 250, 3)), frozenset(range(100, 250, 2))]
    anywhere = wanted[0] | wanted[1]
    # A third sizing is none of this stream's: nothing names frames for it.
    pictures = DevicePictures([SPEC, second, SPEC], CPU, 0, source.counters)
    frames = decode(source, index, 0, index.frames, anywhere.__contains__, held)
    made = list(pictures.made(frames, wanted))
    assert [frame.frame for frame in made] == list(range(250))
    assert source.counters.snapshot()["frames_converted"] == len(anywhere)

    def convert(number, frame):
        return [
            expected(frame, spec=spec) if number in seen else None
            for spec, seen in zip((SPEC, second), wanted, strict=True)
        ]

    for one, other in zip(made, decode(source, index, 0, 250, everything, convert), strict=True):
        if one.frame not in anywhere:
            assert one.picture is None
            continue
        *sizes, nobodys = one.picture
        assert nobodys is None
        for picture, want in zip(sizes, other.picture, strict=True):
            assert (picture is None) == (want is None)
            assert picture is None or torch.equal(picture, want)
            assert picture is None or picture.dtype == want.dtype


def test_a_frame_waits_for_few_others(film, stored):
    source = stored(film("large").data)
    index = read_index(source)
    given = []

    def noted(wanted):
        given.clear()
        frames = decode(source, index, 0, index.frames, wanted, held)
        noting = (given.append(frame.frame) or frame for frame in frames)
        return DevicePictures([SPEC], CPU, 0, source.counters).made(noting)

    next(noted(everything))
    assert len(given) <= TOGETHER
    # Where no frame is wanted, those that are not pass on all the same.
    next(noted(lambda number: False))
    assert len(given) <= 2 * TOGETHER
