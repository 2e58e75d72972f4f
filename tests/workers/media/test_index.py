"""The index is what plain demuxing says, at the price of a few small reads, and never a crash."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from service.demo.footage import encode_video
from workers.media import sparse
from workers.media.container import UnreadableVideo
from workers.media.index import read_index
from workers.media.video import probe_video


def check_against_plain_demuxing(film, index):
    plain = film.packets
    assert index.pts.tolist() == [packet.pts for packet in plain]
    assert index.dts.tolist() == [packet.dts for packet in plain]
    assert index.position.tolist() == [packet.pos for packet in plain]
    assert index.size.tolist() == [packet.size for packet in plain]
    keys = [packet.is_keyframe for packet in plain]
    if index.key.sum() > 1:
        assert index.key.tolist() == keys
    else:  # One can always begin at the beginning, but the container must not list other keys.
        assert index.key[0]
        assert not film.lists_keys or sum(keys) == 1
    shown = index.shown[index.shown >= 0]
    assert index.pts[shown].tolist() == [pts for pts, _ in film.decoded]


def test_it_is_what_plain_demuxing_and_decoding_say(any_film, stored):
    index = read_index(stored(any_film.data))
    check_against_plain_demuxing(any_film, index)
    said = " ".join(index.problems)
    assert ("missing" in said) == bool((index.shown < 0).any())
    assert ("after the file's start" in said) == bool(index.late)
    with any_film.open() as container:
        stream = container.streams.video[0]
        assert index.codec == stream.codec_context.name
        assert (index.width, index.height) == (stream.width, stream.height)
        assert index.time_base == stream.time_base
        # Where an edit list or an odd duration moves the average, the step still counts.
        assert index.rate in (stream.average_rate, 30)
    assert index.times()[0] == 0
    start = any_film.decoded[0][0]
    seconds = [(pts - start) * float(index.time_base) for pts, _ in any_film.decoded]
    times = index.times()
    np.testing.assert_allclose(times[index.shown >= 0], seconds, atol=1e-9)
    assert np.isnan(times[index.shown < 0]).all()


@pytest.mark.usefixtures("tiny_reads")
def test_in_small_reads_it_is_the_same(any_film, stored):
    check_against_plain_demuxing(any_film, read_index(stored(any_film.data)))


@pytest.mark.parametrize("name", ["large", "large, moov in front"])
def test_a_few_small_reads_are_enough(name, film, stored):
    source = stored(film(name).data)
    read_index(source)
    assert len(source.reads) <= 4
    assert source.bytes_read < len(film(name).data) / 3
    assert source.counters.snapshot()["requests"] == len(source.reads) + 1


def test_a_jump_to_the_moov_at_the_end_takes_all_of_it_at_once(film, stored, monkeypatch):
    monkeypatch.setattr(sparse, "BLOCK", 512)
    source = stored(film("large").data)
    read_index(source)
    moov = film("large").data.rindex(b"moov")
    assert len(film("large").data) - moov > 10 * 512
    assert len([stop for _, stop in source.reads if stop > moov]) == 1


@pytest.mark.parametrize("name", ["large", "large, moov in front"])
def test_no_media_is_needed(name, film, stored):
    data = film(name).data
    moov = data.index(b"moov")
    hollow = bytearray(data)
    for packet in film(name).packets:
        if packet.pos > 200_000:
            hollow[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    assert hollow.count(0) > data.count(0) + 300_000
    assert hollow[moov:] != data[moov:] or moov > 200_000
    check_against_plain_demuxing(film(name), read_index(stored(bytes(hollow))))


def test_fragments_are_read_as_a_whole_and_not_kept_in_memory(stored, tmp_path):
    # Fragments may lie anywhere, so there is no index to go by; libav keeps to its 5 MB of probing.
    random = np.random.default_rng(0)
    noise = (random.integers(0, 256, (240, 320, 3), dtype=np.uint8) for _ in range(100))
    muxer = {"movflags": "frag_keyframe+empty_moov"}
    path = tmp_path / "noise.mp4"
    encode_video(path, noise, crf=1, gop=10, preset="ultrafast", container_options=muxer)
    source = stored(path.read_bytes())
    index = read_index(source)
    assert index.frames == 100
    assert index.identity.size > 10_000_000
    assert source.bytes_read > index.identity.size * 0.9
    assert sum(map(len, index.head._kept.values())) < 8_000_000


def test_fragments_after_a_moov_with_frames_and_a_segment_index_are_found(encode, stored):
    # (The pictures of this file cannot be decoded, because the muxer forgot to move offsets.)
    muxer = {"movflags": "frag_keyframe+global_sidx"}
    data = encode(count=250, size=(240, 176), crf=8, gop=50, container_options=muxer)
    with av.open(io.BytesIO(data)) as container:
        assert 0 < container.streams.video[0].frames < 250
    assert read_index(stored(data)).frames == 250


def test_it_opens_again_without_a_read(film, stored):
    source = stored(film("large").data)
    index = read_index(source)
    source.reads.clear()
    container, stream = index.open()
    with container:
        codec = stream.codec_context
        assert (codec.name, codec.width, codec.height) == ("h264", 240, 176)
        assert codec.extradata
    assert source.reads == []


@pytest.mark.parametrize("where", ["between packets", "inside a packet"])
def test_a_cut_object_keeps_its_frame_count_and_says_what_is_missing(where, film, stored):
    whole = film("large, moov in front")
    packet = whole.packets[100]
    cut = packet.pos + (0 if where == "between packets" else packet.size // 2)
    index = read_index(stored(whole.data[:cut]))
    check_against_plain_demuxing(whole, index)
    assert index.problems == (
        "the object is cut short: the data of 150 of 250 frames is not in it",
    )


def test_a_version_that_is_expected_is_not_asked_for_again(film, stored):
    source = stored(film("plain").data)
    read_index(source)
    first = source.counters.snapshot()["requests"]
    source.expect(source.identity())
    before = source.counters.snapshot()["requests"]
    read_index(source)
    assert source.counters.snapshot()["requests"] - before == first - 1


def test_the_first_of_two_video_streams_counts(film, stored, tmp_path):
    path = tmp_path / "two.mp4"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=30) for _ in range(2)]
        for stream, width in zip(streams, (64, 96), strict=True):
            stream.width, stream.height, stream.pix_fmt = width, 64, "yuv420p"
        for number in range(20):
            for stream in streams if number < 10 else streams[1:]:
                grey = np.full((64, stream.width, 3), number * 10, np.uint8)
                frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
                frame.pts = number
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    index = read_index(stored(path.read_bytes()))
    assert (index.frames, index.width) == (10, 64)


# What a frame needs


def frames_that_decoding_gives(film, start, stop):
    """PTS that come out when only packets `[start, stop)` are decoded, and their pictures."""
    with film.open() as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        codec = av.CodecContext.create(container.streams.video[0].codec_context.name, "r")
        codec.extradata = container.streams.video[0].codec_context.extradata
        frames = [frame for packet in packets[start:stop] for frame in codec.decode(packet)]
        frames += codec.decode(None)
    return {frame.pts: frame.to_ndarray(format="rgb24") for frame in frames}


@pytest.mark.parametrize("name", ["closed gop", "open gop", "open gop, pyramid", "hevc, open gop"])
def test_the_packets_for_a_range_are_enough_and_begin_no_earlier_than_a_key(name, film, stored):
    it = film(name)
    index = read_index(stored(it.data))
    keys = np.flatnonzero(index.key).tolist()
    for first in range(0, 60, 1):
        start, stop = index.packets(first, first + 1)
        assert index.key[start]
        out = frames_that_decoding_gives(it, start, stop)
        pts, picture = it.decoded[first]
        assert np.array_equal(out[pts], picture), first
        later = [key for key in keys if start < key < stop]
        for key in later:
            # Then it could not have begun there: the frame does not come out right.
            got = frames_that_decoding_gives(it, key, stop).get(pts)
            assert got is None or not np.array_equal(got, picture) or index.pts[key] > pts
    start, _ = index.packets(59, 60)
    assert index.packets(59, 60, earlier=1)[0] == keys[keys.index(start) - 1]
    assert index.packets(59, 60, earlier=99)[0] == 0


# Objects that are no video


def image(kind: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 10, 10)).save(out, kind)
    return out.getvalue()


def sound_only() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 9600), np.float32), "fltp", "mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


RANDOM = np.random.default_rng(0)
NO_VIDEO = {
    "empty": (b"", "empty"),
    "one byte": (b"x", "not a readable mp4"),
    "text": (b"not a video\n" * 900, "not a readable mp4"),
    "a web page": (b"<!DOCTYPE html><html><body>403 Forbidden</body></html>", "not a readable mp4"),
    "random bytes": (RANDOM.bytes(300_000), "not a readable mp4"),
    "zeros": (bytes(300_000), "not a readable mp4"),
    "a png": (image("PNG"), "not an mp4 or mov"),
    "a jpeg": (image("JPEG"), "not an mp4 or mov"),
    "sound only": (sound_only(), "no video stream in it .it holds audio"),
    "a box of 4 EiB": (
        struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + struct.pack(">I4sQ", 1, b"mdat", 1 << 62),
        "not a readable mp4",
    ),
    "30 000 empty boxes": (
        struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + struct.pack(">I4s", 8, b"free") * 30_000,
        "not a readable mp4",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_VIDEO)
def test_what_is_no_video_is_named_in_plain_words(name, stored):
    data, words = NO_VIDEO[name]
    with pytest.raises(UnreadableVideo, match=words):
        read_index(stored(data))


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".avi"])
def test_other_containers_are_refused(suffix, encode, stored):
    data = encode(count=5, suffix=suffix, audio=False, bframes=0)
    with pytest.raises(UnreadableVideo, match="not an mp4 or mov"):
        read_index(stored(data))


def test_playlists_are_never_followed(stored, film, tmp_path):
    # libav would open what they name, on this machine or on the network, before anyone could ask
    # what it is.
    path = tmp_path / "secret.mp4"
    path.write_bytes(film("plain").data)
    documents = [
        f"ffconcat version 1.0\nfile '{path.name}'\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{path}\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    ]
    for document in documents:
        began = time.monotonic()
        with pytest.raises(UnreadableVideo, match="mp4 or mov"):
            read_index(stored(document.encode()))
        assert time.monotonic() - began < 2, "it listened or waited"


def test_a_concat_script_does_not_read_the_working_directory(film, tmp_path):
    # In a process of its own, because the script's paths are relative to the working directory.
    (tmp_path / "secret.mp4").write_bytes(film("plain").data)
    code = (
        "import fsspec\n"
        "from workers.media.container import UnreadableVideo\n"
        "from workers.media.index import read_index\n"
        "from workers.media.source import Source\n"
        "text = b'ffconcat version 1.0\\nfile secret.mp4\\n'\n"
        "fsspec.filesystem('memory').pipe('memory://d/a.mp4', text)\n"
        "try: print('OPENED', read_index(Source('memory://d/a.mp4')).frames)\n"
        "except UnreadableVideo as error: print('REFUSED', error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("REFUSED not an mp4 or mov"), done.stdout


CUTS = {
    "moov at the end, cut in the media": lambda data: data[: len(data) // 2],
    "cut inside the moov": lambda data: data[:-1500],
    "cut after the moov's header": lambda data: data[: data.rindex(b"moov") + 8],
}


@pytest.mark.parametrize("cut", CUTS)
def test_an_object_cut_before_the_end_of_its_index(cut, film, stored):
    with pytest.raises(UnreadableVideo, match=r"not a readable mp4|no video stream"):
        read_index(stored(CUTS[cut](film("plain").data)))


# Something of these is left, or everything.
READ = ("one sample of 512 MB", "samples on top of each other")


def test_absurd_sizes_in_the_moov(film, stored, mp4):
    data = film("plain").data
    table = mp4.TABLE
    sizes = mp4.get(data, table + "stsz")
    words = struct.Struct(">IIII")
    cases = {
        "sample count": mp4.put(data, table + "stsz", sizes[:8] + b"\x7f\xff\xff\xff" + sizes[12:]),
        "one sample of 512 MB": mp4.put(
            data, table + "stsz", sizes[:-4] + struct.pack(">I", (1 << 29) - 1)
        ),
        "samples of 300 MB": mp4.put(
            data, table + "stsz", sizes[:12] + struct.pack(">I", 300 << 20) * 60
        ),
        "samples on top of each other": mp4.put(
            data, table + "stsz", sizes[:12] + struct.pack(">I", 90 << 20) + sizes[16:]
        ),
        "times": mp4.put(data, table + "stts", words.pack(0, 0xFFFFFFFF, 0xFFFFFFFF, 1)),
        "chunks": mp4.put(
            data, table + "stsz", struct.pack(">III", 0, 1, 0x7FFFFFFF)
        ),
        "edits": mp4.put(
            data, "moov.trak.edts.elst", struct.pack(">II", 0, 0xFFFFFFFF) + bytes(24)
        ),
        "no samples": mp4.put(data, table + "stsz", bytes(12)),
        "no codec": data.replace(b"avc1", b"xyz1").replace(b"avcC", b"xyzC"),
    }  # fmt: skip
    for name, broken in cases.items():
        began = time.process_time()
        source = stored(broken)
        try:
            video = probe_video(source)
        except UnreadableVideo:
            assert name not in READ
        else:
            assert name in READ
            assert video.samples <= 60, name
        assert source.bytes_read < 3 * len(broken), name
        assert time.process_time() - began < 1, name


@settings(
    max_examples=150, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_moov_with_wrong_bytes_is_read_or_refused(film, stored, mp4, data):
    broken = bytearray(film("closed gop").data)
    start, stop = mp4.span(bytes(broken), "moov")
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(start, stop - 4))
        broken[at : at + 4] = data.draw(
            st.sampled_from([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4)])
            | st.binary(min_size=4, max_size=4)
        )
    try:
        index = read_index(stored(bytes(broken)))
    except UnreadableVideo:
        return
    assert index.frames > 0
    assert set(index.shown.tolist()) <= set(range(-1, len(index.pts)))
    assert index.frames < 60 * 1000
