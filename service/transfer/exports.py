"""Stores written as other people's code reads features: official `.pt`, HDF5, Parquet and more."""

import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from configs.load import SettingsError
from service.transfer.official import Array, npy_bytes, pt_bytes
from service.transfer.stored import Chosen, StoredFeatures
from takestream import schema
from takestream.root import parse_json
from takestream.storage import S3Options, open_filesystem, translated
from takestream.stores import StoredTake
from workers.store.objects import Objects

Format = Literal["pt", "npy", "hdf5", "parquet", "webdataset"]
# Forms of one file for each take, and how its name ends.
WHOLE = {"parquet": "parquet", "webdataset": "tar"}
Invalid = Literal["nan", "zero"]
SIDECAR, HDF5_FILE = "takestream.json", "features.hdf5"
# Takes after which the sidecar is written again.
SAVED_EVERY = 20


@dataclass(frozen=True)
class ExportJob:
    """What is written, and how.

    Attributes:
        stores: from which.
        form: of the files.
        dtype: of the features.
        invalid: what stands for clips that are invalid.
        s3: how to reach the stores.
    """

    stores: Chosen
    form: Format
    dtype: Literal["float32", "float16"]
    invalid: Invalid
    s3: S3Options

    def facts(self) -> dict[str, Any]:
        """What all files have in common, JSON-able."""
        return {
            "takestream": "export", "encoder_id": self.stores.encoder_id, "format": self.form,
            "dtype": self.dtype, "invalid": self.invalid, "streams": list(self.stores.streams),
        }  # fmt: skip


@dataclass
class Exported:
    """What came of it.

    Attributes:
        takes: how many there are.
        done: of them, written in this run.
        invalid: clips of these that are invalid, over all streams.
        names: streams whose names official readers cannot take apart.
    """

    takes: int
    done: int = 0
    invalid: int = 0
    names: set[str] = field(default_factory=set)


Progress = Callable[[Exported], None]


def export_to(
    job: ExportJob, output: str, s3: S3Options, tell: Progress = lambda _: None
) -> Exported:
    """Write the features of all stores into the folder `output`.

    A take that was written before from the same store is left alone.

    Args:
        job: what to write.
        output: URI of the folder.
        s3: how to reach it.
        tell: called after every take.

    Raises:
        SettingsError: the folder holds another export, or numbers do not fit the dtype.
        StorageError: stores or output cannot be read or written.
    """
    target = Objects(output, s3)
    written, said = _written(target, job.facts())
    there = target.listing()
    result = Exported(len(job.stores.takes))
    result.names = {name for name in job.stores.streams if name.count("_") != 1}
    files = _Hdf5(target, job, s3) if job.form == "hdf5" else _Files(target, job)
    try:
        for take in job.stores.takes:
            store = StoredFeatures(take.uri, job.s3)
            digest = _digest(store.attributes)
            if written.get(take.uid) == digest and files.has(take, there):
                continue
            result.invalid += files.write(take, store)
            written[take.uid] = digest
            result.done += 1
            if result.done % SAVED_EVERY == 0:
                _save(target, job, written)
            tell(result)
        files.close()
    finally:
        if result.done:
            _save(target, job, written)
    if not result.done and said != licences_in(job.stores.takes):
        _save(target, job, written)
    return result


def licences_in(takes: Iterable[StoredTake]) -> list[dict[str, Any]]:
    """The licences of these stores, each pair of `dataset` and `encoder` once, JSON-able."""
    return [licences.facts() for licences in dict.fromkeys(take.licences for take in takes)]


class _Files:
    """A file, or one for each stream, of every take."""

    def __init__(self, target: Objects, job: ExportJob) -> None:
        self._target, self._job = target, job

    def has(self, take: StoredTake, there: set[str]) -> bool:
        """Whether all of a take is written."""
        return there.issuperset(self._names(take).values())

    def write(self, take: StoredTake, store: StoredFeatures) -> int:
        """Write a take; how many of its clips are invalid."""
        names = self._names(take)
        if self._job.form in WHOLE:
            to_file = _parquet if self._job.form == "parquet" else _webdataset
            data, invalid = to_file(take, store, list(names), self._job)
            self._target.put(next(iter(names.values())), data)
            return invalid
        invalid = 0
        to_bytes = pt_bytes if self._job.form == "pt" else npy_bytes
        for stream, name in names.items():
            features, lost = stream_features(store, stream, self._job)
            self._target.put(name, to_bytes(features))
            invalid += lost
        return invalid

    def close(self) -> None:
        """Every file is whole already."""

    def _names(self, take: StoredTake) -> dict[str, str]:
        streams = [s for s in self._job.stores.streams if s in take.streams]
        if ending := WHOLE.get(self._job.form):
            return dict.fromkeys(streams, f"{take.uid}.{ending}")
        return {stream: f"{take.uid}_{stream}.{self._job.form}" for stream in streams}


class _Hdf5:
    """One file with a data set for each stream; put in its place when it is whole.

    HDF5 is written in place, which S3 cannot: it is made on the local disk, where an interrupted
    run finds it again.
    """

    def __init__(self, target: Objects, job: ExportJob, s3: S3Options) -> None:
        self._target, self._job, self._s3 = target, job, s3
        key = hashlib.sha256(f"{target.uri} {job.facts()}".encode()).hexdigest()[:16]
        folder = Path(target.uri) if target.local else Path(tempfile.gettempdir())
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f".{HDF5_FILE}.{key}.partial"
        self._left_behind = self._path.exists()

    def has(self, take: StoredTake, there: set[str]) -> bool:
        """Whether all of a take is written, as far as its sidecar says so."""
        return HDF5_FILE in there and not self._left_behind

    def write(self, take: StoredTake, store: StoredFeatures) -> int:
        """Write a take's data sets; how many of its clips are invalid."""
        import h5py

        self._begin()
        invalid = 0
        digest = _digest(store.attributes)
        with h5py.File(self._path, "a") as file:
            for stream in (s for s in self._job.stores.streams if s in take.streams):
                name = f"{take.uid}_{stream}"
                if name in file and file[name].attrs.get("store") == digest:
                    invalid += int((~store.valid(stream)).sum())
                    continue
                if name in file:
                    del file[name]
                features, lost = stream_features(store, stream, self._job)
                made = file.create_dataset(name, data=features)
                # Only a data set that is whole has it.
                made.attrs["licences"] = json.dumps(take.licences.facts())
                made.attrs["store"] = digest
                invalid += lost
        return invalid

    def _begin(self) -> None:
        """See that there is a file to write into: begun earlier, or a copy of the last one."""
        import h5py

        if self._path.exists():
            try:
                with h5py.File(self._path, "r"):
                    return
            except OSError:  # torn by a kill
                self._path.unlink()
        uri = f"{self._target.uri}/{HDF5_FILE}"
        with translated(uri, "read", self._s3):
            fs, path = open_filesystem(uri, self._s3)
            if fs.exists(path):
                fs.get_file(path, str(self._path))

    def close(self) -> None:
        """Put the file in its place."""
        if not self._path.exists():
            return
        if self._target.local:
            os.replace(self._path, Path(self._target.uri) / HDF5_FILE)
            return
        uri = f"{self._target.uri}/{HDF5_FILE}"
        with translated(uri, "write to", self._s3):
            fs, path = open_filesystem(uri, self._s3)
            fs.put_file(str(self._path), path)
        self._path.unlink()


def stream_features(store: StoredFeatures, stream: str, job: ExportJob) -> tuple[Array, int]:
    """Features [N, D] of one stream as they are written, and how many clips are invalid.

    Raises SettingsError when a number does not fit the dtype.
    """
    features, valid = store.features(stream), store.valid(stream)
    features[~valid] = 0.0 if job.invalid == "zero" else np.nan
    with np.errstate(over="ignore"):
        found: Array = features.astype(job.dtype)
    if not np.isfinite(found[valid]).all():
        raise SettingsError(
            f"{stream} of a take has numbers too large for {job.dtype}: --dtype float32"
        )
    return found, int((~valid).sum())


def _parquet(
    take: StoredTake, store: StoredFeatures, streams: list[str], job: ExportJob
) -> tuple[bytes, int]:
    import pyarrow as pa
    import pyarrow.parquet

    tables, invalid = [], 0
    for stream in streams:
        features, lost = stream_features(store, stream, job)
        count, dim = features.shape
        flat = pa.array(features.reshape(-1))
        columns: dict[str, Any] = {
            "take_uid": pa.array([take.uid] * count).dictionary_encode(),
            "take_name": pa.array([take.name] * count).dictionary_encode(),
            "stream": pa.array([stream] * count).dictionary_encode(),
            "clip": pa.array(np.arange(count, dtype=np.int32)),
            "start_time": pa.array(store.start_time),
            "end_time": pa.array(store.end_time),
            "valid": pa.array(store.valid(stream)),
            "reason": pa.array(store.of(stream, schema.REASON)),
            "frame_time": pa.array(store.of(stream, schema.FRAME_TIME)),
            "features": pa.FixedSizeListArray.from_arrays(flat, dim),
        }
        tables.append(pa.table(columns))
        invalid += lost
    out = io.BytesIO()
    whole = pa.concat_tables(tables)
    said = {**job.facts(), "licences": take.licences.facts()}
    facts = {b"takestream": json.dumps(said).encode()}
    pyarrow.parquet.write_table(whole.replace_schema_metadata(facts), out, compression="zstd")
    return out.getvalue(), invalid


def _webdataset(
    take: StoredTake, store: StoredFeatures, streams: list[str], job: ExportJob
) -> tuple[bytes, int]:
    """A shard of WebDataset: a sample for each clip, of all streams together."""
    found = [stream_features(store, stream, job) for stream in streams]
    features = np.stack([values for values, _ in found], axis=1)
    valid = np.stack([store.valid(stream) for stream in streams], axis=1)
    said = {
        "take_uid": take.uid, "take_name": take.name, "streams": streams,
        "encoder_id": job.stores.encoder_id, "licences": take.licences.facts(),
    }  # fmt: skip
    # A sample's name ends at its first dot.
    key = take.uid.replace(".", "-")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as shard:
        for clip in range(len(features)):
            times = {
                "clip": clip,
                "start_time": float(store.start_time[clip]),
                "end_time": float(store.end_time[clip]),
            }
            for name, data in (
                ("features.npy", npy_bytes(features[clip])),
                ("valid.npy", npy_bytes(valid[clip])),
                ("json", json.dumps({**said, **times}).encode()),
            ):
                member = tarfile.TarInfo(f"{key}-{clip:06d}.{name}")
                member.size = len(data)
                shard.addfile(member, io.BytesIO(data))
    return out.getvalue(), sum(lost for _, lost in found)


def _digest(attributes: Mapping[str, Any]) -> str:
    """Changes whenever a stream of the store was extracted again."""
    kept = {name: attributes.get(name) for name in ("clips_sha256", "provenance", "streams")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def _written(target: Objects, facts: Mapping[str, Any]) -> tuple[dict[str, str], Any]:
    """By take, the digest of the store that an export was made from; and the licences it names."""
    data = target.get(SIDECAR)
    if data is None:
        return {}, None
    try:
        said = parse_json(data)
        differ = [name for name, value in facts.items() if said.get(name) != value]
        takes = dict(said.get("takes", {}))
    except (ValueError, AttributeError, TypeError):
        differ, takes = ["everything"], {}
    if differ:
        raise SettingsError(
            f"{target.uri} holds something else (other {', '.join(differ)}): remove it, or choose"
            " another --output"
        )
    return takes, said.get("licences")


def _save(target: Objects, job: ExportJob, written: Mapping[str, str]) -> None:
    licences = licences_in(job.stores.takes)
    facts = {**job.facts(), "licences": licences, "takes": dict(written)}
    target.put(SIDECAR, json.dumps(facts, indent=1).encode())
