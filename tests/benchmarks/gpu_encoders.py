"""Encoders alone, whole takes beside them, and features on the device and on the CPU."""

import resource
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from configs.run import RunSpec
from configs.schema import EncoderSpec
from models.encoder import Encoder, load_encoder
from tests.benchmarks import gpu_material as material
from tests.benchmarks.gpu_bench import Bench, release
from workers.dataset.egoexo import read_takes
from workers.media.counters import Counters
from workers.run.extract import UnitExtractor
from workers.run.passes import clips_of_a_pass
from workers.run.recipe import Recipe
from workers.run.tasks import ClipPart


def encoders(bench: Bench, folders: dict[str, EncoderSpec]) -> None:
    """Clips per second of each encoder on ready clips, by precision and compilation."""
    ways = [("bfloat16", True), ("bfloat16", False), ("float32", False), ("float32", True)]
    # A CPU may have no C++ compiler.
    for precision, compiled in ways[2:3] if bench.small else ways:
        for name, plain in folders.items():
            spec = material.with_precision(plain, precision)
            way = f"{name} {precision} {'compiled' if compiled else 'eager'}"
            bench.attempt(way, partial(encoder_alone, bench, spec, compiled, way))


def encoder_alone(bench: Bench, spec: EncoderSpec, compiled: bool, title: str) -> None:
    """Clips per second, and how long the encoder takes to be ready."""
    batch = clips_of_a_pass(RunSpec(), spec, bench.device)
    began = time.perf_counter()
    encoder = load_encoder(spec, bench.device, compile=compiled, batch=batch)
    loaded = time.perf_counter() - began
    bench.show(f"{title}, {batch} clips a pass", clips_per_second(bench, encoder, batch), "clips/s")
    bench.show(f"{title}, ready after", loaded, "s")
    del encoder
    release(bench)


def clips_per_second(bench: Bench, encoder: Encoder, batch: int) -> float:
    """Of the encoder alone."""
    assert encoder.spec.preprocess is not None
    shape = (batch, encoder.spec.frames, 3, *encoder.spec.preprocess.size)
    clips = torch.randint(0, 256, shape, dtype=torch.uint8, device=bench.device)
    return batch / bench.timed(lambda: encoder.encode(clips), 3 if bench.small else 12)


def end_to_end(bench: Bench, spec: EncoderSpec, dataset: Path, name: str, where: Path) -> None:
    """A whole take from local files into a local store, beside the encoder alone."""
    compiled = not bench.small
    recipe = material.recipe_of(dataset, where / f"{name} {spec.name}", spec, compiled)
    batch = clips_of_a_pass(recipe.job.run, spec, bench.device)
    encoder = load_encoder(spec, bench.device, compile=compiled, batch=batch)
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    run_take(bench, material.shorter(recipe, where / f"{name} {spec.name} warm"), encoder)
    before = clips_per_second(bench, encoder, batch)
    seconds, counts = run_take(bench, recipe, encoder)
    alone = (before + clips_per_second(bench, encoder, batch)) / 2
    title = f"{name} {spec.name} {spec.precision}"
    bench.show(f"{title}: end to end", counts["clips"] / seconds, "clips/s")
    bench.show(f"{title}: end to end ÷ encoder alone", counts["clips"] / seconds / alone, "≥ 0.90")
    bench.show(f"{title}: source frames decoded", counts["frames_decoded"] / seconds, "frames/s")
    bench.show(f"{title}: share of the time in which the encoder ran",
               counts["encode_seconds"] / seconds)  # fmt: skip
    bench.show(f"{title}: counters", {k: round(v, 2) for k, v in counts.items()})
    if bench.device.type == "cuda":
        bench.show(f"{title}: GPU memory", torch.cuda.max_memory_allocated() / 2**30, "GiB")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    bench.show(f"{title}: host memory", peak, "GiB")
    del encoder
    release(bench)


def run_take(bench: Bench, recipe: Recipe, encoder: Encoder) -> tuple[float, dict[str, float]]:
    """Seconds and counts of the only take of a data set."""
    extractor = UnitExtractor(recipe, [encoder], bench.device)
    (take,) = read_takes(recipe.job.dataset)
    counters = Counters()
    began = time.perf_counter()
    prepared = extractor.prepare(take, [stream.key for stream in take.streams], counters)
    for unit in prepared.units:
        extractor.extract(unit, counters=counters)
    assert extractor.finish(take).complete
    return time.perf_counter() - began, counters.snapshot()


def difference(bench: Bench, spec: EncoderSpec, dataset: Path, where: Path) -> None:
    """Features of the first clips of a take on the CPU and on the device."""
    full = features(bench.device, spec, dataset, where / "device")
    half = features(bench.device, material.with_precision(spec, "bfloat16"), dataset, where / "16")
    plain = features(torch.device("cpu"), spec, dataset, where / "cpu")
    bench.show(f"{spec.name}: cosine, device and CPU, float32", cosine(full, plain), "≥ 0.9999")
    bench.show(f"{spec.name}: cosine, device bfloat16 and CPU float32", cosine(half, plain))


def features(
    device: torch.device, spec: EncoderSpec, dataset: Path, output: Path
) -> NDArray[np.float32]:
    """Of the first four clips of one stream."""
    recipe = material.recipe_of(dataset, output, spec, False)
    extractor = UnitExtractor(recipe, [load_encoder(spec, device)], device)
    (take,) = read_takes(recipe.job.dataset)
    (clips,) = extractor.prepare(take, [take.streams[0].key]).units[0].ranges
    parts = extractor.window(take, replace(clips, stop=min(clips.stop, clips.start + 4)))
    return np.concatenate([part.features for part in parts if isinstance(part, ClipPart)])


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The least cosine of two rows."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())
