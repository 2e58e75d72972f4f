"""The memory that a job takes, estimated before it runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from models.families import omnivore
from tests.support.brightness import STREAMS, Job
from workers.run import memory
from workers.run.memory import memory_of


def test_more_workers_streams_pixels_and_weights_take_more(tmp_path: Path) -> None:
    job = Job(tmp_path)
    _, prepared = job.prepare()
    take = prepared.take
    recipe = job.with_settings(run={"workers": 1}, select={"resolution": "448"})
    one = memory_of(recipe, [(take, STREAMS[:1])])
    two = memory_of(recipe, [(take, STREAMS)])
    assert memory.WORKER_MIB < one.worker < two.worker < 1000
    many = memory_of(job.with_settings(run={"workers": 3}), [(take, STREAMS)])
    assert many.worker > two.worker  # full size: 4K
    assert many.total == memory.RAY_MIB + 3 * many.worker
    assert memory_of(recipe, [(take, ())]).worker < one.worker
    weights = tmp_path / "large.safetensors"
    with weights.open("wb") as file:
        file.truncate(1 << 30)
    (target,) = recipe.targets
    encoder = target.encoder.model_copy(update={"weights": str(weights)})
    large = replace(recipe, targets=(replace(target, encoder=encoder),))
    assert memory_of(large, [(take, STREAMS)]).worker > two.worker + 1900
    # What a clip takes in the network, and pictures that wait for it.
    wide = {"family": "omnivore", "dim": 1536, "frames": 32, "preprocess": omnivore.PREPROCESS}
    omni = replace(
        recipe, targets=(replace(target, encoder=target.encoder.model_copy(update=wide)),)
    )
    working = memory_of(omni, [(take, STREAMS)]).worker - two.worker
    assert 1800 < working < 2000
    batch = job.with_settings(run={"workers": 1, "batch_size": 64}, select={"resolution": "448"})
    assert 150 < memory_of(batch, [(take, STREAMS)]).worker - two.worker < 250
    cuda = job.with_settings(run={"workers": 1, "device": "cuda"}, select={"resolution": "448"})
    on_gpu = replace(cuda, targets=omni.targets)
    assert memory_of(on_gpu, [(take, STREAMS)]).worker < two.worker + 150


@pytest.mark.parametrize(
    ("free", "words"),
    [
        (None, None),
        (10_000, None),
        (2_500, "use --workers 2"),
        (900, "use a larger machine"),
    ],
)
def test_what_does_not_fit_is_told(
    free: int | None, words: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(tmp_path)
    _, prepared = job.prepare()
    monkeypatch.setattr(memory, "free_mib", lambda: free)
    recipe = job.with_settings(run={"workers": 4}, select={"resolution": "448"})
    warning = memory_of(recipe, [(prepared.take, STREAMS)]).warning
    if words is None:
        assert warning is None
    else:
        assert words in (warning or "")
        assert f"{free} MiB are free" in (warning or "")
