"""The official features' own form: a file for each stream, named `<take_uid>_<cam_id>_<stream>`."""

import io
import posixpath
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from takestream.storage import S3Options, open_filesystem, translated
from workers.media.source import ObjectIdentity, Source

Array = NDArray[np.float32] | NDArray[np.float16]
SUFFIXES = (".pt", ".npy")
HDF5 = (".hdf5", ".h5")


class NoFeatures(ValueError):
    """A file that holds no features of a stream; the text says why."""


def split_name(name: str, uids: Collection[str] = ()) -> tuple[str, str]:
    """Take uid and stream key of an official name, without its suffix.

    A cam_id may hold `_` itself, and so may a uid that is known; other uids end at the first `_`.

    Raises:
        NoFeatures: it is no such name.
    """
    known = [uid for uid in uids if name.startswith(f"{uid}_")]
    uid = max(known, key=len) if known else name.partition("_")[0]
    key = name[len(uid) + 1 :]
    if not uid or "_" not in key.strip("_"):
        raise NoFeatures("it is not named <take_uid>_<cam_id>_<stream>")
    return uid, key


def pt_bytes(features: Array) -> bytes:
    """A `.pt` file: one tensor [N, D], as `torch.load` reads it without any code of its own."""
    import torch

    out = io.BytesIO()
    torch.save(torch.from_numpy(np.ascontiguousarray(features)), out)
    return out.getvalue()


def npy_bytes(values: NDArray[np.generic]) -> bytes:
    """The bytes of an `.npy` file, without pickle."""
    out = io.BytesIO()
    np.save(out, values, allow_pickle=False)
    return out.getvalue()


def parse_file(name: str, data: bytes) -> Array:
    """The features in a `.pt` or `.npy` file, [N, D].

    Nothing in the file is run: a `.pt` file of anything but tensors is refused.

    Raises:
        NoFeatures: it holds none.
    """
    try:
        if name.endswith(".npy"):
            return as_features(np.load(io.BytesIO(data), allow_pickle=False))
        import torch

        tensor = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if not isinstance(tensor, torch.Tensor):
            raise NoFeatures(f"it holds a {type(tensor).__name__}, no tensor")
        if tensor.dtype == torch.bfloat16:
            tensor = tensor.float()
        return as_features(tensor.detach().numpy())
    except NoFeatures:
        raise
    except Exception as error:  # whatever bytes make torch and numpy raise is the file's matter
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise NoFeatures(f"it cannot be read ({said[:120]})") from error


def as_features(values: NDArray[np.generic]) -> Array:
    """An array as features [N, D]: [N, 1, D] is what the extractor wrote, [D] a single clip.

    Raises:
        NoFeatures: it is neither, or not of numbers.
    """
    if values.dtype.kind != "f":
        raise NoFeatures(f"it holds {values.dtype}, no features")
    shape = values.shape
    if len(shape) == 3 and shape[1] == 1:
        values = values[:, 0, :]
    elif len(shape) == 1:
        values = values[None, :]
    if values.ndim != 2 or not values.shape[0] or not values.shape[1]:
        raise NoFeatures(f"its shape is {list(shape)}, expected [N, D] or [N, 1, D]")
    dtype = np.float16 if values.dtype == np.float16 else np.float32
    found: Array = np.ascontiguousarray(values.astype(dtype))
    return found


def official_files(root: str, s3: S3Options) -> tuple[dict[str, ObjectIdentity], list[str]]:
    """By name, the versions of the feature files in a folder, sorted; and the names of others.

    Raises:
        FileNotFoundError: there is no such folder.
        StorageError: it cannot be read.
    """
    with translated(root, "list", s3):
        fs, path = open_filesystem(root, s3)
        entries = fs.ls(path, detail=True)
    found, others = {}, []
    for entry in sorted(entries, key=lambda entry: str(entry["name"])):
        name = posixpath.basename(str(entry["name"]).rstrip("/"))
        if entry["type"] == "file" and name.endswith(SUFFIXES):
            version = entry.get("ETag") or entry.get("mtime") or entry.get("created") or ""
            found[name] = ObjectIdentity(int(entry["size"] or 0), str(version).strip('"'))
        elif name:
            others.append(name)
    return found, others


def hdf5_names(uri: str, s3: S3Options) -> list[str]:
    """Names of the data sets in an HDF5 file. Raises StorageError, NoFeatures."""
    with _hdf5(uri, s3) as file:
        return sorted(file)


def hdf5_arrays(
    uri: str, s3: S3Options, names: Sequence[str]
) -> Iterator[tuple[str, Array | NoFeatures]]:
    """Features of some data sets of an HDF5 file, or why there are none. Raises StorageError."""
    import h5py

    with _hdf5(uri, s3) as file:
        for name in names:
            try:
                if not isinstance(file[name], h5py.Dataset):
                    raise NoFeatures("it is a group, no data set")
                yield name, as_features(file[name][...])
            except (NoFeatures, OSError, TypeError) as error:
                found = error if isinstance(error, NoFeatures) else NoFeatures(str(error))
                yield name, found


@contextmanager
def _hdf5(uri: str, s3: S3Options) -> Iterator[Any]:
    import h5py

    Source(uri, s3).identity()  # says what is the matter where there is none
    fs, path = open_filesystem(uri, s3)
    with fs.open(path, "rb") as raw:
        try:
            file = h5py.File(raw, "r")
        except OSError as error:
            raise NoFeatures(f"{uri} is no HDF5 file ({error})") from error
        with file:
            yield file
