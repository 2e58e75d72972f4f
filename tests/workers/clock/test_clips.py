"""Clips of several streams at once: right frames, bounded memory, no thread left hanging."""

import threading
import time
from fractions import Fraction

import numpy as np
import pytest
import torch

from configs.schema import GridSpec
from takestream.schema import Reason
from workers.clock.clips import TOGETHER, ClipReader, ClipRequest, StreamInput
from workers.clock.grid import make_grid
from workers.clock.timeline import FrameTimeline
from workers.media.decode import decode, rgb
from workers.media.index import read_index
from workers.media.session import Decoded

pytestmark = pytest.mark.timeout(20)
FRAMES = 100


class FakeStream:
    """A decoder whose frame n is a picture full of n; it notes what it was asked and gave."""

    def __init__(self, bad=(), length=FRAMES, before=None):
        self.bad, self.length, self.before = dict(bad), length, before
        self.asked = []
        self.given = 0
        self.converted = []
        self.closed = False

    def __call__(self, first, last, wanted):
        self.asked.append((first, last))
        try:
            for number in range(first, last):
                if self.before:
                    self.before(number)
                reason = Reason.PAST_END if number >= self.length else Reason.VALID
                reason = self.bad.get(number, reason)
                picture = None
                if reason is Reason.VALID and wanted(number):
                    self.converted.append(number)
                    picture = torch.full((3, 2, 4), number % 256, dtype=torch.uint8)
                self.given += 1
                yield Decoded(number, reason, picture)
        finally:
            self.closed = True


def grid_of(frames=FRAMES, rate=30, **spec):
    return make_grid(frames, Fraction(rate), GridSpec(**spec))


def decoding(stream):
    """A stream as `ClipReader` decodes it, for one preprocessing."""

    def run(first, last, wanted):
        (seen,) = wanted
        for one in stream(first, last, seen.__contains__):
            made = None if one.picture is None else (one.picture,)
            yield Decoded(one.frame, one.reason, made)

    return run


def inputs(streams):
    return {
        name: StreamInput(decoding(stream), FrameTimeline(getattr(stream, "length", FRAMES)))
        for name, stream in streams.items()
    }


def reading(grid, streams, start=0, stop=None, frames=8, batch=3):
    stop = grid.clips if stop is None else stop
    request = ClipRequest(grid, start, stop, tuple(streams), frames=frames, batch=batch)
    return ClipReader([request], inputs(streams))


def read(*args, **options):
    with reading(*args, **options) as reader:
        return list(reader)


def decode_threads():
    return [t for t in threading.enumerate() if t.name.startswith("decode ")]


@pytest.fixture(autouse=True)
def no_thread_stays():
    yield
    deadline = time.monotonic() + 2
    while decode_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert decode_threads() == []


@pytest.mark.parametrize("batch", [1, 3, 4, 100])
@pytest.mark.parametrize(("start", "stop"), [(0, 6), (2, 5), (5, 6)])
def test_clips_are_the_frames_that_the_grid_names(batch, start, stop):
    grid = grid_of()
    assert grid.clips == 6
    streams = {"cam01_0": FakeStream(), "aria01_rgb": FakeStream()}
    batches = read(grid, streams, start, stop, batch=batch)
    expected = grid.sampled(8)[start:stop]
    for name in streams:
        own = [one for one in batches if one.stream == name]
        assert [one.first for one in own] == list(range(start, stop, batch))
        clips = torch.stack([clip for one in own for clip in one.clips])
        assert clips.shape == (stop - start, 8, 3, 2, 4)
        assert clips.dtype == torch.uint8
        assert (clips == torch.tensor(expected)[:, :, None, None, None]).all()
        reasons = np.concatenate([one.reason for one in own])
        assert (reasons.dtype, reasons.tolist()) == (np.uint8, [0] * (stop - start))
    # The same moment of the take, stream by stream.
    assert [one.stream for one in batches] == list(streams) * (len(batches) // 2)


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
@pytest.mark.parametrize(("start", "stop"), [(0, 6), (2, 5), (5, 6)])
@pytest.mark.parametrize("bad", [(), (45,), (64, 99), range(100)])
def test_frames_that_clips_share_come_once(batch, start, stop, bad):
    grid = grid_of()
    stream = FakeStream(bad=dict.fromkeys(bad, Reason.DAMAGED_FRAME))
    request = ClipRequest(grid, start, stop, ("cam01_0",), 8, batch, sampling="lattice")
    with ClipReader([request], inputs({"cam01_0": stream})) as reader:
        batches = list(reader)
    given, came = {}, []
    expected = grid.sampled(8, "lattice")
    for one in batches:
        assert one.clips == []
        valid = [one.first + int(row) for row in np.flatnonzero(one.reason == 0)]
        assert (one.shared is None) == (not valid)
        if one.shared is None:
            continue
        came += one.shared.numbers
        given |= dict(zip(one.shared.numbers, one.shared.pictures, strict=True))
        assert one.shared.seen.tolist() == expected[valid].tolist()
        # All that the clips are made of is there, and is the right frame.
        for number in one.shared.seen.ravel().tolist():
            assert (given[number] == number).all()
        given = {
            number: picture for number, picture in given.items() if number >= one.shared.lowest
        }
    assert len(given) <= 8
    good = [c for c in range(start, stop) if not set(bad) & set(range(*clip_span(grid, c)))]
    assert sorted(came) == sorted(set(expected[good].ravel().tolist()))


def clip_span(grid, clip):
    return int(grid.start[clip]), int(grid.stop[clip])


def test_each_stream_is_decoded_once_and_only_what_is_seen_is_converted():
    grid = grid_of()
    stream = FakeStream()
    read(grid, {"cam01_0": stream}, 1, 4)
    assert stream.asked == [(16, 80)]
    assert stream.given == 64
    assert stream.converted == sorted(set(grid.sampled(8)[1:4].ravel().tolist()))


def test_invalid_clips_say_why_and_the_rest_are_there():
    # Clips start at 0, 16, 32, 48, 64 and 68.
    bad = {40: Reason.DAMAGED_FRAME, 41: Reason.MISSING_FRAME, 70: Reason.MISSING_FRAME}
    streams = {"a": FakeStream(bad), "b": FakeStream(length=90)}
    batches = read(grid_of(), streams, batch=10)
    assert [one.reason.tolist() for one in batches] == [
        [0, 6, 6, 5, 5, 5],
        [0, 0, 0, 0, 4, 4],
    ]
    assert [clip[0, 0, 0, 0].item() for clip in batches[0].clips] == [0]
    assert [clip[0, 0, 0, 0].item() for clip in batches[1].clips] == [0, 16, 32, 48]


def test_a_frame_that_no_encoder_sees_spoils_its_clip_all_the_same():
    assert 42 not in grid_of().sampled(8)
    batches = read(grid_of(), {"a": FakeStream({42: Reason.DAMAGED_FRAME})}, batch=10)
    assert batches[0].reason.tolist() == [0, 6, 6, 0, 0, 0]


def test_a_batch_without_a_valid_clip():
    batches = read(grid_of(), {"a": FakeStream(length=0)})
    assert [one.clips for one in batches] == [[], []]
    assert [one.reason.tolist() for one in batches] == [[4, 4, 4], [4, 4, 4]]


def test_a_take_shorter_than_a_window():
    (batch,) = read(grid_of(frames=10), {"a": FakeStream(length=10)})
    assert batch.clips[0][:, 0, 0, 0].tolist() == [0, 4, 9, 9, 9, 9, 9, 9]
    (batch,) = read(grid_of(frames=10), {"a": FakeStream(length=9)})
    assert batch.reason.tolist() == [4]


@pytest.mark.parametrize("fps", [10, 25, 60])
def test_another_rate_than_the_take_s(fps):
    grid = grid_of(fps=fps, window=8, stride=4)
    (batch,) = read(grid, {"a": FakeStream()}, frames=8, batch=1000)
    expected = grid.source[grid.sampled(8)]
    assert (torch.stack(batch.clips)[:, :, 0, 0, 0].numpy() == expected).all()


def test_images_one_frame_each():
    grid = grid_of(window=1, stride=1)
    batches = read(grid, {"a": FakeStream({7: Reason.DAMAGED_FRAME})}, frames=1, batch=16)
    numbers = np.array([clip[0, 0, 0, 0] for one in batches for clip in one.clips])
    assert numbers.tolist() == [n for n in range(100) if n != 7]


def test_strides_larger_than_the_window():
    grid = grid_of(window=4, stride=20)
    batches = read(grid, {"a": FakeStream()}, frames=4, batch=2)
    numbers = np.stack([clip[:, 0, 0, 0] for one in batches for clip in one.clips])
    assert numbers.tolist() == [list(range(s, s + 4)) for s in (0, 20, 40, 60, 80, 96)]


# Memory


@pytest.mark.parametrize("batch", [1, 4])
def test_no_stream_runs_further_ahead_than_a_batch_and_a_window(batch):
    grid = grid_of(frames=2000)
    streams = {"slow": FakeStream(length=2000), "fast": FakeStream(length=2000)}
    bound = batch * 16 + 32
    with reading(grid, streams, batch=batch) as reader:
        for one in reader:
            needed = (one.first + len(one.reason) - 1) * 16 + 32
            if one.first < 200:
                time.sleep(0.001)
            for name, stream in streams.items():
                taken = needed if name == one.stream else needed + batch * 16
                assert stream.given <= taken + bound + 1, (name, one.first)
            own = reader._readers[one.stream]
            assert len(own._frames) <= 32 + 16 + TOGETHER
            assert own._queue.qsize() <= bound + 1  # its last entry says that there is no more


# Trouble


@pytest.mark.parametrize("at", [0, 50, 99])
def test_an_error_in_a_thread_is_raised_by_the_reader(at):
    def fail(number):
        if number == at:
            raise OSError(f"at {number}")

    streams = {"a": FakeStream(), "b": FakeStream(before=fail), "c": FakeStream()}
    with pytest.raises(OSError, match=f"at {at}"):
        read(grid_of(), streams)
    assert all(stream.closed for stream in streams.values())


def test_a_decoder_that_ends_early_is_an_error_and_no_hang():
    def short(first, last, wanted):
        yield from FakeStream()(first, last - 1, wanted)

    with pytest.raises(RuntimeError, match="decode a: ended before its last frame"):
        read(grid_of(), {"a": short})


def test_leaving_early_ends_every_thread():
    streams = {name: FakeStream(length=5000) for name in "abc"}
    grid = grid_of(frames=5000)
    with reading(grid, streams, batch=2) as reader:
        next(iter(reader))
        assert len(decode_threads()) == 3
    assert decode_threads() == []
    assert all(stream.closed and stream.given < 200 for stream in streams.values())


def test_leaving_at_once_ends_every_thread():
    streams = {name: FakeStream(length=5000) for name in "abc"}
    grid = grid_of(frames=5000)
    with reading(grid, streams, batch=2):
        pass
    assert decode_threads() == []


def test_an_error_of_the_consumer_ends_every_thread():
    streams = {name: FakeStream(length=5000) for name in "abc"}
    grid = grid_of(frames=5000)

    def encode():
        with reading(grid, streams, batch=2) as reader:
            for _ in reader:
                raise KeyError("out of memory")

    with pytest.raises(KeyError, match="out of memory"):
        encode()
    assert decode_threads() == []


def test_a_slow_decoder_holds_up_its_own_stream_only():
    gate = threading.Event()

    def wait(number):
        if number == 60:
            assert gate.wait(10)

    streams = {"fast": FakeStream(), "slow": FakeStream(before=wait)}
    with reading(grid_of(), streams, batch=2) as reader:
        batches = iter(reader)
        assert [next(batches).stream for _ in range(3)] == ["fast", "slow", "fast"]
        gate.set()
        assert [one.stream for one in batches] == ["slow", "fast", "slow"]


# With real films


@pytest.mark.parametrize("name", ["closed gop", "open gop, pyramid", "first groups hidden", "vp9"])
def test_clips_of_real_films(name, film, stored):
    it = film(name)
    source = stored(it.data)
    index = read_index(source)
    frames = np.stack(it.pictures)
    grid = grid_of(frames=len(frames), window=16, stride=8)

    def stream(first, last, wanted):
        def picture(number, frame):
            return torch.from_numpy(rgb(frame)).permute(2, 0, 1)

        return decode(source, index, first, last, wanted, picture)

    for start in range(grid.clips):
        batches = read(grid, {"a": stream, "b": stream}, start, grid.clips, batch=2)
        for stream_name in "ab":
            clips = torch.stack(
                [c for one in batches if one.stream == stream_name for c in one.clips]
            )
            expected = frames[grid.sampled(8)[start:]]
            assert np.array_equal(clips.permute(0, 1, 3, 4, 2).numpy(), expected)


def test_a_cut_film_beside_a_whole_one(film, stored):
    whole = film("moov in front")
    cut_at = whole.packets[40].pos
    sources = [stored(whole.data), stored(whole.data[:cut_at])]
    indexes = [read_index(source) for source in sources]

    def stream(number):
        def run(first, last, wanted):
            return decode(
                sources[number], indexes[number], first, last, wanted,
                lambda number, frame: torch.from_numpy(rgb(frame)).permute(2, 0, 1),
            )  # fmt: skip

        return run

    grid = grid_of(frames=60, window=8, stride=8)
    batches = read(grid, {"whole": stream(0), "cut": stream(1)}, batch=100)
    assert batches[0].reason.tolist() == [0] * grid.clips
    present = {whole.packets[n].pts for n in range(40)}
    missing = [number for number, (pts, _) in enumerate(whole.decoded) if pts not in present]
    assert missing
    for clip, (start, stop, reason) in enumerate(
        zip(grid.start, grid.stop, batches[1].reason, strict=True)
    ):
        assert (reason == Reason.VALID) == (not set(range(start, stop)) & set(missing)), clip
