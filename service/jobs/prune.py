"""What can go from an output, and its removal: nothing that a job is writing."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from configs.faults import did_you_mean
from configs.load import SettingsError
from service.jobs.records import Records
from takestream.catalogue import EncoderFolder, folders_of
from takestream.errors import StorageNotFound
from takestream.schema import COMPLETE, PARTIAL
from takestream.storage import S3Options
from takestream.stores import is_encoder_id, is_store, uid_of
from workers.store.catalogue import refresh_quietly
from workers.store.changed import marked
from workers.store.errors import StoreError, StoreMismatch
from workers.store.objects import Objects
from workers.store.takestore import TakeStore

# What was written to so lately may be under a job's hands that left no record here.
RECENT_MINUTES = 60.0
_ROOT = "zarr.json"


@dataclass(frozen=True)
class Candidate:
    """Something in an output that was chosen to go.

    Attributes:
        uri: A store, the folder of an encoder, or an object.
        what: In words.
        encoder_id: Whose it is.
        bytes: Of its objects.
        objects: How many.
        refused: Why it stays, in words; empty where it can go.
    """

    uri: str
    what: str
    encoder_id: str
    bytes: int
    objects: int
    refused: str = ""


def candidates(
    output: str,
    s3: S3Options,
    encoder_ids: Sequence[str] = (),
    *,
    partial: bool = False,
    recent_minutes: float = RECENT_MINUTES,
) -> list[Candidate]:
    """What could go.

    Without further words: stores that were only half made, and temporary objects of writers that
    died. A listing of every object of the folders looked at.

    Args:
        output: The output.
        s3: How to reach it.
        encoder_ids: Whole versions; then nothing else.
        partial: Stores that are not complete too.
        recent_minutes: What was written to within so many minutes stays.

    Raises:
        SettingsError: There is no such encoder_id.
        StorageNotFound: There is no such folder.
        StorageError: The storage fails.
    """
    folders = {f.encoder_id: f for f in folders_of(output, None, s3)}
    folders = {name: folder for name, folder in folders.items() if is_encoder_id(name)}
    for name in encoder_ids:
        if name not in folders:
            hint = did_you_mean(name, list(folders))
            raise SettingsError(f"--encoder: {output} has no encoder_id '{name}'{hint}")
    writing = {
        encoder_id: record.job_id
        for record in Records(output, s3).unfinished()
        for encoder_id in record.encoder_ids or folders
    }
    found: list[Candidate] = []
    for name, folder in folders.items():
        if encoder_ids and name not in encoder_ids:
            continue
        weights = Objects(folder.uri, s3).weights()
        chosen = _chosen(folder, weights, s3, whole=bool(encoder_ids), partial=partial)
        for prefix, what in chosen:
            keys = [key for key in weights if key == prefix or key.startswith(f"{prefix}/")]
            if not prefix:
                keys = list(weights)
            # The report and the catalogue of a job that has just ended are no sign of another.
            stores = [key for key in keys if ".zarr" in key or key == prefix]
            times = [when for _, when in (weights[key] for key in stores) if when is not None]
            found.append(
                Candidate(
                    f"{folder.uri}/{prefix}".rstrip("/"),
                    what,
                    name,
                    sum(weights[key][0] for key in keys),
                    len(keys),
                    _refusal(writing.get(name), times, recent_minutes),
                )
            )
    return found


def prune(output: str, s3: S3Options, chosen: Iterable[Candidate]) -> list[Candidate]:
    """Delete what is not refused, and bring the catalogues up to date; what was deleted.

    Raises StorageError; what was deleted before stays so, and the same again goes on.
    """
    gone: list[Candidate] = []
    for one in chosen:
        if one.refused:
            continue
        if is_store(one.uri):
            remove_store(one.uri, s3)
        elif one.uri.endswith(f"/{one.encoder_id}"):
            for uri in folders_of(one.uri, None, s3)[0].stores:
                remove_store(uri, s3)
            Objects(one.uri, s3).delete_all()
        else:
            folder, _, key = one.uri.rpartition("/")
            Objects(folder, s3).delete_many([key])
        gone.append(one)
    there = set()
    with contextlib.suppress(StorageNotFound):
        there = {folder.encoder_id for folder in folders_of(output, None, s3)}
    refresh_quietly(output, sorted({one.encoder_id for one in gone} & there), s3)
    return gone


def remove_store(uri: str, s3: S3Options) -> None:
    """Delete a store, or what there is of one. Raises StorageError."""
    objects = Objects(uri, s3)
    with contextlib.suppress(StoreError, StoreMismatch):
        # So that no reader takes it for whole meanwhile.
        TakeStore.open(uri, s3, writable=True).mark_partial()
    with marked(objects, COMPLETE):
        objects.delete_all()


def _chosen(
    folder: EncoderFolder,
    weights: dict[str, tuple[int, float | None]],
    s3: S3Options,
    *,
    whole: bool,
    partial: bool,
) -> Iterator[tuple[str, str]]:
    """Key of what goes, below the folder, and what it is."""
    if whole:
        yield "", f"the version {folder.encoder_id}, {len(folder.stores)} stores"
        return
    rows = {uid_of(row["store"]): row for row in folder.rows(s3)} if partial else {}
    for uri in folder.stores:
        name = uri.rpartition("/")[2]
        if f"{name}/{_ROOT}" not in weights:
            yield name, "half made: a store without its zarr.json"
        elif partial and rows.get(uid_of(uri), {}).get("status") == PARTIAL:
            yield name, f"not complete: {rows[uid_of(uri)]['take_name']}"
    for key in sorted(weights):
        last = key.rpartition("/")[2]
        if last.endswith(".partial") or last.startswith(".takestream-probe-"):
            yield key, "temporary: of a writer that died"


def _refusal(job: str | None, times: Sequence[float], recent_minutes: float) -> str:
    if job is not None:
        return f"job {job} writes it: stop it first, or wait for its end"
    ago = (time.time() - max(times)) / 60 if times else recent_minutes
    if ago < recent_minutes:
        return (
            f"written to {max(0, ago):.0f} minutes ago, so a job may be at it;"
            f" --min-age MINUTES says how old is old enough (default: {RECENT_MINUTES:g})"
        )
    return ""
