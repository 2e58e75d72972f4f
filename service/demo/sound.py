"""The sound of made video files: an AAC track that keeps pace with the pictures."""

from fractions import Fraction
from typing import Literal

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from numpy.typing import NDArray

Layout = Literal["mono", "stereo"]

_RATE = 48_000
_AAC_FRAME = 1024


class Sound:
    """A quiet tone that comes and goes; in stereo with noises that never repeat, fainter right.

    All files have the same noises at the same times, so that they can be compared by them.

    Args:
        container: Gets the track.
        layout: Of its channels.
    """

    def __init__(self, container: OutputContainer, layout: Layout) -> None:
        stream = container.add_stream("aac", rate=_RATE, layout=layout)
        assert isinstance(stream, AudioStream)
        stream.bit_rate = 32_000
        self._container, self._stream, self._layout = container, stream, layout
        self._loudness = np.array([[0.1], [0.05]] if layout == "stereo" else [[0.1]])
        self._position: int | None = None

    def fill(self, start: Fraction, end: Fraction) -> None:
        """Write sound until `end` seconds; it begins at the first `start`."""
        if self._position is None:
            self._position = round(start * _RATE)
        while self._position < end * _RATE:
            t = (self._position + np.arange(_AAC_FRAME)) / _RATE
            wave = self._loudness * np.sin(2 * np.pi * 220 * t) * np.sin(np.pi * t) ** 2
            if self._layout == "stereo":
                wave += self._loudness * _noise(self._position // _AAC_FRAME)
            frame = av.AudioFrame.from_ndarray(wave.astype(np.float32), "fltp", self._layout)
            frame.sample_rate, frame.pts = _RATE, self._position
            frame.time_base = Fraction(1, _RATE)
            self._container.mux(self._stream.encode(frame))
            self._position += _AAC_FRAME

    def finish(self) -> None:
        """Write what the encoder still holds."""
        self._container.mux(self._stream.encode(None))


def _noise(block: int) -> NDArray[np.float64]:
    """Noise of its own for each stretch of 21 ms, loud in few; float64 [`_AAC_FRAME`]."""
    random = np.random.default_rng(block)
    return random.random() ** 4 * random.standard_normal(_AAC_FRAME)
