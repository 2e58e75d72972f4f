"""Stores made again by another encoder: the old ones say which takes, streams and clips."""

import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

from configs.load import SettingsError, encoder_presets, over_job, parse
from configs.schema import JobSpec
from service.jobs.choose import ChosenJob, choose
from service.jobs.mend import job_of
from service.report.compare import linear_cka, neighbour_overlap
from service.report.difference import common_features
from takestream.catalogue import DAMAGED, Row, folders_of
from takestream.errors import StorageError
from takestream.root import read_root
from takestream.schema import COMPLETE
from takestream.storage import S3Options, absolute, join
from takestream.stores import is_of_encoder, preset_of, read_roots, store_uri
from workers.dataset.layouts import dataset_of
from workers.run.recipe import Recipe
from workers.store.objects import Objects

log = logging.getLogger(__name__)

MOVED = "moved"
"""The folder of comparisons with other versions, beside the stores of an encoder."""

SAMPLE = 20
_AT_ONCE = 4


@dataclass(frozen=True)
class Again:
    """A job that makes stores again.

    Attributes:
        chosen: The job: the old stores' takes, each with its streams.
        old: The encoder_id of the old stores.
        gone: Uids of old stores whose take the data set has no more.
    """

    chosen: ChosenJob
    old: str
    gone: tuple[str, ...]


@dataclass(frozen=True)
class TakeMoved:
    """How the features of one take differ between two versions.

    Attributes:
        take_uid: Of the take.
        clips: Clips times streams that were compared.
        cka: Linear CKA; None where it cannot be said.
        neighbours: Overlap of the ten nearest clips; None where there are too few clips.
    """

    take_uid: str
    clips: int
    cka: float | None
    neighbours: float | None


@dataclass(frozen=True)
class Moved:
    """How features moved from one version to another, on a sample of takes.

    Attributes:
        old, new: The encoder_ids.
        takes: Those of the sample.
        uri: Of the file that keeps it; None where it could not be written.
    """

    old: str
    new: str
    takes: Sequence[TakeMoved]
    uri: str | None = None

    def spread(self, name: str) -> tuple[float, float, float] | None:
        """Least, median and greatest `cka` or `neighbours`; None where none is known."""
        values = [getattr(take, name) for take in self.takes if getattr(take, name) is not None]
        return (min(values), median(values), max(values)) if values else None

    def facts(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "from": self.old,
            "to": self.new,
            "cka": self.spread("cka"),
            "neighbours": self.spread("neighbours"),
            "takes": [asdict(take) for take in self.takes],
            "uri": self.uri,
        }


def again(
    output: str, old: str, overrides: Mapping[str, Any], s3: S3Options, job_file: str | None = None
) -> Again:
    """The job that makes the stores of `old` again with other settings.

    The data set and how it is reached come from the newest report beside the old stores, or from
    `job_file`; takes, streams, grid, resolution, rotation, timeline and synchronisation from the
    stores themselves; `overrides` win over both.

    Args:
        output: Where the old stores are, and where the new ones go unless `overrides` say.
        old: An encoder_id, or a preset that one version there has.
        overrides: Settings, nested, as flags give them.
        s3: How to reach the old stores.
        job_file: A job file.

    Raises:
        SettingsError: There is no such version or no report, or the settings make the same one.
        DatasetError: The data set has none of the takes.
        ModelError: The new encoder cannot be used.
        StorageError: The storage fails.
    """
    folders = [f for f in folders_of(output, None, s3) if is_of_encoder(f.encoder_id, old)]
    if len(folders) != 1:
        there = [f.encoder_id for f in folders or folders_of(output, None, s3)]
        raise SettingsError(f"--from: '{old}' is no one encoder_id at {output}; there is {there}")
    (folder,) = folders
    rows = [row for row in folder.rows(s3) if row["status"] != DAMAGED]
    if not rows:
        raise SettingsError(f"--from: {folder.uri} holds no store that can be read")
    base = _base(folder.uri, rows, s3, job_file, overrides)
    settings = over_job({**base, "output": output}, overrides, "reprocess")
    job = parse(JobSpec, settings, "reprocess")
    known = {take.uid for take in dataset_of(job).takes()}
    by_uid = {row["take_uid"]: row for row in rows if row["take_uid"] in known}
    gone = tuple(row["take_uid"] for row in rows if row["take_uid"] not in known)
    if not by_uid:
        raise SettingsError(f"{job.dataset} has none of the {len(rows)} takes of {folder.uri}")
    streams = sorted({name for row in by_uid.values() for name in row["streams"]})
    select = job.select.model_copy(
        update={
            "uids": job.select.uids or tuple(sorted(by_uid)),
            "streams": job.select.streams or tuple(streams),
        }
    )
    chosen = choose(job.model_copy(update={"select": select}))
    if folder.encoder_id in chosen.recipe.encoder_ids:
        raise SettingsError(
            f"reprocess: these settings make {folder.encoder_id} itself: name another --encoder, or"
            " run `takestream extract`, which does what is missing"
        )
    takes = [
        (take, tuple(name for name in names if name in by_uid[take.uid]["streams"]))
        for take, names in chosen.takes
        if take.uid in by_uid
    ]
    return Again(
        replace(chosen, takes=[item for item in takes if item[1]]), folder.encoder_id, gone
    )


def moved(
    recipe: Recipe, old_output: str, old: str, s3: S3Options, sample: int = SAMPLE
) -> list[Moved]:
    """How the features moved from the old version to each target of a job.

    On takes that are complete in both, evenly chosen in the order of their uids. Written to
    `<output>/<new encoder_id>/moved/<old encoder_id>.json`, for whoever decides.

    Raises:
        StorageError: A store cannot be read.
    """
    before = _complete(old_output, old, s3)
    found = []
    for target in recipe.targets:
        both = sorted(before & _complete(recipe.job.output, target.encoder_id, recipe.output_s3))
        count = min(sample, len(both))
        uids = [both[number * len(both) // count] for number in range(count)]

        def compare(uid: str, new: str = target.encoder_id) -> TakeMoved:
            there = store_uri(recipe.job.output, new, uid)
            ours, theirs = common_features(
                store_uri(old_output, old, uid), there, s3, recipe.output_s3
            )
            return TakeMoved(
                uid, len(ours), linear_cka(ours, theirs), neighbour_overlap(ours, theirs)
            )

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            one = Moved(old, target.encoder_id, tuple(pool.map(compare, uids)))
        found.append(_kept(recipe, one) if uids else one)
    return found


def _base(
    folder: str,
    rows: Sequence[Row],
    s3: S3Options,
    job_file: str | None,
    overrides: Mapping[str, Any],
) -> dict[str, Any]:
    """The settings that the old stores were made with, but for the encoder and the selection."""
    if job_file is None and "dataset" in overrides:
        base: dict[str, Any] = {}
        try:
            base = job_of(folder, s3, None).model_dump(mode="json", exclude_none=True)
        except SettingsError as error:
            log.info("%s; the data set is the one that was given", error)
    else:
        base = job_of(folder, s3, job_file).model_dump(mode="json", exclude_none=True)
    attributes = _attributes(rows, s3)
    grid, provenance = attributes.get("grid", {}), attributes.get("provenance", {})
    cut = {name: grid[name] for name in ("window", "stride", "tail") if name in grid}
    automatic = grid.get("fps_fraction") == grid.get("take_fps_fraction")
    preset = preset_of(folder.rpartition("/")[2])
    for name in ("encoders", "encoder", "select", "segments"):
        base.pop(name, None)
    return {
        **base,
        "encoders": [{"preset": preset}] if preset in encoder_presets() else [{}],
        "grid": {**cut, "fps": "auto" if automatic else grid.get("fps")},
        "select": {
            "resolution": provenance.get("resolution", "full"),
            "task_span": bool(provenance.get("task_span")),
        },
        "rotate": provenance.get("rotate", {}),
        "timeline": provenance.get("timeline", {}),
        "sync": provenance.get("sync", {}),
        **({"segments": provenance["segments"]} if provenance.get("segments") else {}),
    }


def _attributes(rows: Sequence[Row], s3: S3Options) -> dict[str, Any]:
    """Of the first store: all of a folder are of one version."""
    (uri, data), *_ = read_roots([rows[0]["store"]], s3).items()
    return read_root(data, uri).attributes


def _complete(output: str, encoder_id: str, s3: S3Options) -> set[str]:
    (folder,) = folders_of(join(absolute(output), encoder_id), None, s3)
    return {row["take_uid"] for row in folder.rows(s3) if row["status"] == COMPLETE}


def _kept(recipe: Recipe, one: Moved) -> Moved:
    objects = Objects(join(recipe.job.output, one.new, MOVED), recipe.output_s3)
    one = replace(one, uri=join(objects.uri, f"{one.old}.json"))
    try:
        objects.put(f"{one.old}.json", json.dumps(one.facts(), indent=2).encode())
    except StorageError as error:
        log.warning("how the features moved was not written: %s", error)
        return replace(one, uri=None)
    return one
