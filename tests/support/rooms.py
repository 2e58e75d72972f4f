"""Made-up rooms: what several cameras of one take hear, and small films that carry sound."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from scipy import signal

Samples = NDArray[np.float32]
RATE = 48_000


def bustle(seconds: float, seed: int, rate: int = RATE) -> Samples:
    """Somebody at work: noise in bursts of different colours, as speech and clatter are."""
    random = np.random.default_rng(seed)
    sound = 0.02 * random.standard_normal(round(seconds * rate))
    at = 0.0
    while at < seconds:
        length = random.uniform(0.05, 0.6)
        count = round(length * rate)
        low = random.uniform(150, 1500)
        shape = signal.butter(2, [low, low * random.uniform(2, 4)], "band", fs=rate, output="sos")
        burst = signal.sosfilt(shape, random.standard_normal(count)) * np.hanning(count)
        start = round(at * rate)
        stop = min(start + count, len(sound))
        sound[start:stop] += random.uniform(0.1, 1.0) * burst[: stop - start]
        at += length * random.uniform(0.6, 2.5)
    return (0.4 * sound / np.abs(sound).max()).astype(np.float32)


def clicks(seconds: float, period: float, rate: int = RATE, first: float = 0.1) -> Samples:
    """A metronome: the same click every `period` seconds."""
    sound = np.zeros(round(seconds * rate), dtype=np.float32)
    tick = np.exp(-np.arange(rate // 50) / (rate / 400)) * np.sin(np.arange(rate // 50) * 0.4)
    for at in np.arange(first, seconds - 0.05, period):
        start = round(at * rate)
        sound[start : start + len(tick)] += 0.5 * tick
    return sound


def tune(seconds: float, seed: int, rate: int = RATE) -> Samples:
    """Music: notes of four per second, each with a few harmonics."""
    random = np.random.default_rng(seed)
    time = np.arange(rate // 4) / rate
    notes = []
    for _ in range(round(seconds * 4) + 1):
        pitch = 220 * 2 ** (random.integers(0, 24) / 12)
        note = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in (1, 2, 3, 4))
        notes.append(note * np.exp(-time * 6))
    return (0.2 * np.concatenate(notes)[: round(seconds * rate)]).astype(np.float32)


def heard(
    scene: Samples,
    *,
    offset: float = 0.0,
    ppm: float = 0.0,
    rate: int = RATE,
    seed: int = 0,
    reverberation: float = 0.0,
    noise: float = -40.0,
    gain: float = 1.0,
    clip: bool = False,
    seconds: float | None = None,
) -> Samples:
    """The scene as a camera records it.

    Args:
        scene: float32 [n] at `RATE`; its first second or more comes before the take's beginning
            (so that a camera may begin early): the take begins one second into it.
        offset: seconds by which the camera shows a moment later than the take's clock does.
        ppm: by how many millionths the camera's clock gains on it.
        rate: samples per second of the recording.
        seed: of its room and noise.
        reverberation: seconds until the room's echo has fallen by 60 dB.
        noise: of the microphone, in dB beside the scene.
        gain: of the microphone.
        clip: whether it is far too loud for the recorder.
        seconds: of the recording; as long as the scene allows by default.
    """
    random = np.random.default_rng(seed)
    if reverberation:
        time = np.arange(round(reverberation * RATE)) / RATE
        echo = random.standard_normal(len(time)) * 10 ** (-3 * time / reverberation)
        echo[: RATE // 500] = 0
        room = 0.7 * echo / np.sqrt((echo**2).sum())
        room[0] = 1.0
        scene = signal.fftconvolve(scene, room)[: len(scene)].astype(np.float32)
    count = round((seconds if seconds is not None else len(scene) / RATE - 2.0) * rate)
    # A moment at t of the take is at offset + t (1 + ppm) of the camera.
    moment = (np.arange(count) / rate - offset) / (1 + ppm * 1e-6)
    sound = _at(scene, (moment + 1.0) * RATE, rate)
    level = np.sqrt(np.mean(sound**2)) or 1e-3
    sound = sound + level * 10 ** (noise / 20) * random.standard_normal(count)
    sound = gain * sound
    if clip:
        sound = np.clip(8 * sound, -0.9, 0.9)
    return np.clip(sound, -1, 1).astype(np.float32)


def listening(
    sound: Samples, rate: int = RATE
) -> Callable[[Sequence[tuple[float, float]], int], list[Samples]]:
    """Reads stretches of a recording, as the sound of a file is read."""

    def read(spans: Sequence[tuple[float, float]], wanted: int) -> list[Samples]:
        common = int(np.gcd(rate, wanted))
        made = signal.resample_poly(sound, wanted // common, rate // common).astype(np.float32)
        parts = []
        for start, stop in spans:
            part = np.zeros(round((stop - start) * wanted), dtype=np.float32)
            first = round(start * wanted)
            low, high = max(0, first), min(len(made), first + len(part))
            if low < high:
                part[low - first : high - first] = made[low:high]
            parts.append(part)
        return parts

    return read


def activity(
    count: int,
    *,
    offset: float = 0.0,
    fps: float = 30,
    seed: int = 0,
    scene: int = 1,
    size: tuple[int, int] = (160, 120),
) -> Iterator[NDArray[np.uint8]]:
    """Pictures of somebody who moves now and then, as one of several cameras sees it.

    Args:
        count: frames.
        offset: seconds by which the camera shows a moment later than the take's clock does.
        fps: frames per second.
        seed: of the camera's view.
        scene: of what happens; the same in all cameras of a take.
        size: width and height.
    """
    view = np.random.default_rng(seed)
    ground = view.integers(60, 200, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    ground = ground.repeat(8, 0).repeat(8, 1)
    colour = view.choice([0, 255], 3)
    turn = view.uniform(0, 6, 2)
    pace = np.random.default_rng(scene).uniform(0, 1, 8 * (round(count / fps) + 12))
    way = np.concatenate([[0], np.cumsum(np.where(pace > 0.5, (pace - 0.5) * 12, 0))])
    for number in range(count):
        at = np.interp((number / fps - offset + 5) * 8, np.arange(len(way)), way)
        picture = ground.copy()
        x = int((np.sin(at * 0.35 + turn[0]) * 0.4 + 0.5) * (size[0] - 30))
        y = int((np.cos(at * 0.23 + turn[1]) * 0.4 + 0.5) * (size[1] - 30))
        picture[y : y + 28, x : x + 28] = colour
        yield picture


def _at(scene: Samples, position: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    """The scene between its samples; enough for what is below 8 kHz."""
    if rate < RATE:
        shape = signal.butter(8, 0.45 * rate, fs=RATE, output="sos")
        scene = signal.sosfiltfilt(shape, scene).astype(np.float32)
    fine = signal.resample_poly(scene, 4, 1)
    inside = (position >= 0) & (position <= len(scene) - 2)
    values = np.interp(position * 4, np.arange(len(fine)), fine)
    return np.where(inside, values, 0.0)


def write_film(
    path: Path,
    pictures: Iterable[NDArray[np.uint8]],
    sound: Samples | None = None,
    *,
    fps: int | Fraction = 30,
    rate: int = RATE,
    channels: int = 1,
    sound_start: float = 0.0,
    codec: str = "aac",
    bitrate: int = 128_000,
    crf: int = 28,
    options: dict[str, str] | None = None,
) -> Path:
    """An mp4 of `pictures` (uint8 [H, W, 3]) with `sound` (float32 [n]) interleaved.

    Args:
        path: the file.
        pictures: frame by frame.
        sound: float32 [n], the same in all channels, or [channels, n]; or none.
        fps: frames per second.
        rate: samples per second of `sound`.
        channels: 1, or 2 of which each gets `sound`.
        sound_start: seconds between the first frame and the first sample.
        codec: of the sound.
        bitrate: of the sound.
        crf: of the pictures; 0 keeps them as they are.
        options: of the muxer.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options or {}) as out:
        pictures = iter(pictures)
        first = next(pictures)
        video: Any = out.add_stream("libx264", rate=fps)
        video.width, video.height, video.pix_fmt = first.shape[1], first.shape[0], "yuv420p"
        video.options = {"preset": "ultrafast", "crf": str(crf), "g": "60", "threads": "1"}
        track: Any = None
        if sound is not None:
            layout = "mono" if channels == 1 else "stereo"
            track = out.add_stream(codec, rate=rate, layout=layout)
            track.bit_rate = bitrate
        said = None if sound is None else np.broadcast_to(sound, (channels, np.shape(sound)[-1]))
        spoken = 0
        step = 1024 if codec == "aac" else rate // 50
        for count, picture in enumerate(itertools.chain([first], pictures)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = count, 1 / Fraction(fps)
            out.mux(video.encode(frame))
            while said is not None and spoken < said.shape[1] and spoken / rate < (count + 1) / fps:
                part = said[:, spoken : spoken + step]
                out.mux(track.encode(_block(part, spoken, rate, track, sound_start)))
                spoken += step
        out.mux(video.encode(None))
        if sound is not None:
            out.mux(track.encode(None))
    return path


def _block(part: Samples, first: int, rate: int, track: Any, start: float) -> av.AudioFrame:
    layout = "mono" if len(part) == 1 else "stereo"
    name = track.codec_context.format.name
    values: Any = part
    whole = {"s16": np.int16, "s32": np.int32}.get(name.removesuffix("p"))
    if whole is not None:
        values = (values * float(np.iinfo(whole).max) * 0.99).astype(whole)
    if not name.endswith("p"):
        values = values.T.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(values), format=name, layout=layout)
    frame.sample_rate, frame.pts = rate, first + round(start * rate)
    frame.time_base = Fraction(1, rate)
    return frame
