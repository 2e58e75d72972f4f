"""Whether a machine of a cluster sees what the driver sees, before its first task.

Each machine may have another disk at the same path, other keys, or an older image. So a worker says
what it sees of an object of the data set, writes something into the output that the driver reads
back, and names its code and decoder; a machine where that is not what the driver has is left out.
"""

import hashlib
import uuid
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path

from takestream.errors import TakestreamError
from workers.dataset.take import Take
from workers.media.source import ObjectIdentity, Source
from workers.run.provenance import versions
from workers.run.recipe import Recipe
from workers.store.objects import Objects

FOLDER = ".nodes"
"""Below the output: where machines write what the driver reads back and removes."""

# What has to be the same everywhere, of what decides a feature's values.
_SAME = ("av", "libavcodec", "torch", "transformers")
_PACKAGES = ("configs", "models", "takestream", "workers")


@dataclass(frozen=True)
class Sight:
    """What a machine sees.

    Attributes:
        source: Size and ETag of an object of the data set, or why it cannot be seen; None where
            no object was to be looked at.
        output: Why the output cannot be written; empty where it was.
        code: Digest of the code.
        versions: Of what decides a feature's values.
    """

    source: ObjectIdentity | str | None
    output: str
    code: str
    versions: dict[str, str]


@lru_cache(maxsize=1)
def code_digest() -> str:
    """SHA-256 of the modules that make features, as they lie on this machine."""
    digest = hashlib.sha256()
    for name in _PACKAGES:
        for folder in import_module(name).__path__:
            for path in sorted(Path(folder).rglob("*.py")):
                digest.update(f"{name}/{path.relative_to(folder)}\n".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def look(recipe: Recipe, take: Take, key: str = "") -> Sight:
    """What this machine sees of a job.

    Args:
        recipe: The job's.
        take: Of which one object is looked at.
        key: Below the output: where to write `key` itself; nothing is written without it.
    """
    source, output = _source(recipe, take), ""
    if key:
        try:
            Objects(recipe.job.output, recipe.output_s3).put(key, key.encode())
        except TakestreamError as error:
            output = str(error)
    return Sight(source, output, code_digest(), {n: v for n, v in versions().items() if n in _SAME})


def _source(recipe: Recipe, take: Take) -> ObjectIdentity | str | None:
    stream = next((one for one in take.streams if one.uri), None)
    if stream is None:
        return None
    try:
        # The data set's own: a machine may have a mirror that the driver has not.
        return Source(*recipe.dataset.where(stream)).identity()
    except TakestreamError as error:
        return str(error)


def new_key() -> str:
    """Where a machine is to write."""
    return f"{FOLDER}/{uuid.uuid4().hex}"


def why_not(recipe: Recipe, own: Sight, there: Sight, key: str) -> str:
    """Why a machine cannot be used; empty where it can.

    Removes what it wrote.

    Args:
        recipe: The job's.
        own: What the driver sees.
        there: What the machine sees.
        key: Where the machine wrote.
    """
    # An object that the driver itself cannot see is told by the tasks that need it.
    if isinstance(own.source, ObjectIdentity) and there.source != own.source:
        what = there.source if isinstance(there.source, str) else "it sees another object there"
        return f"it does not see the data set as the driver does: {what}"
    if there.output:
        return f"it cannot write the output: {there.output}"
    output = Objects(recipe.job.output, recipe.output_s3)
    try:
        kept = output.get(key)
        output.delete_many([key])
    except TakestreamError as error:
        return f"what it wrote into the output cannot be read back: {error}"
    if kept != key.encode():
        return (
            f"what it writes to {output.uri} is not there for the driver: the output has to be a "
            "URI, or a path that all machines share"
        )
    if there.code != own.code:
        return "it has other code of takestream than the driver"
    for name, mine in own.versions.items():
        if there.versions.get(name) != mine:
            return f"it has {name} {there.versions.get(name)}, and the driver {mine}"
    return ""
