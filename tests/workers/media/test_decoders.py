"""Which decoder a stream gets, and how the CPU goes on where NVDEC gives up; without a GPU."""

import pytest
import torch

from configs.preprocess import PreprocessSpec
from models.preprocess import frame_to_tensor, resize_and_crop
from takestream.schema import Reason
from tests.support.muxer import joined, mux, track_of
from workers.media import decoders
from workers.media.counters import Counters
from workers.media.decode import decode, rgb
from workers.media.decoder import open_cpu_decoder
from workers.media.decoders import (
    Choice,
    choose,
    decoded_by,
    describe,
    frames_per_second,
    read_pictures,
)
from workers.media.index import read_index
from workers.media.nvdec import NotForNvdec, check_plain
from workers.media.pictures import DevicePictures
from workers.media.session import Unproven
from workers.media.video import Video, VideoSpan, probe_video

CPU = torch.device("cpu")
SPEC = PreprocessSpec(resize=64, crop=(56, 56))


@pytest.fixture(autouse=True)
def nothing_chosen_yet(monkeypatch):
    monkeypatch.setattr(decoders, "_chosen", {})


def everything(number):
    return True


def converted(number, frame):
    return (resize_and_crop(frame_to_tensor(rgb(frame)), SPEC)[0],)


def pictures(counters):
    return DevicePictures([SPEC], CPU, 0, counters)


def same(frames, others):
    for one, other in zip(frames, others, strict=True):
        assert (one.frame, one.reason) == (other.frame, other.reason)
        assert (one.picture is None) == (other.picture is None)
        assert one.picture is None or torch.equal(one.picture[0], other.picture[0]), one.frame


def test_damage_that_a_gpu_decoder_meets_is_named_by_the_cpu(film, stored):
    it = film("large")
    packet = it.packets[70]
    data = bytearray(it.data)
    data[packet.pos + 8 : packet.pos + packet.size] = bytes(packet.size - 8)
    source = stored(bytes(data))
    index = read_index(source)
    plain = list(decode(source, index, 0, index.frames, everything, converted))
    assert {frame.reason for frame in plain} == {Reason.VALID, Reason.DAMAGED_FRAME}
    before = source.counters.snapshot()
    frames = decoded_by(
        Choice(nvdec=True),
        Video(index, None, ()),
        source,
        0,
        index.frames,
        everything,
        opener=open_cpu_decoder,
    )
    same(pictures(source.counters).made(frames), plain)
    counts = source.counters.snapshot()
    assert counts["streams_nvdec"] == counts["nvdec_given_up"] == 1
    assert "nvdec_given_up" not in before


@pytest.mark.parametrize("error", [NotForNvdec("no session left"), Unproven("no frame came")])
def test_where_nvdec_cannot_go_on_the_cpu_does(film, stored, caplog, error):
    source = stored(film("plain").data)

    def fails(index):
        raise error

    frames = decoded_by(
        Choice(nvdec=True), probe_video(source), source, 3, 9, everything, opener=fails
    )
    assert [(frame.frame, frame.reason) for frame in frames] == [
        (number, Reason.VALID) for number in range(3, 9)
    ]
    counts = source.counters.snapshot()
    assert counts["nvdec_given_up"] == 1
    assert "streams_read_in_order" not in counts
    assert str(error) in caplog.text


def test_a_stretch_of_a_stream_keeps_its_numbers(film, stored):
    source = stored(film("large").data)
    whole = probe_video(source)
    span = VideoSpan.of(whole, 2.0, 6.0)
    damaged = span.first + 50

    def opener(index):
        opened.append(index)
        return open_cpu_decoder(index)

    opened = []
    frames = list(decoded_by(Choice(nvdec=True), span, source, 10, 130, everything, opener=opener))
    assert opened
    assert [frame.frame for frame in frames] == list(range(10, 130))
    assert {frame.reason for frame in frames[:110]} == {Reason.VALID}
    assert {frame.reason for frame in frames[110:]} == {Reason.PAST_END}
    index = whole.index
    packet = int(index.shown[damaged])
    data = bytearray(film("large").data)
    at = int(index.position[packet])
    data[at + 8 : at + int(index.size[packet])] = bytes(int(index.size[packet]) - 8)
    broken = stored(bytes(data))
    span = VideoSpan.of(probe_video(broken), 2.0, 6.0)
    expected = [frame.reason for frame in span.reader(broken).read(10, 130, everything, converted)]
    assert Reason.DAMAGED_FRAME in expected
    frames = list(decoded_by(Choice(nvdec=True), span, broken, 10, 130, everything, opener=opener))
    assert [frame.frame for frame in frames] == list(range(10, 130))
    assert [frame.reason for frame in frames] == expected
    assert broken.counters.snapshot()["nvdec_given_up"] == 1


def test_a_stream_that_is_read_in_order_is_the_cpus(film, stored):
    source = stored(film("plain").data)
    believed = probe_video(source)
    video = Video(believed.index, believed.shown(source, "asked for"), ())

    def opener(index):
        raise AssertionError("NVDEC was tried")

    made = read_pictures(video, source, pictures(source.counters), 1, 0, 4, [frozenset(range(4))],
                         opener=opener)  # fmt: skip
    same(made, list(decode(source, believed.index, 0, 4, everything, converted)))
    assert source.counters.snapshot()["streams_cpu_refused"] == 1


def test_a_refusal_is_counted_and_said_once(film, stored, caplog):
    source = stored(film("plain").data)
    index = read_index(source)

    def refuses(index):
        raise NotForNvdec("no such thing here")

    plain = list(decode(source, index, 0, 4, everything, converted))
    for _ in range(2):
        made = pictures(source.counters)
        wanted = [frozenset(range(4))]
        video = Video(index, None, ())
        same(read_pictures(video, source, made, 3, 0, 4, wanted, opener=refuses), plain)
    said = [record.message for record in caplog.records]
    assert said == [describe(index, 3, Choice(False, refusal="no such thing here"))]
    assert source.counters.snapshot()["streams_cpu_refused"] == 2


def test_one_stream_of_other_pixels_beside_a_stream_of_its_kind(film, encode, stored):
    # Same codec and size, so the measured choice is theirs together; what the file says is not.
    usual, other = (stored(film(name).data) for name in ("plain", "4:2:2"))
    indexes = read_index(usual), read_index(other)
    assert len({(index.codec, index.width, index.height) for index in indexes}) == 1
    made = pictures(Counters()).made
    choices = [choose(source, index, 2, made, opener=open_cpu_decoder)
               for source, index in zip((usual, other), indexes, strict=True)]  # fmt: skip
    assert [choice.refusal for choice in choices] == [
        "the GPU lacks its codec or profile",
        "its pixels are yuv422p",
    ]


@pytest.mark.parametrize("name", ["odd size", "10 bits", "uneven size"])
def test_what_the_file_says_decides_first(name, film, stored):
    index = read_index(stored(film(name).data))
    if name == "uneven size":
        check_plain(index)
        return
    with pytest.raises(NotForNvdec, match=r"its (size is odd|pixels are)"):
        check_plain(index)


def test_a_stream_whose_parameters_change_stays_with_the_cpu(encode, stored):
    options = {"cabac": 0, "ref": 1, "8x8dct": 0, "weightp": 0, "scenecut": 0}
    films = [encode(gop=12, audio=False), encode(gop=12, audio=False, x264_params=options)]
    index = read_index(stored(mux(joined(*map(track_of, films)))))
    with pytest.raises(NotForNvdec, match="its parameters change"):
        check_plain(index)


def test_a_decoder_that_falls_back_to_software_is_no_gpu_decoder(film, stored):
    source = stored(film("plain").data)
    made = pictures(Counters()).made
    choice = choose(source, read_index(source), 1, made, opener=open_cpu_decoder)
    assert choice == Choice(False, refusal="the GPU lacks its codec or profile")


def test_decoders_are_measured_together_and_their_errors_come_out(film, stored):
    source = stored(film("large").data)
    index = read_index(source)
    made = pictures(Counters()).made
    assert frames_per_second(source, index, 3, made, open_cpu_decoder, 40) > 0
    opened = []

    def second_fails(index):
        opened.append(index)
        if len(opened) == 2:
            raise NotForNvdec("no session left")
        return open_cpu_decoder(index)

    with pytest.raises(NotForNvdec, match="no session left"):
        frames_per_second(source, index, 3, made, second_fails, 40)
