"""How long a take is and what its streams are, from the containers' indexes alone."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from takestream.errors import StorageError
from takestream.schema import Reason
from workers.clock.grid import agreed_frames, agreed_rate
from workers.dataset.base import Dataset, Place, place_of
from workers.dataset.mirrors import distrust
from workers.dataset.take import Kind, Stream, Take
from workers.media.container import UnreadableVideo
from workers.media.counters import Counters
from workers.media.source import ObjectIdentity, Source
from workers.media.video import Video, probe_video

# Frames per second of every video of the release.
USUAL_RATE = 30.0
# Of a probe, what stands elsewhere in a store.
_NOT_KEPT = frozenset({"reason", "note", "listed", "unread", "place"})


@dataclass(frozen=True)
class StreamProbe:
    """What is known of one stream before it is decoded.

    reason: VALID, or STREAM_ABSENT / STREAM_UNREADABLE with `fault` saying why in plain words, or
        NOT_EXTRACTED where its object could not be read this time (`unread`).
    frames: frames that a player shows. rate: frames per second, as a fraction in text.
    track: number of the video track that was taken, among all tracks of the file.
    read_by: "index" where the container's index tells the frames, "order" where the stream is
        decoded from its beginning instead.
    drift: largest distance in frames between a PTS and `frame / rate of the take`.
    note: what is odd about it although it can be read, in plain words.
    host: whose disk its object is on, where that is a mirror's.
    start_offset: where on the take's clock it begins, in seconds, if not with the take.
    lost_before: frames that its file has lost before the first one.
    listed: size of its object as the data set has it, where it does.
    unread: why its storage does not give the object; nothing is known of the stream then.
    place: where its bytes are read.
    """

    uri: str | None
    reason: Reason
    fault: str = ""
    size: int | None = None
    etag: str | None = None
    frames: int = 0
    rate: str | None = None
    codec: str | None = None
    width: int | None = None
    height: int | None = None
    track: int | None = None
    read_by: str | None = None
    drift: float = 0.0
    note: str = ""
    listed: int | None = None
    host: str | None = None
    start_offset: float | None = None
    lost_before: int = 0
    unread: StorageError | None = None
    place: Place | None = None

    @property
    def identity(self) -> ObjectIdentity | None:
        """The version of the object that was probed."""
        return None if self.etag is None else ObjectIdentity(self.size or 0, self.etag)

    def source(self, counters: Counters) -> Source:
        """The version of the object that was probed, to be read by range."""
        assert self.place is not None
        found = self.place.source(counters)
        if self.identity is not None:
            found.expect(self.identity)
        return found

    def begins(self, rate: Fraction) -> float:
        """Seconds on the take's clock, of `rate` frames per second, at its first frame."""
        return (self.start_offset or 0.0) + float(self.lost_before / rate)

    def provenance(self) -> dict[str, Any]:
        """The JSON-able facts that the store keeps."""
        facts = {k: v for k, v in vars(self).items() if v is not None and k not in _NOT_KEPT}
        return {**facts, "drift": round(self.drift, 3)}


@dataclass(frozen=True)
class TakeProbe:
    """A take's frame count and rate, agreed on by its streams, and each stream's probe."""

    frames: int
    rate: Fraction
    streams: Mapping[str, StreamProbe]

    @property
    def unread(self) -> dict[str, StorageError]:
        """By stream, why its object could not be read this time."""
        return {key: probe.unread for key, probe in self.streams.items() if probe.unread}

    def without(self, stream: str, error: StorageError) -> "TakeProbe":
        """This, once an object that could be probed can be read no longer."""
        probe = unread_stream(self.streams[stream].uri, error)
        return replace(self, streams={**self.streams, stream: probe})

    def problems(self) -> dict[str, tuple[str, ...]]:
        """Per stream, what is wrong with it or differs from the take, in plain words."""
        found = {}
        for key, probe in self.streams.items():
            if probe.unread:
                continue  # nothing is known of it: a failure of the run, not a fact of the take
            words = [probe.fault] if probe.fault else []
            if probe.note and probe.note not in probe.fault:
                words.append(probe.note)
            if probe.reason is Reason.VALID:
                shift = round(probe.begins(self.rate) * float(self.rate))
                if shift > 0:
                    words.append(f"begins {shift} frames after the take")
                if probe.frames + shift != self.frames:
                    what = "shorter" if probe.frames + shift < self.frames else "longer"
                    until = f" that begin at frame {shift}" if shift else ""
                    words.append(
                        f"{what} than the take: {probe.frames} frames{until}, the take has "
                        f"{self.frames}"
                    )
                if probe.rate and Fraction(probe.rate) != self.rate:
                    words.append(
                        f"{float(Fraction(probe.rate)):.6g} frames/s, the take has "
                        f"{float(self.rate):.6g}"
                    )
                if probe.drift > 0.5:
                    words.append(
                        f"its PTS leave the take's clock by up to {probe.drift:.1f} frames "
                        "(variable frame rate, or dropped or repeated frames)"
                    )
            if words:
                found[key] = tuple(words)
        return found


# By what a stream's samples are, what makes it ready to be read.
PROBES = {Kind.VIDEO: probe_video}


def probe_take(
    take: Take, dataset: Dataset, counters: Counters
) -> tuple[TakeProbe, dict[str, Video]]:
    """Probe every stream of a take at once; two to four small requests each.

    A stream whose object alone cannot be read is `unread`, and has no vote on the take's length and
    rate. Also returns the readable streams. Raises StorageError when the storage fails for all
    objects, or in a way that ends a job, so that an outage never passes for a broken video.
    """
    with ThreadPoolExecutor(max(1, len(take.streams)), thread_name_prefix="probe") as pool:
        found = list(pool.map(lambda stream: _probe(stream, dataset, counters), take.streams))
    videos = {
        stream.key: video
        for stream, (_, video) in zip(take.streams, found, strict=True)
        if video is not None
    }
    unread = [probe.unread for probe, _ in found if probe.unread]
    if unread and not videos:
        raise unread[0]
    offsets = {stream.key: stream.start_offset for stream in take.streams}
    counts = {
        key: max(0, video.samples + round(offsets[key] * float(video.rate)))
        for key, video in videos.items()
    }
    # A stream whose own count is in doubt has no vote where another one's is not.
    voting = [key for key, video in videos.items() if video.sure] or list(videos)
    rate = agreed_rate([videos[key].rate for key in voting])
    likely = None if take.duration is None else take.duration * float(rate)
    frames = agreed_frames([counts[key] for key in voting], likely)
    rate = agreed_rate([videos[key].rate for key in voting], _likely_rate(take, frames))
    agreed = frames if any(video.sure for video in videos.values()) else round(likely or 0)
    probes = {}
    for stream, (probe, video) in zip(take.streams, found, strict=True):
        more: dict[str, Any] = {}
        if video is not None:
            more["drift"] = _drift(video, rate)
            short = agreed - counts[stream.key]
            if short in video.index.lost_before():
                more["lost_before"] = short
                frames = max(frames, agreed)
        probes[stream.key] = replace(probe, **more)
    return TakeProbe(frames, rate, probes), videos


def unread_stream(uri: str | None, error: StorageError) -> StreamProbe:
    """The probe of a stream whose object the storage does not give."""
    return StreamProbe(uri, Reason.NOT_EXTRACTED, str(error), unread=error)


def _probe(
    stream: Stream, dataset: Dataset, counters: Counters
) -> tuple[StreamProbe, Video | None]:
    if stream.uri is None:
        fault = stream.note or "listed in takes.json without a file"
        return StreamProbe(None, Reason.STREAM_ABSENT, fault), None
    try:
        while True:
            place = place_of(dataset, stream, counters)
            note = "; ".join(words for words in (stream.note, place.note) if words)
            try:
                found = _looked_at(replace(stream, note=note), place, counters)
            except StorageError as error:
                if not place.mirror:
                    raise
                why = str(error)
            else:
                if not place.mirror or found[1] is not None:
                    return found
                why = found[0].fault
            distrust(place, f"the mirror's file cannot be read ({why})")
    except StorageError as error:
        if error.kind.fatal:
            raise
        return unread_stream(stream.uri, error), None


def _looked_at(
    stream: Stream, place: Place, counters: Counters
) -> tuple[StreamProbe, Video | None]:
    source = place.source(counters)
    try:
        identity = source.identity()
    except FileNotFoundError:
        said = "; ".join(
            words for words in ("listed, but the object is absent", stream.note) if words
        )
        return StreamProbe(stream.uri, Reason.STREAM_ABSENT, said), None
    source.expect(identity)
    try:
        video = PROBES[stream.kind](source, track=stream.track, span=stream.span)
        if video.showing:
            source.confirm()
    except UnreadableVideo as error:
        source.confirm()
        probe = StreamProbe(
            uri=source.uri,
            reason=Reason.STREAM_UNREADABLE,
            fault=str(error),
            size=identity.size,
            etag=identity.etag,
            note=_odd(stream, identity.size, 0, 0),
            listed=stream.size,
            host=place.host or None,
            place=place,
        )
        return probe, None
    probe = StreamProbe(
        uri=source.uri,
        reason=Reason.VALID,
        fault="; ".join(video.problems),
        size=identity.size,
        etag=identity.etag,
        frames=video.samples,
        rate=str(video.rate),
        codec=video.index.codec,
        width=video.index.width,
        height=video.index.height,
        track=video.index.track,
        read_by=video.read_by,
        note=_odd(stream, identity.size, video.index.width, video.index.height),
        listed=stream.size,
        host=place.host or None,
        place=place,
        start_offset=stream.start_offset or None,
    )
    return probe, video


def _odd(stream: Stream, size: int, width: int, height: int) -> str:
    """What the data set says of a stream that its object, or its pictures, do not bear out."""
    words = [stream.note] if stream.note else []
    if stream.size is not None and stream.size != size:
        words.append(f"the data set says it has {stream.size} bytes, its object has {size}")
    if stream.camera_kind == "slam" and width > height:
        words.append(
            f"its pictures are {width}x{height}: SLAM cameras are upright (480x640), and some takes"
            " ship them stretched"
        )
    return "; ".join(words)


def _likely_rate(take: Take, frames: int) -> float:
    """By the take's listed length where that is near the release's 30 frames per second."""
    rate = frames / take.duration if take.duration else USUAL_RATE
    return rate if USUAL_RATE / 2 < rate < USUAL_RATE * 4 else USUAL_RATE


def _drift(video: Video, rate: Fraction) -> float:
    clock = np.arange(video.samples) / float(rate)
    return float(np.nanmax(np.abs(video.times() - clock), initial=0.0) * float(rate))
