"""Files that ordinary tools write and simple readers get wrong: shown as plain PyAV shows them."""

from __future__ import annotations

import io
import struct
from dataclasses import replace

import av
import numpy as np
import pytest
from PIL import Image

from takestream.schema import Reason
from tests.support.films import Film
from tests.support.muxer import Sample, Track, box, full, joined, mux, track_of
from workers.media.container import UnreadableVideo
from workers.media.decode import decode, rgb
from workers.media.index import read_index
from workers.media.orientation import STORED, Orientation, orientation

ONE = 1 << 16


@pytest.fixture(scope="session")
def plain(encode):
    """Closed groups of twelve with two B-frames in a row, no sound."""
    return encode(gop=12, bframes=2, audio=False, x264_params={"scenecut": 0})


@pytest.fixture(scope="session")
def track(plain):
    return track_of(plain)


def check(data, stored, shown=lambda picture: picture, step=7):
    """Every frame of `data`, read as a whole and from every few frames on, is plain PyAV's."""
    expected = Film(data).pictures
    source = stored(data)
    index = read_index(source)
    assert index.frames == len(expected)
    for first in range(0, index.frames, step):
        last = index.frames if not first else min(first + 2, index.frames)
        frames = decode(source, index, first, last, lambda n: True, lambda n, f: rgb(f))
        for frame, picture in zip(frames, expected[first:last], strict=True):
            assert frame.reason is Reason.VALID, frame.frame
            assert np.array_equal(frame.picture, shown(picture)), frame.frame


# What travels beside packets


@pytest.mark.parametrize("size", [(160, 120), (96, 64)])
def test_two_sample_descriptions(size, plain, encode, stored):
    options = {"cabac": 0, "ref": 1, "8x8dct": 0, "weightp": 0, "scenecut": 0}
    other = encode(gop=12, bframes=2, audio=False, size=size, x264_params=options, seed=1)
    third = encode(gop=12, audio=False, seed=2)
    check(mux(joined(*map(track_of, (plain, other, third)))), stored)


def test_descriptions_that_differ_where_no_decoder_complains(encode, stored):
    # Of another quantiser offset the parameter sets tell, and the pictures only drift.
    settings = {"gop": 12, "audio": False, "crf": 30}
    tracks = [
        track_of(encode(**settings, x264_params={"scenecut": 0, "chroma-qp-offset": offset}))
        for offset in (0, 6)
    ]
    assert tracks[0].entries != tracks[1].entries
    check(mux(joined(*tracks)), stored)


def parameter_sets(entry: bytes) -> bytes:
    """Those of an H.264 sample description, as units of a sample."""
    at = entry.index(b"avcC") + 4
    found, at = b"", at + 5
    for mask in (0x1F, 0xFF):
        count, at = entry[at] & mask, at + 1
        for _ in range(count):
            (length,) = struct.unpack_from(">H", entry, at)
            found += struct.pack(">I", length) + entry[at + 2 : at + 2 + length]
            at += 2 + length
    return found


@pytest.mark.parametrize("size", [(160, 120), (96, 64)])
@pytest.mark.parametrize("offset", [0, 9])
@pytest.mark.parametrize("again", ["each key", "once"])
def test_parameter_sets_that_change_in_band_alone(again, offset, size, plain, encode, stored):
    # The description in force stays that of the first part, whose sets are others.
    settings = {"cabac": 0, "ref": 1, "weightp": 0, "scenecut": 0, "chroma-qp-offset": offset}
    other = track_of(
        encode(gop=12, bframes=2, audio=False, size=size, x264_params=settings, seed=1)
    )
    sets, carried, samples = parameter_sets(other.entries[0]), False, []
    for sample in other.samples:
        if sample.key and not (carried and again == "once"):
            sample, carried = replace(sample, data=sets + sample.data), True
        samples.append(sample)
    whole = joined(track_of(plain), replace(other, samples=samples, entries=()))
    check(mux(replace(whole, samples=[replace(s, entry=1) for s in whole.samples])), stored)


@pytest.mark.parametrize("codec", ["qtrle", "rawvideo"])
def test_a_palette_beside_the_packets(codec, stored):
    out = io.BytesIO()
    random = np.random.default_rng(0)
    with av.open(out, "w", format="mov") as container:
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray"
        for number in range(30):
            grey = random.integers(0, 256, (48, 64), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="gray")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    check(out.getvalue(), stored)


# Display matrices

SHOWN = {
    "mirrored": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "upside down, mirrored": ((1, 0, 0, -1), lambda p: p[::-1]),
    "transposed": ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
    "transposed the other way": ((0, -1, -1, 0), lambda p: p.transpose(1, 0, 2)[::-1, ::-1]),
    "turned": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
}


@pytest.mark.parametrize("name", SHOWN)
def test_mirrors_are_shown_as_mirrors(name, track, stored):
    (a, b, c, d), shown = SHOWN[name]
    matrix = (a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30)
    check(mux(replace(track, matrix=matrix)), stored, shown, step=60)


@pytest.mark.parametrize(
    "matrix",
    [
        (0, ONE, 0, 0, 0, 1 << 30, 320 << 16, 240 << 16, 36),
        (0, 0, 0, 0, 0, 0, 0, 0, 1 << 30),
        (ONE, ONE, 0, -ONE, ONE, 0, 0, 0, 1 << 30),
        (ONE, ONE // 2, 0, 0, ONE, 0, 0, 0, 1 << 30),
        (ONE, 0, 5, 0, ONE, 0, 0, 0, 1 << 30),
    ],
)
def test_a_matrix_that_is_none_turns_nothing(matrix, track, stored):
    assert orientation(matrix) is None
    check(mux(replace(track, matrix=matrix)), stored, step=60)


def test_scaling_and_sines_that_are_not_quite_zero_are_allowed():
    assert orientation((2 * ONE, 3, 0, -3, ONE, 0, 7, 7, 1 << 30)) == STORED
    assert orientation((1, ONE, 0, -ONE, 1, 0, 7, 7, 1 << 30)) == Orientation(True, False, True)


# The track one would watch


def cover() -> bytes:
    picture = io.BytesIO()
    Image.new("RGB", (160, 120), (200, 60, 10)).save(picture, "JPEG")
    item = box(b"covr", box(b"data", struct.pack(">II", 13, 0), picture.getvalue()))
    handler = full(b"hdlr", struct.pack(">I4s4s9x", 0, b"mdir", b"appl"))
    return box(b"udta", full(b"meta", handler, box(b"ilst", item)))


@pytest.mark.parametrize("where", ["first", "last"])
def test_a_cover_is_not_the_video(where, track, stored):
    data = mux(track, **{where: cover()})
    index = read_index(stored(data))
    assert (index.codec, index.frames) == ("h264", 60)
    expected = Film(mux(track)).pictures
    source = stored(data)
    frames = decode(source, index, 0, 60, lambda n: True, lambda n, f: rgb(f))
    assert all(np.array_equal(f.picture, expected[f.frame]) for f in frames)


def test_an_unknown_codec_before_the_video(track, stored):
    unknown = replace(track, entries=[track.entries[0].replace(b"avc1", b"xyz1")])
    index = read_index(stored(mux(unknown, track)))
    assert (index.codec, index.track) == ("h264", 1)


def thumbnails(encode, **settings) -> Track:
    return track_of(encode(size=(32, 24), audio=False, **settings))


@pytest.mark.parametrize("settings", [{}, {"count": 6, "fps": 3}])
def test_thumbnails_before_the_video(settings, track, encode, stored):
    index = read_index(stored(mux(thumbnails(encode, **settings), track)))
    assert (index.track, index.width, index.frames) == (1, 160, 60)


def test_a_track_that_is_not_enabled_is_not_the_video(track, stored):
    assert read_index(stored(mux(replace(track, flags=6), track))).track == 1
    assert read_index(stored(mux(replace(track, flags=6)))).track == 0


def test_one_picture_beside_the_video(track, encode, stored):
    picture = track_of(encode(count=1, size=(640, 480), audio=False))
    assert read_index(stored(mux(picture, track))).track == 1


def test_nothing_but_a_cover(track, stored):
    data = mux(replace(track, samples=[Sample(b"", 0, 0, True)]), first=cover())
    data = data.replace(b"vide", b"soun")
    with pytest.raises(UnreadableVideo):
        read_index(stored(data))
