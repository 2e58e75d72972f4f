"""From a stream's frames to pictures in the sizes that encoders see, on the CPU or on a GPU."""

import time
from collections.abc import Iterator, Sequence

import torch
from av.video.frame import VideoFrame

from configs.preprocess import PreprocessSpec
from models.preprocess import frame_to_tensor, resize_and_crop
from workers.clock.clips import Decode
from workers.media.decode import rgb
from workers.media.decoders import read_pictures
from workers.media.pictures import DevicePictures, Pictures, Wanted
from workers.media.reader import Reader
from workers.media.session import Decoded
from workers.media.video import Video


def on_cpu(reader: Reader, sizings: Sequence[PreprocessSpec], turns: int) -> Decode:
    """Decode and size a stream's frames on the CPU.

    Args:
        reader: of the stream.
        sizings: one picture of a frame for each.
        turns: quarter turns counter-clockwise.
    """

    def run(first: int, last: int, wanted: Wanted) -> Iterator[Decoded[Pictures]]:
        def convert(number: int, frame: VideoFrame) -> Pictures:
            began = time.monotonic()
            picture = frame_to_tensor(rgb(frame))
            if turns:
                picture = torch.rot90(picture, turns, (-2, -1))
            made = tuple(
                resize_and_crop(picture, spec)[0] if number in seen else None
                for spec, seen in zip(sizings, wanted, strict=False)
            )
            took = time.monotonic() - began
            reader.source.counters.add(frames_converted=1, convert_seconds=took)
            return made

        anywhere = frozenset[int]().union(*wanted)
        return reader.read(first, last, anywhere.__contains__, convert)

    return run


def on_device(
    video: Video,
    reader: Reader,
    sizings: Sequence[PreprocessSpec],
    turns: int,
    device: torch.device,
    streams: int,
) -> Decode:
    """As `on_cpu`, with pictures made on a GPU, where `streams` are decoded at once."""
    source = reader.source

    def run(first: int, last: int, wanted: Wanted) -> Iterator[Decoded[Pictures]]:
        pictures = DevicePictures(list(sizings), device, turns, source.counters)
        return read_pictures(video, source, pictures, streams, first, last, wanted)

    return run
