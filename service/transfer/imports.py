"""Official feature files into stores: the clips of the official rule, provenance `imported`."""

import hashlib
import json
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.load import SettingsError
from service.transfer.official import (
    HDF5,
    Array,
    NoFeatures,
    hdf5_arrays,
    hdf5_names,
    official_files,
    parse_file,
    split_name,
)
from service.transfer.rule import OFFICIAL, ClipRule
from takestream.licence import ATTRIBUTE, Licence
from takestream.schema import COMPLETE, Reason
from takestream.storage import S3Options, join
from takestream.stores import make_encoder_id, store_uri
from workers.dataset.layouts import own_licence
from workers.dataset.take import DatasetError, Stream, Take
from workers.media.source import ObjectIdentity, Source
from workers.store.errors import StoreNotFound
from workers.store.layout import StoreLayout, unit_clips
from workers.store.takestore import TakeStore

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
UNIT_FRAMES = 4096


@dataclass(frozen=True)
class ImportJob:
    """What is imported, and as what.

    Attributes:
        source: URI of the folder, or of an HDF5 file.
        name: of the encoder, such as `omnivore_video`.
        takes: of the data set by uid, where one is given: names, lengths, which cameras are worn.
        s3: how to reach the files.
        dataset: URI of that data set.
        licence, encoder_licence: of the videos and of the encoder, where somebody says them; the
            videos' is the data set's own otherwise.
        rule: by which the clips were cut.
    """

    source: str
    name: str
    takes: Mapping[str, Take]
    s3: S3Options
    dataset: str | None = None
    licence: Licence | None = None
    encoder_licence: Licence | None = None
    rule: ClipRule = OFFICIAL

    def attributes(self, take: Take | None) -> dict[str, Any]:
        """The licence of a take's videos, as an attribute of its store; empty if not known."""
        found = self.licence
        if found is None and self.dataset is not None:
            found = own_licence(self.dataset, take)
        return {} if found is None else {ATTRIBUTE: found.facts()}


@dataclass
class Imported:
    """What came of it.

    Attributes:
        takes: how many there are.
        done: of them, written in this run.
        left_out: by file, why it was left out.
        uncertain: takes of which it is not known where the last clip lies.
        encoder_id: folder of the stores.
    """

    takes: int = 0
    done: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    uncertain: int = 0
    encoder_id: str = ""


Progress = Callable[[Imported], None]


def import_to(
    job: ImportJob, output: str, s3: S3Options, tell: Progress = lambda _: None
) -> Imported:
    """Write a store for each take of which there are features.

    Takes whose store is there, made from the same files, are left alone.

    Args:
        job: what to import.
        output: URI under which the stores go, as for extraction.
        s3: how to reach it.
        tell: called after every take.

    Raises:
        SettingsError: the encoder's name cannot name a folder, or the files are of other clips.
        DatasetError: there is no feature file.
        StorageError: files or output cannot be read or written.
    """
    if not _NAME.fullmatch(job.name):
        raise SettingsError(f"--name: '{job.name}' cannot name a folder; letters, digits, . _ -")
    result = Imported()
    encoder_id = _encoder_id(job.name, job.rule)
    for uid, files in _grouped(job, result).items():
        result.takes += 1
        uri = store_uri(output, encoder_id, uid)
        if not _is_made_of(uri, files, s3):
            arrays = _arrays(files, job, result)
            if arrays:
                _write(job, uri, uid, encoder_id, arrays, files, s3, result)
                result.done += 1
        tell(result)
    if not result.takes:
        some = "; ".join(f"{name}: {why}" for name, why in list(result.left_out.items())[:3])
        more = f" ({some})" if some else ""
        raise DatasetError(f"{job.source}: there are no feature files{more}")
    result.encoder_id = encoder_id
    return result


@dataclass(frozen=True)
class _File:
    """Features of one stream, in a file of their own or in one that holds many."""

    name: str
    uri: str
    identity: ObjectIdentity
    inside: str | None = None

    def facts(self) -> dict[str, Any]:
        """What the provenance keeps of it."""
        inside = {"dataset": self.inside} if self.inside else {}
        return {"uri": self.uri, "size": self.identity.size, "etag": self.identity.etag, **inside}


def _grouped(job: ImportJob, result: Imported) -> dict[str, dict[str, _File]]:
    """By take and stream, its file."""
    found: dict[str, dict[str, _File]] = defaultdict(dict)
    for file, stem in _files(job, result):
        try:
            uid, key = split_name(stem, job.takes)
        except NoFeatures as error:
            result.left_out[file.name] = str(error)
            continue
        if key in found[uid]:
            result.left_out[file.name] = f"{found[uid][key].name} holds the same stream"
            continue
        found[uid][key] = file
    return {uid: dict(sorted(found[uid].items())) for uid in sorted(found) if found[uid]}


def _files(job: ImportJob, result: Imported) -> Iterator[tuple[_File, str]]:
    if job.source.lower().endswith(HDF5):
        try:
            identity = Source(job.source, job.s3).identity()
            names = hdf5_names(job.source, job.s3)
        except (FileNotFoundError, NoFeatures) as error:
            raise DatasetError(str(error)) from error
        for name in names:
            yield _File(name, job.source, identity, name), name
        return
    try:
        found, others = official_files(job.source, job.s3)
    except (FileNotFoundError, NotADirectoryError):
        raise DatasetError(f"{job.source}: there is no such folder of feature files") from None
    for name in others:
        result.left_out[name] = "it is neither .pt nor .npy"
    for name, identity in found.items():
        yield _File(name, join(job.source, name), identity), posixpath.splitext(name)[0]


def _arrays(files: Mapping[str, _File], job: ImportJob, result: Imported) -> dict[str, Array]:
    """By stream, its features; all of one length of vectors."""
    found: dict[str, Array] = {}
    for key, array in _read(files, job):
        if isinstance(array, NoFeatures):
            result.left_out[files[key].name] = str(array)
        else:
            found[key] = array
    dims = Counter(array.shape[1] for array in found.values())
    usual = dims.most_common(1)[0][0] if dims else 0
    for key in [key for key, array in found.items() if array.shape[1] != usual]:
        why = f"its vectors have {found.pop(key).shape[1]} numbers, the take's others {usual}"
        result.left_out[files[key].name] = why
    return found


def _read(files: Mapping[str, _File], job: ImportJob) -> Iterator[tuple[str, Array | NoFeatures]]:
    inside = {str(file.inside): key for key, file in files.items() if file.inside}
    if inside:
        for name, array in hdf5_arrays(job.source, job.s3, list(inside)):
            yield inside[name], array
        return
    for key, file in files.items():
        data = Source(file.uri, job.s3).read(0, file.identity.size) if file.identity.size else b""
        try:
            yield key, parse_file(file.name, data)
        except NoFeatures as error:
            yield key, error


def _encoder_id(name: str, rule: ClipRule) -> str:
    facts = {"imported": name, "fps": rule.fps, "window": rule.window, "stride": rule.stride}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return make_encoder_id(name, digest)


def _is_made_of(uri: str, files: Mapping[str, _File], s3: S3Options) -> bool:
    """Whether the store is complete and made from these files; one of other files is removed."""
    try:
        store = TakeStore.open(uri, s3, writable=True)
    except StoreNotFound:
        return False
    known = store.attributes.get("provenance", {}).get("imported", {}).get("files", {})
    same = known == {key: file.facts() for key, file in files.items()}
    if not same:
        store.remove()
    return same and store.status == COMPLETE


def _write(
    job: ImportJob,
    uri: str,
    uid: str,
    encoder_id: str,
    arrays: Mapping[str, Array],
    files: Mapping[str, _File],
    s3: S3Options,
    result: Imported,
) -> None:
    clips = max(len(array) for array in arrays.values())
    take = job.takes.get(uid)
    rule = job.rule
    frames = _frames(clips, take, rule)
    start = np.arange(clips, dtype=np.int64) * rule.stride
    stop = start + rule.window
    if frames is not None:
        start[-1], stop[-1] = max(0, frames - rule.window), frames
    if frames is None and rule.window > 1 and _one_for_each_frame(clips, take, rule):
        raise SettingsError(
            f"take {uid}: {clips} vectors, as many as it has frames: these files hold one for each"
            " frame, not clips; say --per-frame"
        )
    # Where each frame has a clip of its own, the last one is where it is.
    sure = frames is not None or rule.window == 1
    result.uncertain += not sure
    unsure = "" if sure else (
        "where its last clip lies is not known: the files do not say how long the take is"
    )  # fmt: skip
    streams = {stream.key: stream for stream in take.streams} if take else {}
    said = job.encoder_licence
    known = {} if said is None else {"licence": said.name, "source": said.url or ""}
    layout = StoreLayout(
        streams=tuple(arrays),
        dim=next(iter(arrays.values())).shape[1],
        dtype="float16" if all(a.dtype == np.float16 for a in arrays.values()) else "float32",
        unit_clips=unit_clips(UNIT_FRAMES, rule.stride),
        start_frame=start,
        stop_frame=stop,
        start_time=start / rule.fps,
        end_time=stop / rule.fps,
        attributes={
            "take": {
                "take_uid": uid, "take_name": take.name if take else uid,
                "task_name": take.task if take else None,
                "university_name": take.university if take else None,
                "capture_name": take.capture if take else None,
            },
            "grid": {
                "fps": float(rule.fps), "fps_fraction": str(rule.fps),
                "take_fps_fraction": str(rule.fps), "window": rule.window,
                "stride": rule.stride, "tail": "backpad", "frames": int(stop[-1]),
                "clips": clips, "padded": bool(frames is not None and frames < rule.window),
            },
            "encoder": {"name": job.name, "encoder_id": encoder_id, "family": "imported", **known},
            "provenance": {
                "imported": {
                    "files": {key: file.facts() for key, file in files.items()},
                    "frames": "taken from the data set" if frames is not None else "not known",
                    "frame_time": "by the rule of the official clips, not measured",
                },
                "streams": {
                    key: _stream_facts(key, streams.get(key), files[key]) for key in arrays
                },
            },
            "problems": {
                key: words for key, array in arrays.items()
                if (words := _problems(len(array), clips, unsure))
            },
            **job.attributes(take),
        },
    )  # fmt: skip
    store = TakeStore.create(uri, layout, s3)
    for key, array in arrays.items():
        _write_stream(store, key, array, layout.start_time)
    store.finish()


def _write_stream(
    store: TakeStore, key: str, array: Array, start_time: NDArray[np.float64]
) -> None:
    clips = store.clips
    features = np.full((clips, store.dim), np.nan, dtype=np.float32)
    features[: len(array)] = array
    valid: NDArray[np.bool_] = np.asarray(np.isfinite(features).all(axis=1))
    features[~valid] = np.nan
    reason = np.where(valid, Reason.VALID, Reason.DAMAGED_FRAME).astype(np.uint8)
    reason[len(array) :] = Reason.PAST_END
    times = np.where(valid, start_time, np.nan)
    for first in range(0, clips, store.unit_clips):
        rows = slice(first, min(first + store.unit_clips, clips))
        store.write(
            key,
            first,
            features=features[rows],
            valid=valid[rows],
            frame_time=times[rows],
            reason=reason[rows],
        )


def _frames(clips: int, take: Take | None, rule: ClipRule) -> int | None:
    """Frames of a take that have so many clips by the rule, near its listed length.

    The extractor counts one frame less than `duration_sec` says, and some files have that one.
    """
    if take is None or take.duration is None:
        return None
    listed = round(take.duration * rule.fps)
    return next((n for n in (listed - 1, listed) if n > 0 and rule.clips(n) == clips), None)


def _one_for_each_frame(clips: int, take: Take | None, rule: ClipRule) -> bool:
    return (
        take is not None
        and take.duration is not None
        and abs(clips - round(take.duration * rule.fps)) <= 2
    )


def _stream_facts(key: str, stream: Stream | None, file: _File) -> dict[str, Any]:
    cam_id = stream.cam_id if stream else key.rpartition("_")[0]
    is_ego = stream.is_ego if stream else cam_id.lower().startswith("aria")
    return {"cam_id": cam_id, "is_ego": is_ego, **file.facts()}


def _problems(count: int, clips: int, unsure: str) -> list[str]:
    words = [f"its file has {count} of the take's {clips} clips"] if count != clips else []
    return [*words, *([unsure] if unsure else [])]
