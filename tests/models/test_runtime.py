"""OpenVINO in PyTorch's place: the same vectors, or PyTorch after all."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.load import choose_encoder
from configs.schema import EncoderChoice
from models import encoder as encoder_module
from models import runtime as runtime_module
from models.encoder import load_encoder
from models.errors import ModelError

CPU = torch.device("cpu")
SPEC = choose_encoder(EncoderChoice())


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TAKESTREAM_CACHE", str(tmp_path_factory.getbasetemp() / "converted"))
    encoder_module._say_once.cache_clear()


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    sizes = [7, 14, 28, 56, 112, 224]
    pictures = np.stack(
        [
            rng.integers(0, 256, (1, size, size, 3), dtype=np.uint8)
            .repeat(224 // size, 1)
            .repeat(224 // size, 2)
            for size in (sizes * 4)[:21]
        ]
    )
    return torch.from_numpy(pictures).movedim(-1, 2)


@pytest.fixture
def converted():
    return load_encoder(SPEC, CPU)


def test_vectors_are_those_of_pytorch(converted, frames):
    ours, theirs = converted.encode(frames), load_encoder(SPEC, CPU, runtime="pytorch")
    assert converted.runtime.startswith("openvino ")
    assert theirs.runtime.startswith("pytorch ")
    expected = theirs.encode(frames)
    assert torch.cosine_similarity(ours.double(), expected.double()).min() >= 0.999999
    assert torch.cosine_similarity(ours[0], expected[1], dim=0) < 0.99


def test_a_vector_depends_on_its_frame_alone(converted, frames):
    whole = converted.encode(frames)
    for size in (1, 2, 5, 16):
        parts = [converted.encode(frames[at : at + size]) for at in range(0, len(frames), size)]
        assert torch.equal(torch.cat(parts), whole)
    order = torch.randperm(len(frames), generator=torch.Generator().manual_seed(1))
    assert torch.equal(converted.encode(frames[order]), whole[order])


def test_in_pytorch_too(frames):
    plain = load_encoder(SPEC, CPU, runtime="pytorch")
    whole = plain.encode(frames)
    for size in (1, 3, 8, 13):
        parts = [plain.encode(frames[at : at + size]) for at in range(0, len(frames), size)]
        assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("threads", [1, 3])
def test_processes_and_threads_give_the_same(converted, frames, tmp_path, threads):
    np.save(tmp_path / "frames.npy", frames.numpy())
    code = (
        "import sys, numpy as np, torch; torch.set_num_threads(int(sys.argv[2]))\n"
        "from tests.models.test_runtime import SPEC, CPU, load_encoder\n"
        "frames = torch.from_numpy(np.load(sys.argv[1] + '/frames.npy'))\n"
        "np.save(sys.argv[1] + '/out.npy', load_encoder(SPEC, CPU).encode(frames).numpy())\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(threads)],
        check=True, cwd=root, env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert np.array_equal(np.load(tmp_path / "out.npy"), converted.encode(frames).numpy())


def test_a_network_is_converted_once(converted, frames, monkeypatch):
    def convert(*_):
        raise AssertionError("converted again")

    monkeypatch.setattr(runtime_module, "_converted", convert)
    again = load_encoder(SPEC, CPU, runtime="openvino")
    assert torch.equal(again.encode(frames), converted.encode(frames))


@pytest.mark.parametrize("name", ["network.xml", "network.bin", "expected.npy"])
def test_a_damaged_cache_gives_the_same_vectors(tmp_path, monkeypatch, frames, name):
    monkeypatch.setenv("TAKESTREAM_CACHE", str(tmp_path))
    expected = load_encoder(SPEC, CPU, runtime="openvino").encode(frames)
    (path,) = tmp_path.glob(f"openvino/*/{name}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    path.write_bytes(data)
    found = load_encoder(SPEC, CPU).encode(frames)
    assert torch.cosine_similarity(found.double(), expected.double()).min() >= 0.999999


def test_other_vectors_are_refused_and_said_once(monkeypatch, frames, caplog):
    monkeypatch.setattr(runtime_module, "_cosine", lambda *_: 0.99999)
    with caplog.at_level(logging.WARNING):
        plain = load_encoder(SPEC, CPU)
        load_encoder(SPEC, CPU)
    assert plain.runtime.startswith("pytorch ")
    (said,) = (r.getMessage() for r in caplog.records if r.name == "models.encoder")
    assert "runs in PyTorch" in said
    assert "0.9999900 to that of PyTorch" in said
    with pytest.raises(ModelError, match=r"cosine of 0\.9999900"):
        load_encoder(SPEC, CPU, runtime="openvino")


def test_without_openvino_pytorch_runs(monkeypatch, caplog):
    monkeypatch.setattr(runtime_module, "find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING):
        assert load_encoder(SPEC, CPU).runtime.startswith("pytorch ")
    assert "OpenVINO is not installed" in caplog.text


def test_a_cache_that_cannot_be_written_costs_time_alone(tmp_path, monkeypatch, converted, frames):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("TAKESTREAM_CACHE", str(tmp_path / "file"))
    found = load_encoder(SPEC, CPU, runtime="openvino")
    assert torch.equal(found.encode(frames), converted.encode(frames))


def test_signals_are_handled_after_networks_came_and_went(converted):
    code = (
        "import faulthandler, gc, signal\n"
        "from tests.models.test_runtime import SPEC, CPU, load_encoder\n"
        "faulthandler.enable()\n"
        "one, two = (load_encoder(SPEC, CPU, runtime='openvino') for _ in range(2))\n"
        "del one; gc.collect()\n"
        "del two; gc.collect()\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('handled'))\n"
        "signal.raise_signal(signal.SIGUSR1)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env={**os.environ, "PYTHONPATH": str(root)},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "handled\n"
