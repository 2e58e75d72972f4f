"""Clips of stores extracted once more from their videos, and compared with what the stores hold."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from service.jobs.choose import ChosenJob, choose
from service.jobs.mend import repair_jobs
from service.report.compare import cosines
from service.report.difference import ALIKE
from takestream import schema
from takestream.errors import TakestreamError
from takestream.schema import Reason
from takestream.storage import S3Options
from takestream.stores import encoder_id_of
from workers.run.recipe import make_recipe
from workers.run.tasks import ClipRange
from workers.store.metadata import UNDECODABLE
from workers.store.takestore import TakeStore
from workers.store.verify import VerifyReport


@dataclass(frozen=True)
class SampledClip:
    """One clip of a store, extracted again.

    Attributes:
        store: The store's URI.
        take: Its take's name, or uid where it has none.
        stream: Key of the stream.
        clip: Number of the clip.
        cosine: Of the two vectors; None unless both are valid.
        reason: Why it does not agree or could not be extracted again; empty when it agrees.
        tried: Whether it could be extracted again.
    """

    store: str
    take: str
    stream: str
    clip: int
    cosine: float | None = None
    reason: str = ""
    tried: bool = True

    @property
    def agrees(self) -> bool:
        """Whether what was extracted is what the store holds."""
        return self.tried and not self.reason


def sample(
    reports: Sequence[VerifyReport],
    count: int,
    seed: int,
    s3: S3Options,
    job_file: str | None = None,
) -> Iterator[SampledClip]:
    """Extract random clips of stores again, each by itself, and compare.

    Every written clip of every stream is as likely, valid or not. Settings are found as
    `repair_jobs` finds them, and nothing is written.

    Args:
        reports: Of the stores, as `verify` made them; those that cannot be read are passed over.
        count: How many clips; all when there are fewer.
        seed: Of the choice.
        s3: How to reach the stores.
        job_file: A job file.

    Raises:
        SettingsError: The settings of the stores are not known.
        ModelError: The encoder cannot be loaded.
        StorageError: The stores, or the data set, cannot be read.
    """
    readable = [report for report in reports if report.streams and report.clips]
    chosen = _chosen(readable, count, np.random.default_rng(seed))
    asked = [report for report in readable if report.uri in chosen]
    for job in repair_jobs(asked, s3, job_file):
        mine = {r.uri: r for r in asked if r.uri.startswith(f"{job.output}/")}
        # One folder, one encoder: the job's others are not loaded.
        number = make_recipe(job).encoder_ids.index(encoder_id_of(next(iter(mine))))
        only = job.model_copy(update={"encoders": (job.encoders[number],)})
        yield from _again(choose(only), mine, chosen, s3)


def _chosen(
    reports: Sequence[VerifyReport], count: int, rng: np.random.Generator
) -> dict[str, list[tuple[str, int]]]:
    """By store, streams and clips."""
    ends = np.cumsum([report.clips * len(report.streams) for report in reports])
    total = int(ends[-1]) if len(ends) else 0
    found = defaultdict[str, list[tuple[str, int]]](list)
    for number in np.sort(rng.choice(total, min(count, total), replace=False)).tolist():
        at = int(np.searchsorted(ends, number, side="right"))
        report = reports[at]
        rest = number - (int(ends[at - 1]) if at else 0)
        found[report.uri].append((report.streams[rest // report.clips], rest % report.clips))
    return found


def _again(
    chosen: ChosenJob,
    reports: dict[str, VerifyReport],
    clips: dict[str, list[tuple[str, int]]],
    s3: S3Options,
) -> Iterator[SampledClip]:
    import torch

    from models.encoder import load_encoder
    from workers.run.extract import UnitExtractor

    recipe, run = chosen.recipe, chosen.recipe.job.run
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoders = [
        load_encoder(target.encoder, device, s3=recipe.job.s3, runtime=run.runtime)
        for target in recipe.targets
    ]
    extractor = UnitExtractor(recipe, encoders, device)
    takes = {take.uid: take for take, _ in chosen.takes}
    for uri, report in reports.items():
        target = recipe.encoder_ids.index(encoder_id_of(uri))
        name = report.take_name or report.take_uid
        store = TakeStore.open(uri, s3)
        for stream, clip in clips[uri]:
            if (take := takes.get(report.take_uid)) is None:
                why = "its take is not in the data set"
                yield SampledClip(uri, name, stream, clip, reason=why, tried=False)
                continue
            if stream not in {one.key for one in take.streams}:
                why = "the data set lists no such stream of the take"
                yield SampledClip(uri, name, stream, clip, reason=why, tried=False)
                continue
            try:
                (part,) = extractor.compute(take, ClipRange(target, clip, clip + 1, (stream,)))
                yield _compared(store, name, stream, clip, part.features[0], int(part.reason[0]))
            except TakestreamError as error:
                yield SampledClip(uri, name, stream, clip, reason=str(error), tried=False)
            except UNDECODABLE as error:
                why = f"what the store holds of it does not decode ({error})"
                yield SampledClip(uri, name, stream, clip, reason=why, tried=False)


def _compared(
    store: TakeStore,
    name: str,
    stream: str,
    clip: int,
    vector: "np.ndarray[tuple[int], np.dtype[np.float32]]",
    reason: int,
) -> SampledClip:
    column = store.streams.index(stream)
    stored = Reason(int(np.asarray(store.array(schema.REASON)[clip, column])))
    found = Reason(reason)
    if stored is Reason.NOT_EXTRACTED:
        return SampledClip(
            store.uri, name, stream, clip, reason="it is not in the store", tried=False
        )
    if found != stored:
        gone = found is Reason.STREAM_ABSENT
        words = f"the store has it as {stored.words}, extracted again it is {found.words}"
        return SampledClip(
            store.uri, name, stream, clip,
            reason="its video is no longer there" if gone else words,
            tried=not gone,
        )  # fmt: skip
    if stored is not Reason.VALID:
        return SampledClip(store.uri, name, stream, clip)
    kept = np.asarray(store.array(schema.FEATURES)[clip, column, :])
    cosine = float(cosines(kept[None], vector[None])[0])
    why = "" if cosine >= ALIKE else f"the cosine to what the store holds is {cosine:.4f}"
    return SampledClip(store.uri, name, stream, clip, round(cosine, 6), why)
