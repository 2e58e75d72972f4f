"""Texts and pictures as queries: what is read, and what is refused in words."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from models.search.query import MAX_BYTES, MAX_CHARACTERS, QueryError
from tests.support.joint_checkpoints import encoded


@pytest.mark.parametrize("text", ["", " \n\t", "a" * (MAX_CHARACTERS + 1), "cup \ud800"])
def test_texts_that_say_nothing_are_refused(text, loaded):
    for ask in (loaded["clip"].text, loaded["siglip"].is_cut):
        with pytest.raises(QueryError, match="the text "):
            ask(text)


def png_of(width, height):
    """A PNG file of a few bytes that says it has so many pixels."""
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n"
    for name, data in [(b"IHDR", size), (b"IDAT", zlib.compress(b"\0" * 64)), (b"IEND", b"")]:
        file += struct.pack(">I", len(data)) + name + data
        file += struct.pack(">I", zlib.crc32(name + data))
    return file


def pictures_to_refuse():
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    jpeg = encoded(noise, "JPEG")
    return {
        "empty": (b"", "not a PNG, JPEG or WebP"),
        "text": (b"<svg onload=alert(1)>", "not a PNG, JPEG or WebP"),
        "gif": (encoded(noise[:9, :9, 0], "GIF"), "not a PNG, JPEG or WebP"),
        "cut jpeg": (jpeg[: len(jpeg) // 2], "damaged or cut off"),
        "cut png": (encoded(noise)[:5000], "damaged or cut off"),
        "header only": (png_of(32, 32), "damaged or cut off"),
        "40 million pixels": (png_of(8000, 5000), "8000 x 5000 pixels; at most"),
        "a bomb": (png_of(2**31 - 1, 2**31 - 1), "more than|pixels; at most"),
        "many bytes": (b"\xff\xd8" + b"\0" * MAX_BYTES, "16.0 MiB; at most 16 MiB"),
        "a thread": (encoded(np.zeros((1, 40_000, 3), np.uint8)), "too long and narrow"),
        "16 bits": (encoded(np.zeros((9, 9), np.uint16)), "16-bit grey"),
    }


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", pictures_to_refuse())
def test_files_that_are_no_picture_are_refused(name, loaded):
    data, says = pictures_to_refuse()[name]
    with pytest.raises(QueryError, match=says):
        loaded["clip"].image(data)


def test_pictures_of_each_kind_are_read(loaded, picture):
    # Smooth, since JPEG would change noise.
    y, x = np.mgrid[0:64, 0:96]
    pixels = np.stack([x * 2, y * 3, 255 - x], -1).astype(np.uint8)
    ours = loaded["clip"]
    plain = ours.image(encoded(pixels))
    for format, options in [
        ("WEBP", {"lossless": True}),
        ("WEBP", {"quality": 95}),
        ("JPEG", {"quality": 95}),
    ]:
        assert ours.image(encoded(pixels, format, **options)) @ plain > 0.999
    # A photograph stored lying on its side, and its EXIF data saying so (6: turn it clockwise).
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = encoded(np.ascontiguousarray(np.rot90(pixels)), "PNG", exif=exif)
    np.testing.assert_allclose(ours.image(lying), plain, atol=1e-6)
    alpha = np.dstack([pixels, np.full(pixels.shape[:2], 9, np.uint8)])
    np.testing.assert_allclose(ours.image(encoded(alpha)), plain, atol=1e-6)
    assert ours.image(encoded(pixels[..., 0])).shape == (ours.dim,)
    assert ours.image(encoded(pixels[:1, :1])).shape == (ours.dim,)
