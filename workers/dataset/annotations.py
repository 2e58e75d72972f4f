"""What people wrote about a take's moments: the keysteps and descriptions of `annotations/`.

Ego-Exo4D's shapes: https://docs.ego-exo4d-data.org/annotations/keystep and `…/atomic_descriptions`.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from takestream.errors import StorageError
from takestream.storage import S3Options, join
from workers.dataset.words import flag, seconds, table, text
from workers.media.source import ObjectIdentity, Source

log = logging.getLogger(__name__)

KEYSTEPS, DESCRIPTIONS = "keysteps", "descriptions"
FILES = {
    KEYSTEPS: ("keystep_train.json", "keystep_val.json"),
    DESCRIPTIONS: ("atomic_descriptions_train.json", "atomic_descriptions_val.json"),
}
# A file is held in memory; the release's sizes are not known here.
MOST_BYTES = 2**29


@dataclass(frozen=True)
class Annotation:
    """Words about a moment.

    Attributes:
        start: Seconds on the take's clock.
        end: Where it ends; None for a moment.
        text: What is said.
    """

    start: float
    end: float | None
    text: str


class _File(msgspec.Struct):
    annotations: dict[str, msgspec.Raw]


@dataclass(frozen=True)
class Annotations:
    """The annotation files of a data set, as they were read.

    Attributes:
        identities: By file, which version it was; None for one that is absent.
        entries: By kind and uid of the take, JSON.
        odd: Files that could not be read, in sentences.
    """

    identities: Mapping[str, ObjectIdentity | None]
    entries: Mapping[str, Mapping[str, list[bytes]]]
    odd: tuple[str, ...]

    def of(self, take_uid: str) -> dict[str, list[Annotation]]:
        """By kind, what is said of a take, in the order of time; entries that are none left out."""
        found = {}
        for kind, by_take in self.entries.items():
            read = _keysteps if kind == KEYSTEPS else _descriptions
            said = [
                one for raw in by_take.get(take_uid, ()) for one in read(msgspec.json.decode(raw))
            ]
            if said:
                found[kind] = sorted(said, key=lambda one: one.start)
        return found


def read_annotations(root: str, s3: S3Options, old: Annotations | None = None) -> Annotations:
    """The annotation files below `<root>/annotations`; `old` where they are the same.

    A file that is absent says nothing; one that cannot be read is named in `odd`.

    Args:
        root: Of the data set.
        s3: How to reach it.
        old: What was read before.
    """
    sources = {
        name: Source(join(root, "annotations", name), s3)
        for each in FILES.values()
        for name in each
    }
    identities: dict[str, ObjectIdentity | None] = {}
    odd = []
    for name, source in sources.items():
        identities[name] = None
        try:
            identities[name] = source.identity()
        except FileNotFoundError:
            pass
        except StorageError as error:
            odd.append(str(error))
    if old is not None and old.identities == identities:
        return old
    entries: dict[str, dict[str, list[bytes]]] = {kind: {} for kind in FILES}
    for kind, names in FILES.items():
        for name in names:
            identity = identities[name]
            if identity is None or not identity.size:
                continue
            try:
                if identity.size > MOST_BYTES:
                    raise ValueError(f"its {identity.size} bytes are more than {MOST_BYTES}")
                data = sources[name].read(0, identity.size)
                for uid, raw in msgspec.json.decode(data, type=_File).annotations.items():
                    entries[kind].setdefault(uid, []).append(bytes(raw))
            except (StorageError, ValueError, RecursionError) as error:
                odd.append(f"{sources[name].uri}: {error}")
    for line in odd:
        log.warning("annotations: %s", line)
    return Annotations(identities, entries, tuple(odd))


def _keysteps(entry: Any) -> Iterator[Annotation]:
    listed = table(entry).get("segments")
    for one in listed if isinstance(listed, list) else ():
        fields = table(one)
        start, end = seconds(fields.get("start_time")), seconds(fields.get("end_time"))
        words = text(fields.get("step_name")) or text(fields.get("step_description"))
        if start is not None and end is not None and end >= start and words:
            yield Annotation(start, end, words)


def _descriptions(entry: Any) -> Iterator[Annotation]:
    for annotator in entry if isinstance(entry, list) else ():
        fields = table(annotator)
        listed = fields.get("descriptions")
        if flag(fields.get("rejected")) or not isinstance(listed, list):
            continue
        for one in listed:
            moment, words = seconds(table(one).get("timestamp")), text(table(one).get("text"))
            if moment is not None and words:
                yield Annotation(moment, None, words)
