"""Makes small video files for the example data set and for tests: encoded the way cameras encode.

Frames go in as RGB arrays; out comes one MP4 (or any container that the file name asks for) with
H.264, B-frames, long groups of pictures and sound, and, on request, the things that real files
have and simple readers forget: variable frame rate, a non-zero or negative start, open GOPs,
fragments, rotation, colour tags. Frames can also carry their own number as a row of blocks, so
that a test can ask any decoded picture which frame it is.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from service.demo.sound import Layout, Sound

RgbFrame = NDArray[np.uint8]
"""One picture: uint8, shape (height, width, 3), RGB, full range."""

_BITS = 16
_CHECK_BITS = 4
_CELLS = _BITS + _CHECK_BITS + 4
_BAR_FRACTION = 12

# PyAV's Colorspace numbers are swscale's; these two agree with FFmpeg's tags only for BT.709.
_AVCOL_SPC_SMPTE170M = 6

# (a, b, c, d) of the track matrix for a picture that a player must turn clockwise by the key, in
# degrees.
_TURNS = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


@contextmanager
def _scheduling_kept() -> Iterator[None]:
    """SVT-AV1 makes the thread that opens it real-time where root runs it (SCHED_FIFO, 99).

    Whatever is started from that thread later would be so too, and share the cores with nobody.
    """
    if not hasattr(os, "sched_setscheduler"):
        yield
        return
    policy, rank = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, rank)


@_scheduling_kept()
def encode_video(
    path: Path | str,
    frames: Iterable[RgbFrame],
    *,
    fps: Fraction | int = 30,
    start: Fraction | int = 0,
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 90_000),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    colors: Literal["bt601", "bt709"] | None = None,
    full_range: bool = False,
    gop: int = 250,
    bframes: int = 3,
    crf: int = 28,
    preset: str = "veryfast",
    open_gop: bool = False,
    x264_params: Mapping[str, str | int] | None = None,
    options: Mapping[str, str] | None = None,
    audio: bool = True,
    layout: Layout = "mono",
    rotate: int = 0,
    faststart: bool = False,
    container_options: Mapping[str, str] | None = None,
    threads: int = 1,
) -> int:
    """Encode RGB frames into one video file and return how many frames were written.

    Args:
        path: The file to write. Its suffix chooses the container; parent folders are made.
        frames: uint8 arrays of one shape (height, width, 3). Read one at a time, so a generator
            costs no memory.
        fps: Frames per second: 25, 30, ``Fraction(30000, 1001)``… With ``pts`` it is only the
            nominal rate.
        start: Time of the first frame in seconds. MP4 keeps a positive start as an empty edit, cut
            to milliseconds; with a negative one the frames before zero are in the file, but hidden
            by its edit list. Not together with ``pts``.
        pts: For a variable frame rate: the presentation time of each frame in ``time_base`` units,
            rising. May begin anywhere, below zero too. There must be as many as frames.
        time_base: Seconds per unit of ``pts``; without ``pts`` it is not used.
        codec: FFmpeg's name of the video encoder.
        pix_fmt: FFmpeg's name of the stored pixel format. The 4:2:0 ones need even sizes;
            ``yuv444p`` takes any.
        colors: Convert by this matrix and tag the stream with it. ``None``: BT.601, untagged.
        full_range: Store luma as 0…255 (and tag it) instead of 16…235.
        gop: Most frames from one keyframe to the next. x264 also puts one at each scene cut, unless
            ``x264_params={"scenecut": 0}``.
        bframes: Most consecutive B-frames.
        crf: Quality of x264 and x265; higher is smaller and worse.
        preset: Speed preset of x264 and x265.
        open_gop: Let frames that are shown before a keyframe refer to pictures on both sides of it
            (x264).
        x264_params: More x264 settings; they win over the ones above.
        options: More options of the video encoder; they win over the ones above.
        audio: Add an AAC track (48 kHz) as long as the pictures.
        layout: Of its channels.
        rotate: 0, 90, 180 or 270: degrees clockwise by which a player must turn the picture,
            written as MP4's track matrix. The frames themselves are stored as they are given.
            (PyAV reports 90 as ``frame.rotation == -90``.)
        faststart: Put the index (``moov``) at the front of the file instead of its end.
        container_options: Options of the muxer, e.g. ``{"movflags": "frag_keyframe+empty_moov"}``.
        threads: Threads of the encoder. x264's output does not depend on it.

    Raises:
        ValueError: No frames, frames of unlike shapes or not uint8, odd sizes with a 4:2:0 format,
            a wrong number of ``pts`` or falling ones, a rotation that is not one of the four, or
            an encoder of something else than video.
        av.FFmpegError: The encoder or the container refuses a setting.
    """
    if rotate not in _TURNS:
        raise ValueError(f"rotate must be 0, 90, 180 or 270 degrees, not {rotate}")
    if pts is not None and start != 0:
        raise ValueError("give either start or pts: the first of the pts is the start")
    if av.Codec(codec, "w").type != "video":
        raise ValueError(f"{codec} is not a video encoder")
    path = Path(path)
    pictures = iter(frames)
    first = next(pictures, None)
    if first is None:
        raise ValueError(f"no frames to encode into {path.name}")
    height, width = _checked(first, first.shape).shape[:2]
    if pix_fmt.startswith(("yuv420", "yuvj420", "nv12")) and (width % 2 or height % 2):
        raise ValueError(
            f"{pix_fmt} needs an even width and height, these frames are {width}x{height}: "
            "crop them, or use pix_fmt='yuv444p'"
        )

    times = _Times(Fraction(fps), Fraction(start), pts, time_base)
    muxer = dict(container_options or {})
    if faststart:
        muxer["movflags"] = "+".join(filter(None, [muxer.get("movflags", ""), "faststart"]))
    encoder = _encoder_options(codec, crf, preset, gop, open_gop, x264_params)
    encoder.update(options or {})
    matrix = Colorspace.ITU709 if colors == "bt709" else Colorspace.ITU601
    levels = ColorRange.JPEG if full_range else ColorRange.MPEG

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=muxer) as container:
        video = container.add_stream(codec, rate=Fraction(fps), options=encoder)
        assert isinstance(video, VideoStream)
        context = video.codec_context
        context.width, context.height, context.pix_fmt = width, height, pix_fmt
        context.time_base = times.base
        context.gop_size, context.max_b_frames, context.thread_count = gop, bframes, threads
        _tag(video, colors, levels if full_range or colors else None)
        sound = Sound(container, layout) if audio else None

        reformatter = VideoReformatter()
        count = 0
        for picture in chain([first], pictures):
            frame = reformatter.reformat(
                av.VideoFrame.from_ndarray(_checked(picture, first.shape), format="rgb24"),
                format=pix_fmt,
                dst_colorspace=matrix,
                dst_color_range=levels,
            )
            frame.pts, frame.duration = times.of(count)
            frame.time_base = times.base
            container.mux(video.encode(frame))
            if sound is not None:
                sound.fill(times.seconds(count), times.seconds(count, end=True))
            count += 1
        if pts is not None and count != len(pts):
            raise ValueError(f"{len(pts)} pts for {count} frames")
        container.mux(video.encode(None))
        if sound is not None:
            sound.finish()
    if rotate:
        _write_rotation(path, rotate, width, height)
    return count


def rgb_pixels(frame: av.VideoFrame) -> RgbFrame:
    """A decoded picture as RGB."""
    # rgb24 is always uint8; PyAV's type also names those of other formats.
    return frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)


def burn_frame_number(rgb: RgbFrame, number: int) -> RgbFrame:
    """Return a copy of a frame whose lowest twelfth shows its number as black and white blocks.

    The row is 24 blocks over the whole width: white, black, 16 bits (highest first), 4 check bits,
    black, white. Blocks of 4 pixels and more survive strong compression and scaling; a picture
    that was cropped or turned cannot be read.

    Args:
        rgb: uint8, shape (height, width, 3), at least 96 pixels wide and 48 high.
        number: 0 … 65535.

    Raises:
        ValueError: The number does not fit, or the frame is too small.
    """
    height, width = rgb.shape[:2]
    if not 0 <= number < 1 << _BITS:
        raise ValueError(f"frame number {number} does not fit into {_BITS} bits")
    if width < 4 * _CELLS or height < 4 * _BAR_FRACTION:
        raise ValueError(f"a {width}x{height} frame is too small for a readable number")
    code = number << _CHECK_BITS | _check_bits(number)
    payload = [code >> shift & 1 for shift in reversed(range(_BITS + _CHECK_BITS))]
    cells = np.array([1, 0, *payload, 0, 1], dtype=np.uint8) * np.uint8(255)
    out = rgb.copy()
    columns = np.arange(width) * _CELLS // width
    out[height - height // _BAR_FRACTION :] = cells[columns][None, :, None]
    return out


def read_frame_number(rgb: RgbFrame) -> int | None:
    """Read the number that :func:`burn_frame_number` put into a frame.

    ``None`` if there is no number, or none to be trusted.

    Args:
        rgb: uint8, shape (height, width, 3): the whole picture, at any size.
    """
    height, width = rgb.shape[:2]
    bar = height // _BAR_FRACTION
    if bar < 1 or width < 2 * _CELLS:
        return None
    # The middle of the bar and of each block: compression and scaling smear the edges.
    rows = rgb[height - bar + bar // 4 : height - bar // 4].mean(axis=(0, 2))
    cell = width / _CELLS
    levels = np.empty(_CELLS)
    for index in range(_CELLS):
        left = math.ceil((index + 0.25) * cell)
        levels[index] = rows[left : max(left + 1, int((index + 0.75) * cell))].mean()
    white, black = levels[[0, -1]].min(), levels[[1, -2]].max()
    if white - black < 80:
        return None
    heights = (levels - black) / (white - black)
    if np.any((heights > 0.35) & (heights < 0.65)):
        return None
    code = int("".join("1" if high else "0" for high in heights[2:-2] > 0.5), 2)
    number = code >> _CHECK_BITS
    return number if code & ((1 << _CHECK_BITS) - 1) == _check_bits(number) else None


def _check_bits(number: int) -> int:
    # Not zero for zero, so that a black row is no number.
    return (number ^ number >> 4 ^ number >> 8 ^ number >> 12 ^ 0b1010) & 0b1111


def _checked(picture: RgbFrame, shape: tuple[int, ...]) -> RgbFrame:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(
            f"frames are uint8 (height, width, 3), not {picture.dtype} {picture.shape}"
        )
    if picture.shape != shape:
        raise ValueError(f"frames of unlike shapes: {shape} and then {picture.shape}")
    return np.ascontiguousarray(picture)


class _Times:
    """When each frame is shown: exact ticks of a time base in which nothing has to be rounded."""

    def __init__(
        self, fps: Fraction, start: Fraction, pts: Sequence[int] | None, time_base: Fraction
    ) -> None:
        step = 1 / fps
        if pts is None:
            # The largest tick of which both the step and the start are whole multiples.
            p, q = step.numerator * start.denominator, start.numerator * step.denominator
            self.base = Fraction(math.gcd(p, q), step.denominator * start.denominator)
        else:
            if any(later <= earlier for earlier, later in pairwise(pts)):
                raise ValueError("pts must rise from frame to frame")
            self.base = time_base
        self._pts = pts
        self._first = int(start / self.base)
        self._step = round(step / self.base)

    def of(self, index: int) -> tuple[int, int]:
        """Presentation time and duration of a frame, in ticks."""
        if self._pts is None:
            return self._first + index * self._step, self._step
        if index >= len(self._pts):
            raise ValueError(f"{len(self._pts)} pts for more frames than that")
        if index + 1 < len(self._pts):
            return self._pts[index], self._pts[index + 1] - self._pts[index]
        return self._pts[index], self._step

    def seconds(self, index: int, *, end: bool = False) -> Fraction:
        pts, duration = self.of(index)
        return (pts + duration if end else pts) * self.base


def _encoder_options(
    codec: str,
    crf: int,
    preset: str,
    gop: int,
    open_gop: bool,
    x264_params: Mapping[str, str | int] | None,
) -> dict[str, str]:
    if codec not in ("libx264", "libx265"):
        return {}
    options = {"crf": str(crf), "preset": preset}
    if codec == "libx264":
        # Sliced threads would cut each picture into slices, which no camera's file has.
        params: dict[str, str | int] = {"sliced-threads": 0, "keyint": gop}
        params |= {"open-gop": int(open_gop), **(x264_params or {})}
        options["x264-params"] = ":".join(f"{key}={value}" for key, value in params.items())
    return options


def _tag(video: VideoStream, colors: str | None, levels: ColorRange | None) -> None:
    context = video.codec_context
    if levels is not None:
        context.color_range = levels
    if colors == "bt709":
        context.colorspace, context.color_primaries = Colorspace.ITU709, ColorPrimaries.BT709
        context.color_trc = ColorTrc.BT709
    elif colors == "bt601":
        context.colorspace = _AVCOL_SPC_SMPTE170M
        context.color_primaries, context.color_trc = ColorPrimaries.SMPTE170M, ColorTrc.SMPTE170M


def _write_rotation(path: Path, rotate: int, width: int, height: int) -> None:
    # PyAV has no way to give the muxer a display matrix, but its place in the file is fixed: in
    # each track's header (ISO 14496-12, 8.3.2), before the width and height, in 16.16 and 2.30
    # fixed point.
    data = bytearray(path.read_bytes())
    a, b, c, d = _TURNS[rotate]
    x = {90: height, 180: width}.get(rotate, 0)
    y = {180: height, 270: width}.get(rotate, 0)
    one = 1 << 16
    matrix = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, x * one, y * one, 1 << 30)
    for moov in _boxes(data, b"moov", 0, len(data)):
        for track in _boxes(data, b"trak", *moov):
            for header, _ in _boxes(data, b"tkhd", *track):
                at = header + (52 if data[header] == 1 else 40)
                shown_width = struct.unpack_from(">I", data, at + 36)[0]
                if shown_width:  # sound has none
                    data[at : at + 36] = matrix
                    path.write_bytes(data)
                    return
    raise ValueError(f"{path.name} has no MP4 track header to write a rotation into")


def _boxes(data: bytearray, name: bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The (start, stop) of the content of each MP4 box of that name in ``data[start:stop]``."""
    while start + 8 <= stop:
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", data, start + 8)[0], 16
        elif size == 0:
            size = stop - start
        if size < head:
            return
        if kind == name:
            yield start + head, start + size
        start += size
