"""`make bench`: ratios taken in one run on this machine, each beside its goal.

Footage: one take of 4 streams at 796x448, long GOPs, B-frames and audio, behind the embedded S3.
"""

import os
import resource
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import s3fs
import torch

from configs.load import load_job
from models.encoder import Encoder, load_encoder
from models.preprocess import frame_to_tensor, resize_and_crop
from service.demo.s3server import ObjectStore
from service.jobs.choose import choose_takes
from takestream.storage import join
from tests.benchmarks.measure import FRAMES, STREAMS, in_threads, make_take, show, timed
from tests.benchmarks.stages import FreeEncoder
from workers.media.counters import Counters
from workers.run.extract import UnitExtractor
from workers.run.recipe import Recipe, make_recipe


def bare(videos: Sequence[Path], convert: Callable[[av.VideoFrame], object] | None) -> float:
    """Seconds for PyAV to decode local files, one thread each, converting what encoders sample."""

    def one(path: Path) -> None:
        with av.open(str(path)) as container:
            container.streams.video[0].thread_count = 1
            for number, frame in enumerate(container.decode(video=0)):
                if convert is not None and number in wanted:
                    convert(frame)

    wanted = set(range(0, FRAMES, 4))
    return timed(lambda: in_threads([lambda p=p: one(p) for p in videos]))  # type: ignore[misc]


def run(recipe: Recipe, *encoders: Encoder) -> tuple[float, dict[str, float]]:
    """Seconds and counts of a whole take through probe, decode, encode and write."""
    extractor = UnitExtractor(recipe, encoders, torch.device("cpu"))
    ((take, streams),) = choose_takes(recipe.job)
    counters = Counters()

    def work() -> None:
        for unit in extractor.prepare(take, streams, counters).units:
            extractor.extract(unit, counters=counters)
        extractor.finish(take)

    return timed(work), counters.snapshot()


def main() -> None:
    """Print every ratio."""
    with tempfile.TemporaryDirectory() as temporary, ObjectStore(Path(temporary) / "s3") as server:
        folder = Path(temporary) / "dataset"
        videos = make_take(folder)
        os.environ.update(server.environment(os.environ))
        remote = s3fs.S3FileSystem(**server.storage_options())
        dataset = join(server.make_bucket("bench"), "dataset")
        remote.put(f"{folder}/", f"{dataset}/", recursive=True)

        def recipe(name: str, **settings: object) -> Recipe:
            output = join(server.make_bucket("bench"), name)
            return make_recipe(load_job(None, {"dataset": dataset, "output": output, **settings}))

        spec = recipe("x").target.encoder
        picture = spec.preprocess
        assert picture is not None

        def converted(frame: av.VideoFrame) -> object:
            return resize_and_crop(
                frame_to_tensor(frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)),
                picture,
            )

        bare(videos[:1], None)  # warm the file cache
        decoding, converting = bare(videos, None), bare(videos, converted)
        free, counts = run(recipe("free"), FreeEncoder(spec))
        size = sum(path.stat().st_size for path in videos)
        print(f"{STREAMS} streams, {FRAMES} frames, {size / 1e6:.1f} MB; {os.cpu_count()} cores")
        print(f"bare decoding {STREAMS * FRAMES / decoding:.0f} frames/s\n")
        show("over S3, free encoder ÷ bare PyAV decoding + converting", converting / free, "≥ 0.90")
        show("over S3, free encoder ÷ bare PyAV decoding only", decoding / free, "≥ 0.70")
        show("bytes fetched ÷ object size, whole take", counts["bytes_read"] / size, "≤ 1.02")
        show("frames decoded ÷ frames", counts["frames_decoded"] / STREAMS / FRAMES, "1.00")
        two = ["efficientnet_lite", {"preset": "efficientnet_lite", "frames": 4}]
        both = recipe("both", encoders=two)
        _, shared = run(both, *(FreeEncoder(target.encoder) for target in both.targets))
        decoded = shared["frames_decoded"] / STREAMS / FRAMES
        show("two encoders in one decode: frames decoded ÷ frames", decoded, "1.00")
        more = shared["bytes_read"] / counts["bytes_read"]
        show("two encoders in one decode: bytes ÷ those of one encoder", more, "1.00")
        encoder = load_encoder(spec, torch.device("cpu"))
        # As the clips come out of the reader: noise, channels last.
        shape = (64, 1, *picture.size, 3)
        clips = torch.randint(0, 256, shape, dtype=torch.uint8).permute(0, 1, 4, 2, 3)
        encoder.encode(clips)
        before = timed(lambda: [encoder.encode(clips) for _ in range(8)])
        whole, counts = run(recipe("real"), encoder)
        after = timed(lambda: [encoder.encode(clips) for _ in range(8)])
        alone = (before + after) / 2 / 512
        encoding = counts["frames_encoded"] * alone
        show("encoding alone ÷ all of the job", encoding / whole, "the share of the encoder")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        show("peak memory of this process, GiB", peak, "≤ 1.5")


if __name__ == "__main__":
    main()
