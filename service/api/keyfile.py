"""Changes to a keys file: entries added and taken out, everything else left as it is."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from configs.faults import did_you_mean
from configs.load import SettingsError
from service.api.keys import KeyEntry, parse_entries, read_text, refuse_twice


def add_to_file(entry: KeyEntry, file: str) -> None:
    """Add an entry to a keys file, which only its owner can read afterwards (0600).

    Comments and the file's owner are kept. A file that does not exist is made. Several processes
    may do this at once.

    Raises:
        SettingsError: The file or the name cannot be used; the file is left alone.
    """

    def added(text: str, entries: Sequence[KeyEntry]) -> tuple[str, list[KeyEntry]]:
        after = [*entries, entry]
        refuse_twice(after, file)
        text = text if entries or text.strip() not in ("[]", "keys: []") else ""
        return text + ("" if not text or text.endswith("\n") else "\n") + entry.yaml(), after

    _change(file, added)


def revoke_in_file(name: str, file: str) -> None:
    """Take the entry of that name out of a keys file. Services that use it notice in seconds.

    Raises:
        SettingsError: The file cannot be used, or has no such entry; the file is left alone.
    """

    def revoked(text: str, entries: Sequence[KeyEntry]) -> tuple[str, list[KeyEntry]]:
        names = [entry.name for entry in entries]
        if name not in names:
            raise SettingsError(f"{file}: no key named '{name}'{did_you_mean(name, names)}")
        at = names.index(name)
        after = [*entries[:at], *entries[at + 1 :]]
        return (_without(text, at) if after else "[]\n"), after

    if not os.path.exists(file):
        raise SettingsError(f"{file}: there is no such keys file")
    _change(file, revoked)


def entries_in_file(file: str) -> list[KeyEntry]:
    """The entries of a keys file. Raises SettingsError."""
    return parse_entries(read_text(file), file, some=False)


def _change(
    file: str, change: Callable[[str, Sequence[KeyEntry]], tuple[str, list[KeyEntry]]]
) -> None:
    """Replace the file by what `change` makes of its text and entries."""
    path = Path(os.path.realpath(file))
    with _alone(path.parent):
        before = read_text(file, warn=False) if path.exists() else ""
        entries = parse_entries(before, file, some=False) if before.strip() else []
        text, after = change(before, entries)
        try:
            sound = parse_entries(text, file, some=False) == after
        except SettingsError:
            sound = False
        if not sound:  # written in another style, such as JSON
            facts = [entry.facts() for entry in after]
            text = yaml.safe_dump(facts, sort_keys=False, default_flow_style=None, width=200)
        _write(path, text, file)


def _without(text: str, at: int) -> str:
    """The text without the lines of one item of its list, if it has lines of its own."""
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    if isinstance(node, yaml.MappingNode):
        node = node.value[0][1]
    items = [item.start_mark.line for item in node.value]
    lines = text.splitlines(keepends=True)
    stop = items[at + 1] if at + 1 < len(items) else len(lines)
    # A comment above the next item is about that one.
    while at + 1 < len(items) and lines[stop - 1].lstrip()[:1] in ("", "#"):
        stop -= 1
    return "".join([*lines[: items[at]], *lines[stop:]])


def _write(path: Path, text: str, file: str) -> None:
    try:
        # mkstemp makes it 0600 from the beginning.
        number, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(number, "w", encoding="utf-8") as out:
                if path.exists() and (owner := path.stat()).st_uid != os.geteuid():
                    # As root, mostly: the service must be able to read its keys as before.
                    os.fchown(number, owner.st_uid, owner.st_gid)
                out.write(text)
                out.flush()
                os.fsync(out.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise SettingsError(f"{file}: cannot write the keys file: {error.strerror}") from error


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of the folder while a keys file changes: the file itself is replaced."""
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise SettingsError(f"{folder}: cannot be opened: {error.strerror}") from error
    try:
        # Some network file systems lock no folders; then two at once may lose an entry.
        with contextlib.suppress(OSError):
            fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)
