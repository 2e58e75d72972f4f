"""Pixels, damage, decoding and conversion on the device."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from configs.preprocess import PreprocessSpec
from models.fixed_resize import fixed_resize
from models.preprocess import frame_to_tensor, resize_and_crop
from takestream.schema import Reason
from tests.benchmarks.gpu_bench import Bench
from workers.media.decode import decode, rgb
from workers.media.decoder import open_cpu_decoder
from workers.media.decoders import choose, decoded_by, frames_per_second
from workers.media.index import read_index
from workers.media.nvdec import NotForNvdec, open_cuda_decoder
from workers.media.pictures import DevicePictures
from workers.media.session import Decoded
from workers.media.source import Source
from workers.media.video import Video
from workers.media.yuv import Colours, to_rgb

SPEC = PreprocessSpec(resize=224, crop=(224, 224))


def pixels(bench: Bench, videos: dict[str, list[Path]]) -> None:
    """Whether the device's pixels are the CPU's, bit for bit."""
    values = torch.arange(256, dtype=torch.uint8)
    u, v = (plane.repeat(64, 1) for plane in torch.meshgrid(values, values, indexing="ij"))
    luma = values.view(64, 1, 2, 1, 2).expand(64, 256, 2, 256, 2).reshape(-1, 512)
    wrong = 0
    for matrix in (1, 2, 4, 7, 9):
        for full in (False, True):
            colours = Colours(matrix, full)
            y_there, u_there, v_there = (plane.to(bench.device) for plane in (luma, u, v))
            there = to_rgb(y_there, u_there, v_there, colours)
            wrong += int((there.cpu() != to_rgb(luma, u, v, colours)).sum())
    bench.show("colours on the device that differ, all (Y, U, V), 5 matrices, 2 ranges", wrong)
    generator = torch.Generator().manual_seed(0)
    wrong = 0
    for size in [*bench.sizes.values(), (201, 157)]:
        frame = torch.randint(0, 256, (1, *size, 3), dtype=torch.uint8, generator=generator)
        frame = frame.permute(0, 3, 1, 2)
        for kind in ("bilinear", "bicubic"):
            spec = PreprocessSpec(resize=224, crop=(224, 224), interpolation=kind)
            there = resize_and_crop(frame.to(bench.device).contiguous(), spec)
            wrong += int((there.cpu() != resize_and_crop(frame, spec)).sum())
    bench.show("resized values on the device that differ", wrong)
    for name, paths in videos.items():
        source, index, made = opened(bench, paths[0])
        plain = decode(source, index, 0, 120, every, lambda _, f: frame_to_tensor(rgb(f)))
        expected = [resize_and_crop(f.picture, SPEC)[0] for f in plain if f.picture is not None]
        choice, video = choose(source, index, 1, made), Video(index, None, ())
        for way in (True, False) if choice.nvdec_rate else (False,):
            frames = made(decoded_by(replace(choice, nvdec=way), video, source, 0, 120, every))
            pairs = zip(frames, expected, strict=True)
            worst = [int((p.picture[0].cpu().int() - e.int()).abs().max()) for p, e in pairs]
            who = "NVDEC" if way else "CPU decoder, device pictures"
            bench.show(f"{name}: largest difference of a picture, {who}", max(worst), "levels")
        bench.show(f"{name}: counters", source.counters.snapshot())


def damage(bench: Bench, path: Path) -> None:
    """What NVDEC does with garbage: frames that it calls good and that are not."""
    if not choose_nvdec(bench, path):
        bench.show("damage", "no NVDEC to look at")
        return
    whole = path.read_bytes()
    source, index, made = opened(bench, path)
    intact = [f.picture[0] for f in made(decode(source, index, 0, index.frames, every, held))]
    random = np.random.default_rng(0)
    counts = {"frames wrong, by the CPU not noticed": 0, "by NVDEC": 0, "named by NVDEC's way": 0}
    for number in range(6):
        packet = int(random.integers(10, index.frames - 10))
        at = int(index.position[packet] + index.size[packet] // 3)
        data = bytearray(whole)
        data[at : at + 2000] = random.bytes(2000)
        broken = path.with_name(f"broken{number}.mp4")
        broken.write_bytes(data)
        source, index, made = opened(bench, broken)
        choice = replace(choose(source, index, 1, made), nvdec=True)
        gpu = made(decoded_by(choice, Video(index, None, ()), source, 0, index.frames, every))
        cpu = made(decode(source, index, 0, index.frames, every, held))
        names = ("by NVDEC", "frames wrong, by the CPU not noticed")
        for name, frames in zip(names, (gpu, cpu), strict=True):
            for frame, good in zip(frames, intact, strict=True):
                if frame.reason is Reason.VALID and not torch.equal(frame.picture[0], good):
                    counts[name] += 1
        counts["named by NVDEC's way"] += int(source.counters.snapshot().get("nvdec_given_up", 0))
    bench.show("six damaged videos: unnoticed wrong frames", counts)


def decoding(bench: Bench, videos: dict[str, list[Path]]) -> None:
    """Frames per second of either decoder, 1 … N streams at once, and of the conversion alone."""
    for name, paths in videos.items():
        source, index, made = opened(bench, paths[0])
        frames = min(index.frames, 600 if name == "448p" else 120)
        counts = [n for n in (1, 2, 4, 8, 16) if n <= max(8, 2 * len(paths))]
        openers = {"CPU": open_cpu_decoder, "NVDEC": open_cuda_decoder}
        for who, opener in openers.items():
            for what, convert in (("decode", same), ("decode + pictures", made)):
                for streams in counts:
                    try:
                        rate = frames_per_second(source, index, streams, convert, opener, frames)
                    except (NotForNvdec, RuntimeError) as error:
                        bench.show(f"{name}: {who} {what}", f"not here: {str(error)[:60]}")
                        break
                    bench.show(f"{name}: {who} {what}, {streams} streams", rate, "frames/s")
                else:
                    continue
                break
        choice = choose(source, index, len(paths), made)
        bench.show(f"{name}: calibration, {len(paths)} streams", str(choice))


def conversion(bench: Bench) -> None:
    """Frames per second of YUV → RGB and of the resize, without decoding."""
    for name, (height, width) in bench.sizes.items():
        count = 16 if name == "448p" else 5
        shape = (count, height, width)
        luma = torch.randint(0, 256, shape, dtype=torch.uint8, device=bench.device)
        u, v = luma[:, ::2, ::2].contiguous(), luma[:, 1::2, 1::2].contiguous()
        tall = max(224, 224 * width // height)
        window = (slice(0, 224), slice((tall - 224) // 2, (tall - 224) // 2 + 224))
        seconds = bench.timed(partial(to_rgb, luma, u, v, Colours(2, False)), 20)
        bench.show(f"{name}: YUV to RGB, {count} at a time", count / seconds, "frames/s")
        frames = to_rgb(luma, u, v, Colours(2, False))
        for kind in ("bilinear", "bicubic"):
            seconds = bench.timed(partial(fixed_resize, frames, (224, tall), kind, window), 20)
            bench.show(f"{name}: {kind} resize and crop", count / seconds, "frames/s")


def choose_nvdec(bench: Bench, path: Path) -> bool:
    """Whether there is an NVDEC to look at."""
    source, index, made = opened(bench, path)
    return not choose(source, index, 1, made).refusal


def opened(bench: Bench, path: Path) -> tuple[Source, Any, Any]:
    """A video's source and index, and what makes device pictures of its frames."""
    source = Source(str(path))
    made = DevicePictures([SPEC], bench.device, 0, source.counters).made
    return source, read_index(source), made


def same(frames: Iterator[Decoded[Any]]) -> Iterator[Decoded[Any]]:
    return frames


def held(number: int, frame: Any) -> Any:
    return frame


def every(number: int) -> bool:
    return True
