"""Containers opened by libav, and the choice of the video track that one would watch."""

from __future__ import annotations

from typing import Any

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from workers.media.sparse import SparseFile

# Other formats are refused before they are opened: playlists and session descriptions would make
# libav read local files or listen on the network.
CONTAINERS = "mov,mp4"
NOT_FOR_WATCHING = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
PICTURES = ("mjpeg", "png", "bmp", "gif", "webp", "jpeg2000", "tiff")
# A track of so much smaller pictures, or so many fewer, than another one is a preview of it.
PREVIEW = 4


class UnreadableVideo(Exception):
    """The object holds no video that can be decoded; the message says what it holds instead."""


def open_container(file: SparseFile, hwaccel: HWAccel | None = None) -> InputContainer:
    """`file` opened by libav.

    Raises:
        UnreadableVideo: it is no video; says so in plain words.
    """
    try:
        # Handler names and tags are not always UTF-8.
        return av.open(
            file,
            "r",
            options={"format_whitelist": CONTAINERS},
            metadata_errors="replace",
            hwaccel=hwaccel,
        )
    except av.ArgumentError as error:
        raise UnreadableVideo("not an mp4 or mov file") from error
    except (av.FFmpegError, EOFError) as error:
        raise UnreadableVideo(f"not a readable mp4 or mov file ({_reason(error)})") from error


def watched_track(container: InputContainer) -> VideoStream:
    """The video track that one would watch: the first that is no cover, thumbnail or preview.

    Raises:
        UnreadableVideo: there is none.
    """
    videos = list(container.streams.video)
    if not videos:
        kinds = ", ".join(sorted({stream.type for stream in container.streams}))
        raise UnreadableVideo(f"no video stream in it (it holds {kinds or 'nothing'})")
    moving = [stream for stream in videos if not stream.disposition & NOT_FOR_WATCHING]
    if not moving:
        raise UnreadableVideo("no video stream in it (it holds a cover picture)")
    # libav gives a stream whose codec it does not know no codec context at all.
    known = [stream for stream in moving if getattr(stream, "codec_context", None) is not None]
    if not known:
        raise UnreadableVideo("its video codec is not known here")
    known = _those(known, lambda stream: bool(stream.disposition & Disposition.default))
    known = _those(known, lambda stream: stream.codec_context.name not in PICTURES)
    for measure in (_count, _area):
        most = max(map(measure, known))
        known = [stream for stream in known if measure(stream) * PREVIEW > most] or known
    return known[0]


def named_track(container: InputContainer, track: int) -> VideoStream:
    """The stream with the index `track`.

    Raises:
        UnreadableVideo: there is none, it is no video, or its codec is not known.
    """
    found = next((stream for stream in container.streams.video if stream.index == track), None)
    if found is None:
        kinds = ", ".join(f"{stream.index} ({stream.type})" for stream in container.streams)
        raise UnreadableVideo(f"its track {track} is no video (it holds {kinds or 'nothing'})")
    if getattr(found, "codec_context", None) is None:
        raise UnreadableVideo(f"the codec of its track {track} is not known here")
    return found


def select(container: InputContainer, track: int) -> VideoStream:
    """The video stream with the index `track`; libav reads no other stream from now on."""
    chosen: Any = container.streams[track]
    for other in container.streams:
        if other is not chosen:
            other.discard = Discard.all
    stream: VideoStream = chosen
    return stream


def _those(streams: list[VideoStream], which: Any) -> list[VideoStream]:
    return [stream for stream in streams if which(stream)] or streams


def _count(stream: VideoStream) -> int:
    # A fragmented track does not say how many frames it has.
    return max(stream.frames, len(stream.index_entries))


def _area(stream: VideoStream) -> int:
    return stream.width * stream.height


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split()).lower()
