"""Batches through an encoder, and what becomes of them when memory runs out."""

import threading

import pytest
import torch

from configs.run import RunSpec
from configs.schema import EncoderSpec
from models.preprocess import stacked
from workers.media.counters import Counters
from workers.run.passes import Passes, clips_of_a_pass


class SmallMemory:
    """An encoder that gives each clip's mean, and has room for `room` clips."""

    def __init__(self, room):
        self.room, self.sizes = room, []

    def encode(self, clips):
        if len(clips) > self.room:
            raise torch.cuda.OutOfMemoryError("out of memory")
        self.sizes.append(len(clips))
        return stacked(clips).float().mean((1, 2, 3, 4))[:, None]


def batch(count):
    return torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1, 1).expand(-1, 2, 3, 4, 4)


@pytest.mark.parametrize(("room", "sizes"), [(8, [8, 3]), (5, [4, 4, 3]), (1, [1] * 11)])
def test_a_batch_is_halved_until_it_fits_and_stays_so(room, sizes):
    encoder, counters = SmallMemory(room), Counters()
    passes = Passes(encoder, torch.device("cpu"), threading.Lock(), 8)
    features = passes.begin(batch(11), counters)()
    assert features.ravel().tolist() == list(range(11))
    assert encoder.sizes == sizes
    halvings = {8: 0, 5: 1, 1: 3}[room]
    assert counters.snapshot().get("out_of_memory", 0) == halvings
    assert passes.clips == 8 >> halvings
    encoder.sizes.clear()
    passes.begin(batch(8), counters)()
    assert max(encoder.sizes) <= room


def test_a_clip_that_does_not_fit_alone_is_an_error():
    passes = Passes(SmallMemory(0), torch.device("cpu"), threading.Lock(), 4)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        passes.begin(batch(4), Counters())


def test_sizes_of_a_pass():
    def clips(device, frames, batch="auto"):
        encoder = EncoderSpec(name="x", family="huggingface", weights="x", frames=frames)
        return clips_of_a_pass(RunSpec(batch_size=batch), encoder, torch.device(device))

    assert clips("cpu", 16) == 4
    assert clips("cuda", 16) == 16
    assert clips("cpu", 128) == 1
    assert clips("cuda", 16, 3) == 3
