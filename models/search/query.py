"""What somebody sends to search with, checked before anything is computed with it.

Of pictures only PNG, JPEG and WebP are opened, whatever a file calls itself, and the header is
judged before a pixel is decoded: a few kilobytes can announce gigabytes.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_CHARACTERS = 10_000
FORMATS = ("PNG", "JPEG", "WEBP")
MAX_BYTES = 16 * 2**20
# An 8K frame has 33 million. They take three to four bytes each while they are decoded.
MAX_PIXELS = 36_000_000


class QueryError(ValueError):
    """A text or a picture that cannot be searched for.

    The message says what is wrong with it and what is taken instead.
    """


def check_text(text: str) -> str:
    """`text`. Raises QueryError if it is empty, over `MAX_CHARACTERS` or broken Unicode."""
    if not text.strip():
        raise QueryError("the text is empty; say what to look for")
    if len(text) > MAX_CHARACTERS:
        raise QueryError(f"the text has {len(text)} characters; at most {MAX_CHARACTERS} are taken")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise QueryError(f"the text is not valid Unicode: {error.reason}") from error
    return text


def decode_picture(data: bytes) -> NDArray[np.uint8]:
    """RGB uint8 [H, W, 3], the way up that its EXIF data says; of an animation the first picture.

    Transparency is dropped as the hub's processors drop it, which shows the colours underneath.
    Raises QueryError for another format, a damaged or cut file, more than `MAX_BYTES` or more than
    `MAX_PIXELS`, and for 16-bit grey.
    """
    if len(data) > MAX_BYTES:
        size = f"{len(data) / 2**20:.1f} MiB"
        raise QueryError(f"the picture has {size}; at most {MAX_BYTES // 2**20} MiB are taken")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            _check_header(picture)
            upright = ImageOps.exif_transpose(picture)
            return np.array(upright.convert("RGB"))
    except QueryError:
        raise
    except UnidentifiedImageError as error:
        raise QueryError("the picture is not a PNG, JPEG or WebP file") from error
    except Image.DecompressionBombError as error:
        # PIL's own limit comes first for the largest; its words are about attacks.
        raise QueryError(f"the picture has more than {MAX_PIXELS:,} pixels; send it smaller") from (
            error
        )
    except Exception as error:
        # Its decoders have many words for damage (OSError, SyntaxError, struct.error, …).
        raise QueryError(f"the picture is damaged or cut off: {error}") from error


def _check_header(picture: Image.Image) -> None:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise QueryError(
            f"the picture has {width} x {height} pixels; at most {MAX_PIXELS:,} are taken, send it"
            " smaller"
        )
    if picture.mode.startswith(("I", "F")):
        raise QueryError("the picture has 16-bit grey values; send 8 bits per colour")
