"""`python -m tests.benchmarks.gpu`: what a CUDA machine reaches, beside its own limits.

Needs torch, transformers, numpy, av, zarr and this checkout; Ray is not used. Without CUDA, or with
`--small`, everything runs at toy sizes, which shows that it runs and nothing else.
"""

import argparse
import json
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.benchmarks import gpu_material as material
from tests.benchmarks.gpu_bench import Bench
from tests.benchmarks.gpu_encoders import difference, encoders, end_to_end
from tests.benchmarks.gpu_frames import conversion, damage, decoding, pixels
from workers.run.passes import SWITCH_SECONDS


def main() -> None:
    """Print the table, then all of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = ["pixels", "damage", "decoding", "conversion", "encoders", "end-to-end", "difference"]
    parser.add_argument("parts", nargs="*", default=names, help=" ".join(names))
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--streams", type=int, default=6)
    parser.add_argument("--times", type=int, default=6, help="how long takes are")
    parser.add_argument("--sizes", nargs="*", help="only these footages")
    parser.add_argument("--models", nargs="*", help="only these")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    # As the worker of a GPU has it.
    sys.setswitchinterval(SWITCH_SECONDS)
    bench = Bench(options.small, options.parts, options.minutes)
    with tempfile.TemporaryDirectory() as temporary:
        measure(bench, Path(temporary), options)
    text = json.dumps(bench.figures, default=str)
    print(text)
    if options.json:
        options.json.write_text(text)


def measure(bench: Bench, where: Path, options: argparse.Namespace) -> None:
    """All the parts that were asked for."""
    frames = {"448p": 150, "4K": 150} if bench.small else {"448p": 1800, "4K": 200}
    if options.sizes:
        bench.sizes = {name: bench.sizes[name] for name in options.sizes}
    streams, times = (2, 1) if bench.small else (options.streams, options.times)
    videos = {
        name: material.make_take(
            where,
            name,
            size,
            streams,
            frames[name],
            bench.cores,
            times,
        )
        for name, size in bench.sizes.items()
    }
    folders = {}
    for model in material.models(bench.small):
        if options.models is None or model.name in options.models:
            material.save_random(model, where / model.name, bench.device)
            folders[model.name] = material.spec_of(model, where / model.name, "float32")
    whole = {name: where / name for name in videos}
    if "pixels" in bench.parts:
        bench.attempt("pixels", lambda: pixels(bench, videos))
    if "conversion" in bench.parts:
        bench.attempt("conversion", lambda: conversion(bench))
    if "decoding" in bench.parts:
        bench.attempt("decoding", lambda: decoding(bench, videos))
    if "damage" in bench.parts:
        bench.attempt("damage", lambda: damage(bench, videos["448p"][0]))
    for spec in folders.values() if "end-to-end" in bench.parts else ():
        for name in videos if spec is next(iter(folders.values())) else ["448p"]:
            half = material.with_precision(spec, "float32" if bench.small else "bfloat16")
            bench.attempt(
                f"{name} {spec.name}", partial(end_to_end, bench, half, whole[name], name, where)
            )
    for name, spec in folders.items() if "difference" in bench.parts else ():
        to = where / "difference" / name
        bench.attempt(f"{name}: difference", partial(difference, bench, spec, whole["448p"], to))
    if "encoders" in bench.parts:
        bench.attempt("encoders", lambda: encoders(bench, folders))


if __name__ == "__main__":
    main()
