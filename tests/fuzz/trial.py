"""One variant of a film through the real extractor, and what holds of what came out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import numpy as np
import torch
import xarray as xr

from configs.schema import JobSpec
from configs.store import StoreSpec
from tests.fuzz import damage
from tests.fuzz.cells import GRID, SPEC, WINDOW, CellEncoder, Vectors, clip_of, cosine, seen
from tests.fuzz.films import FILMS, FRAMES, SISTER, Film, make_film
from tests.fuzz.witness import Witness, testimony
from workers.dataset.take import Stream, Take
from workers.run.extract import UnitExtractor
from workers.run.recipe import Recipe, Target

UNITS = (4096, 96, 80, 16)
SAME = 0.9999
# A picture at another one's place need not be that picture to the last bit.
ALIKE = 0.98
# Where the file gives so many frames other times, it says so itself.
MOVED = 0.2
DAMAGED, OTHER = "cam01_0", "cam02_0"


@dataclass
class Verdict:
    """What came of a variant; counts are of clips of the damaged stream.

    Attributes:
        right: valid, and equal to the undamaged film's.
        shifted: valid, and shows frames of another place.
        wrong: valid, and otherwise than the film, where libav reports an error.
        unreported: valid, and otherwise than the film, where libav reports none.
        plain: shown right by plain PyAV. lost: of those, the invalid ones.
        failed: what the extractor raised.
        sister: whether the undamaged stream is as ever.
        units: whether units of any size give the same.
        said: the problems named.
    """

    variant: str
    film: str = ""
    kind: str = ""
    clips: int = 0
    valid: int = 0
    right: int = 0
    shifted: int = 0
    wrong: int = 0
    unreported: int = 0
    plain: int = 0
    lost: int = 0
    failed: str = ""
    sister: bool = True
    units: bool = True
    seconds: float = 0.0
    said: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    @property
    def falls(self) -> list[str]:
        """The invariants that do not hold."""
        undamaged = self.kind == "nothing" and self.right < self.clips
        named = {
            "job failed": bool(self.failed),
            "shifted": self.shifted > 0,
            "wrong": self.wrong > 0,
            "sister": not self.sister,
            "units": not self.units,
            "undamaged": undamaged,
        }
        return [name for name, fell in named.items() if fell]


def variant_of(seed: int, number: int, folder: Path) -> tuple[Film, str, bytes]:
    """The film, the kind of damage, and the file of a variant; the first ones are undamaged."""
    names = list(FILMS)
    film = make_film(names[number % len(names)], folder)
    if number < len(names):
        return film, "nothing", film.data
    random = np.random.default_rng([seed, number])
    kind = damage.KINDS[int(random.integers(len(damage.KINDS)))]
    data = film.data
    while data == film.data:
        data = kind(film, random)
    return film, kind.__name__, data


def trial(seed: int, number: int, folder: Path) -> Verdict:
    """Make a variant, extract it and judge."""
    film, kind, data = variant_of(seed, number, folder)
    verdict = Verdict(f"{seed}/{number}", film.name, kind)
    began = time.monotonic()
    judge(film, data, make_film(SISTER, folder), verdict)
    verdict.seconds = round(time.monotonic() - began, 2)
    return verdict


def judge(film: Film, data: bytes, sister: Film, verdict: Verdict) -> None:
    """Extract `data` beside the sister in units of every size, and fill in the verdict."""
    found = []
    for unit in UNITS:
        try:
            found.append(extracted(data, sister.data, unit, film))
        except Exception as error:  # noqa: BLE001 - whatever it is, the invariant falls
            verdict.failed = f"{type(error).__name__}: {error}"
            return
    first = found[0]
    names = ("valid", "reason", "features")
    for unit, other in zip(UNITS[1:], found[1:], strict=True):
        one, two = first.sel(stream=DAMAGED), other.sel(stream=DAMAGED)
        if any(not np.array_equal(one[n], two[n], equal_nan=n == "features") for n in names):
            verdict.units = False
            verdict.words.append(f"units of {unit}: {_reasons(one)} and {_reasons(two)}")
    shown = sister.vectors
    start = first.start_frame.values
    beside = first.sel(stream=OTHER)
    verdict.sister = list(start) == list(range(0, FRAMES, WINDOW)) and all(
        np.array_equal(beside.features.values[c], clip_of(shown, s)) for c, s in enumerate(start)
    )
    if not verdict.sister:
        verdict.words.append(f"sister: {len(start)} clips, {_reasons(beside)}")
    verdict.said = list(first.attrs.get("problems", {}).get(DAMAGED, []))
    _judge_clips(film, testimony(data), first.sel(stream=DAMAGED), verdict)


def _judge_clips(film: Film, witness: Witness, found: xr.Dataset, verdict: Verdict) -> None:
    shown = film.vectors
    plainly = witness.right(film.shown, film.pts)
    verdict.clips = len(film.shown) // WINDOW
    for clip, start in enumerate(found.start_frame.values.tolist()):
        places = list(range(start, min(start + WINDOW, len(film.shown))))
        valid = bool(found.valid.values[clip])
        verdict.valid += valid
        if len(places) == WINDOW and set(places) <= plainly:
            verdict.plain += 1
            verdict.lost += not valid
            if not valid:
                verdict.words.append(f"lost clip at {start} ({found.reason.values[clip]})")
        if valid:
            _judge_valid(film, shown, witness, start, found.features.values[clip], verdict)


def _judge_valid(
    film: Film,
    shown: Vectors,
    witness: Witness,
    start: int,
    features: Vectors,
    verdict: Verdict,
) -> None:
    truth = clip_of(shown, start)
    if truth is not None and cosine(features[WINDOW:], truth[WINDOW:]) >= SAME:
        verdict.right += 1
        return
    numbers, cells = features[:WINDOW].astype(int), features[WINDOW:].reshape(WINDOW, -1)
    wrong = [
        (start + n, number)
        for n, number in enumerate(numbers.tolist())
        if start + n >= len(shown) or cosine(cells[n], shown[start + n, 1:]) < SAME
    ]
    moved = [
        (place, number)
        for place, number in wrong
        if number in film.numbers
        and film.numbers.index(number) != place
        and cosine(cells[place - start], shown[film.numbers.index(number), 1:]) >= ALIKE
    ]
    plain = seen(witness.pictures)
    alike = {
        place: [n for n, one in enumerate(plain) if cosine(cells[place - start], one[1:]) >= SAME]
        for place, _ in wrong
    }
    whole = {film.data[position : position + size] for position, size in film.packets}
    silent = all(
        found and not all(witness.says(n, whole) for n in found) for found in alike.values()
    )
    words = f"clip at {start}: {wrong}, plain PyAV shows them as {alike}"
    if moved and not _says_otherwise(film, witness, plain):
        verdict.shifted += 1
        verdict.words.append(f"shifted {words}; {'un' * silent}reported")
    elif silent:
        verdict.unreported += 1
    else:
        verdict.wrong += 1
        verdict.words.append(f"wrong {words}")


def _says_otherwise(film: Film, witness: Witness, plain: Vectors) -> bool:
    """Whether the file gives most of its frames other times, as one with another edit list does."""
    away = [
        when - film.pts[film.numbers.index(int(one[0]))]
        for one, when in zip(plain, witness.pts, strict=True)
        if when is not None and int(one[0]) in film.numbers
    ]
    return float(np.mean(np.array([0, *away]) != 0)) > MOVED


def extracted(data: bytes, sister: bytes, unit: int, film: Film) -> xr.Dataset:
    """The store of a take of two cameras, made by the extractor in units of `unit` frames."""
    memory = fsspec.filesystem("memory")
    streams = []
    for key, content in ((DAMAGED, data), (OTHER, sister)):
        memory.pipe(f"memory://fuzz/{key}.mp4", content)
        streams.append(Stream(key, key[:5], "0", f"memory://fuzz/{key}.mp4", False))
    take = Take("u", "t", None, None, None, FRAMES / 30, tuple(streams))
    output = Path("/dev/shm" if Path("/dev/shm").is_dir() else "/tmp") / f"fuzz-{id(memory)}"
    job = JobSpec(
        dataset="memory://fuzz",
        output=str(output),
        store=StoreSpec(dtype="float32", unit_frames=unit),
    )
    recipe = Recipe(job, (Target(SPEC, GRID, "cells"),))
    extractor = UnitExtractor(recipe, [CellEncoder()], torch.device("cpu"))
    try:
        keys = [stream.key for stream in streams]
        prepared = extractor.prepare(take, keys)
        failures = [*prepared.failures]
        for one in prepared.units:
            failures += extractor.extract(one).failures
        finished = extractor.finish(take)
        if failures or not finished.complete:
            raise RuntimeError(f"not complete: {failures}")
        return xr.open_zarr(recipe.store_uri("u"), consolidated=False).load()
    finally:
        fsspec.filesystem("file").rm(str(output), recursive=True) if output.exists() else None


def _reasons(found: xr.Dataset) -> str:
    return "".join(map(str, found.reason.values.tolist()))
