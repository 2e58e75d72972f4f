"""NVDEC or the CPU: which of them decodes streams of one kind faster on this machine.

On small pictures a CPU core is faster than an NVDEC engine, on large ones slower, and machines
differ in both. So the first unit of each kind decodes a short piece of its own footage both ways,
while matrix products keep the GPU as busy as an encoder would. The choice is logged once for each
kind, and counters say how many decoder runs took which way: `streams_nvdec`, `streams_cpu_faster`,
`streams_cpu_refused`, and `nvdec_given_up` for those that NVDEC began and the CPU went on with.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import av
import numpy as np
import torch
from av.video.frame import VideoFrame

from takestream.schema import Reason
from workers.media.counters import Counters
from workers.media.decode import decode
from workers.media.decoder import OpenDecoder, open_cpu_decoder
from workers.media.index import Index
from workers.media.nvdec import NotForNvdec, check_plain, open_cuda_decoder
from workers.media.pictures import DevicePictures, Pictures, Wanted, stays_on_device
from workers.media.session import Decoded, Unproven
from workers.media.source import Source
from workers.media.video import Video

log = logging.getLogger(__name__)

# Frames of a calibration, the bytes they may have, and the seconds that each half of it may take.
FRAMES, MOST_BYTES, SECONDS = 256, 32 * 2**20, 3.0
# Rows of the matrices that are multiplied in place of an encoder.
BUSY = 4096
# A calibration runs so many decoders at most: more change the rates little.
MOST_STREAMS = 16

Convert = Callable[[Iterator[Decoded[VideoFrame]]], Iterator[Decoded[Pictures]]]


@dataclass(frozen=True)
class Choice:
    """How streams of one kind are decoded, and why.

    Attributes:
        nvdec: whether NVDEC decodes them.
        nvdec_rate: frames per second of NVDEC, of all streams of a unit together, pictures
            included; 0 where it was not measured.
        cpu_rate: the same of the CPU.
        refusal: why NVDEC cannot be used; empty where it can.
    """

    nvdec: bool
    nvdec_rate: float = 0.0
    cpu_rate: float = 0.0
    refusal: str = ""


_chosen: dict[tuple[object, ...], Choice] = {}
_choosing = threading.Lock()


def read_pictures(
    video: Video,
    source: Source,
    pictures: DevicePictures,
    streams: int,
    first: int,
    last: int,
    wanted: Wanted,
    *,
    opener: OpenDecoder = open_cuda_decoder,
) -> Iterator[Decoded[Pictures]]:
    """Samples `[first, last)` of a stream as pictures on the device, by the faster decoder.

    Args:
        video: the stream. NVDEC is tried where its index is believed.
        source: where its bytes are.
        pictures: makes the pictures.
        streams: how many streams like it are decoded at once, itself included.
        first: number of the first sample.
        last: number after the last sample.
        wanted: by sizing, the samples that become pictures.
        opener: opens NVDEC.

    Yields:
        As `Reader.read` does.

    Raises:
        StorageError: bytes cannot be read.
    """
    anywhere = frozenset[int]().union(*wanted).__contains__
    if video.showing:
        choice = Choice(False, refusal="its index is not believed")
    else:
        choice = choose(source, video.index, streams, pictures.made, opener=opener)
    frames = decoded_by(choice, video, source, first, last, anywhere, opener=opener)
    yield from pictures.made(frames, wanted)


def choose(
    source: Source,
    index: Index,
    streams: int,
    convert: Convert,
    *,
    opener: OpenDecoder = open_cuda_decoder,
) -> Choice:
    """How to decode a stream beside others like it; measured once for each kind in this process.

    Reads the object's first frames once more when it measures.

    Args:
        source: the stream's object.
        index: of the stream.
        streams: how many streams are decoded at once.
        convert: makes pictures of frames; its time is part of what is measured.
        opener: opens NVDEC.

    Raises:
        StorageError: the first frames cannot be read.
    """
    streams = min(streams, MOST_STREAMS)
    try:
        # What the file says of itself is looked up for each stream, not for each kind.
        check_plain(index)
        refusal = ""
    except (NotForNvdec, av.FFmpegError) as error:
        refusal = str(error)
    kind = (index.codec, index.width, index.height, streams, refusal, opener)
    with _choosing:
        if kind not in _chosen:
            if refusal:
                _chosen[kind] = Choice(False, refusal=refusal)
            else:
                _chosen[kind] = _measured(source, index, streams, convert, opener)
            log.warning("%s", describe(index, streams, _chosen[kind]))
        return _chosen[kind]


def describe(index: Index, streams: int, choice: Choice) -> str:
    """The choice in one line."""
    what = f"{index.codec} {index.width}x{index.height}, {streams} streams"
    if choice.refusal:
        return f"{what}: decoding on the CPU: {choice.refusal}"
    where = "NVDEC" if choice.nvdec else "the CPU"
    rates = f"NVDEC {choice.nvdec_rate:.0f} frames/s, CPU {choice.cpu_rate:.0f}"
    return f"{what}: decoding on {where} ({rates})"


def decoded_by(
    choice: Choice,
    video: Video,
    source: Source,
    first: int,
    last: int,
    wanted: Callable[[int], bool],
    *,
    opener: OpenDecoder = open_cuda_decoder,
) -> Iterator[Decoded[VideoFrame]]:
    """Frames `[first, last)` of `video`, by the decoder of `choice`.

    Only the CPU's decoder says what is damaged, or not what its index says: it goes on from the
    first frame that NVDEC gives up, or whose colours the device cannot convert. So a lack of NVDEC
    sessions does not look like a damaged video either.
    """
    counters = source.counters
    if choice.nvdec:
        counters.add(streams_nvdec=1)
        try:
            for frame in video.reader(source, opener).read(first, last, wanted, _held):
                if frame.reason is Reason.DAMAGED_FRAME or not _is_usable(frame.picture):
                    break
                yield frame
                first = frame.frame + 1
            else:
                return
        except (NotForNvdec, Unproven) as error:
            log.warning("%s: %s; decoding on the CPU", source.uri, error)
        counters.add(nvdec_given_up=1)
    elif choice.refusal:
        counters.add(streams_cpu_refused=1)
    else:
        counters.add(streams_cpu_faster=1)
    yield from video.reader(source).read(first, last, wanted, _held)


def frames_per_second(
    source: Source, index: Index, streams: int, convert: Convert, opener: OpenDecoder, frames: int
) -> float:
    """What `streams` decoders at once reach, over the first `frames` frames or `SECONDS`.

    Opening them is not timed: a unit opens a decoder once for thousands of frames.

    Raises:
        NotForNvdec, av.FFmpegError, OSError, RuntimeError: what the first decoder to fail raised.
    """
    counts = [0] * streams
    errors: list[Exception] = []
    ready = threading.Barrier(streams + 1)

    def one(number: int) -> None:
        try:
            run = convert(decode(source, index, 0, frames, _every, _held, open_decoder=opener))
            next(run)
            ready.wait()
            until = time.monotonic() + SECONDS
            for _ in run:
                counts[number] += 1
                if time.monotonic() > until:
                    break
        except (av.FFmpegError, OSError, RuntimeError, NotForNvdec, Unproven) as error:
            errors.append(error)
            ready.abort()

    threads = [threading.Thread(target=one, args=(n,), daemon=True) for n in range(streams)]
    for thread in threads:
        thread.start()
    with suppress(threading.BrokenBarrierError):
        ready.wait()
    began = time.monotonic()
    for thread in threads:
        thread.join()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    if errors:
        # The other threads then raise BrokenBarrierError.
        raise min(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError))
    return sum(counts) / (time.monotonic() - began)


class _Kept(Source):
    """An object of which a piece is in memory."""

    def __init__(self, whole: Source, start: int, stop: int) -> None:
        self.uri, self.counters = whole.uri, Counters()
        self._whole, self._start, self._data = whole, start, whole.read(start, stop)

    def read(self, start: int, stop: int) -> bytes:
        if self._start <= start and stop <= self._start + len(self._data):
            return self._data[start - self._start : stop - self._start]
        return self._whole.read(start, stop)

    def note(self, start: int, data: bytes) -> None:
        self._whole.note(start, data)

    def read_ahead(self, spans: Iterable[tuple[int, int]]) -> Iterator[bytes]:
        return (self.read(start, stop) for start, stop in spans)


def _measured(
    source: Source, index: Index, streams: int, convert: Convert, opener: OpenDecoder
) -> Choice:
    try:
        container, _ = opener(index)
        container.close()
        kept, frames = _kept(source, index)
        if refusal := _refusal(kept, index, opener):
            return Choice(False, refusal=refusal)
        # Contexts, kernels and weights of the resize are made in a first run.
        frames_per_second(kept, index, 1, convert, opener, min(frames, 32))
        with busy_gpu():
            nvdec = frames_per_second(kept, index, streams, convert, opener, frames)
    except (NotForNvdec, Unproven, av.FFmpegError, RuntimeError) as error:
        return Choice(False, refusal=str(error))
    with busy_gpu():
        cpu = frames_per_second(kept, index, streams, convert, open_cpu_decoder, frames)
    return Choice(nvdec > cpu, nvdec, cpu)


@contextmanager
def busy_gpu() -> Iterator[None]:
    """Multiplies large matrices on a stream of their own meanwhile, as an encoder does.

    FFmpeg waits for one or two kernels per frame, which are queued behind the encoder's: six NVDEC
    streams of 448p gave 5,500 frames/s on an H200 with an encoder that does nothing, and 2,900
    beside VideoMAE-L.
    """
    if not torch.cuda.is_available():
        yield
        return
    over = threading.Event()

    def run() -> None:
        with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
            one = torch.randn(BUSY, BUSY, device="cuda", dtype=torch.bfloat16)
            while not over.is_set():
                for _ in range(8):
                    one @ one
                torch.cuda.current_stream().synchronize()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _kept(source: Source, index: Index) -> tuple[Source, int]:
    """The first frames of an object in memory, and how many: no more bytes than `MOST_BYTES`."""
    frames = min(FRAMES, index.frames)
    while (index.shown[:frames] >= 0).any():
        start, stop = index.packets(0, frames)
        run = np.arange(start, min(stop + 1, len(index.pts)))
        run = run[index.there[run]]
        if not len(run):
            break
        first = int(index.position[run].min())
        last = int((index.position[run] + index.size[run]).max())
        if last - first <= MOST_BYTES or frames == 1:
            return _Kept(source, first, last), frames
        frames = max(1, frames // 2)
    raise NotForNvdec("its first frames are not in the object")


def _refusal(source: Source, index: Index, opener: OpenDecoder) -> str:
    run = decode(source, index, 0, min(4, index.frames), _every, _held, open_decoder=opener)
    pictures = [frame.picture for frame in run if frame.picture is not None]
    if not pictures or any(picture.format.name != "cuda" for picture in pictures):
        return "the GPU lacks its codec or profile"
    if not all(stays_on_device(picture) for picture in pictures):
        return "its colours are not those of the plain conversion"
    return ""


def _is_usable(picture: VideoFrame | None) -> bool:
    return picture is None or picture.format.name != "cuda" or stays_on_device(picture)


def _held(number: int, frame: VideoFrame) -> VideoFrame:
    return frame


def _every(number: int) -> bool:
    return True
