"""Exact frame ranges of one stream: every frame decoded once, damage found and named.

Packets are cut out of ranged reads by the index and go straight to the decoder; no demuxer reads
in the loop. A frame counts as good when its own packet and all that it can depend on came through:
from a lost or corrupt frame on, everything decoded up to the next key packet is damaged, and so
are the frames of the next group that are shown before its key (they lean on both groups), and the
packet just before. Compared frame by frame with undamaged decoding of H.264, no changed frame goes
unnamed where garbage, zeros or a cut span packets. What libav's decoder does not notice nobody
names: of forty tries each at 448p, 4 KiB of garbage inside large packets twice, a single flipped
bit five times; and its HEVC and VP9 decoders notice next to nothing inside a packet. Zeros where
bytes were lost are found in H.264 and HEVC without a decoder: no slice can hold three of them but
at its end.

Colour: pictures become rgb24 as by PyAV's plain `to_ndarray(format="rgb24")`. Tags (BT.601 or 709,
limited or full range) are honoured and untagged video counts as BT.601 limited, at any size. That
is what PyAV and torchvision scripts, the official extraction among them, see. Display rotation is
applied.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from takestream.schema import Reason
from workers.media.decoder import Decoder, OpenDecoder, open_cpu_decoder
from workers.media.index import Index
from workers.media.landing import GRADUAL, ColdLanding, FalseLanding, look_back
from workers.media.orientation import frame_orientation
from workers.media.session import Decoded, Session
from workers.media.source import Source

# A key packet need not be a whole picture: with intra refresh it takes a group or two until frames
# are right. If the first frame asked for is not, decoding starts so many key packets earlier.
LANDINGS = (0, 1, GRADUAL)

P = TypeVar("P")

_own = threading.local()


def rgb(frame: VideoFrame) -> NDArray[np.uint8]:
    """The picture as uint8 [H, W, 3], turned and mirrored as its display matrix says."""
    # `frame.to_ndarray(format="rgb24")` makes a scaler with threads of its own for each frame: the
    # same pixels, in three times the time.
    reformatter: VideoReformatter | None = getattr(_own, "reformatter", None)
    if reformatter is None:
        reformatter = _own.reformatter = VideoReformatter()
    array = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
    array = array.astype(np.uint8, copy=False)
    return frame_orientation(frame).array(array)


def decode(
    source: Source,
    index: Index,
    first: int,
    last: int,
    wanted: Callable[[int], bool],
    convert: Callable[[int, VideoFrame], P],
    *,
    open_decoder: OpenDecoder | None = None,
) -> Iterator[Decoded[P]]:
    """Frames `[first, last)` of a stream in presentation order, each exactly once.

    `convert(number, frame)` runs at once on each good frame for which `wanted(number)` holds.
    Frames past the end of the stream come as PAST_END, frames whose data is not in the object as
    MISSING_FRAME, frames that damage reaches as DAMAGED_FRAME. Memory: a few frames and
    `IN_FLIGHT` reads.

    Raises:
        Unproven: the stream is not what its index says; what came before is right.
        StorageError: bytes cannot be read.
    """
    end = min(last, index.frames)
    while first < end and index.shown[first] < 0:
        yield Decoded(first, Reason.MISSING_FRAME, None)
        first += 1
    landings = list(LANDINGS) if first < end else []
    while landings:
        start, stop = index.packets(first, end, landings[0])
        if not start:
            landings = landings[:1]
        opener = open_decoder or open_cpu_decoder
        decoder = Decoder(index, opener, source.counters, patient=len(landings) > 1)
        try:
            session = Session(source, index, decoder, first, end, start)
            for decoded in session.run(stop, wanted, convert):
                if (
                    decoded.frame == first
                    and decoded.reason is Reason.DAMAGED_FRAME
                    and landings[1:]
                ):
                    raise ColdLanding(start)
                yield decoded
                first = decoded.frame + 1
            break
        except FalseLanding:
            look_back(source, index, start)
        except ColdLanding:
            landings.pop(0)
        finally:
            decoder.close()
    for number in range(max(first, end), last):
        yield Decoded(number, Reason.PAST_END, None)
