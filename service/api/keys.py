"""API keys: who may ask the service for what.

A key is 256 random bits, so its plain SHA-256 may lie in a file: nobody finds such a key by trying,
however fast the hash. Slow, salted hashes are for passwords, which people choose; here they would
cost every request some 100 ms and gain nothing.
"""

import contextlib
import fcntl
import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import field_validator, model_validator

from configs.load import SettingsError, parse
from configs.schema import Name, Settings, Sha256

log = logging.getLogger(__name__)

Scope = Literal["read", "compute", "jobs"]
SCOPES: tuple[Scope, ...] = ("read", "compute", "jobs")
VARIABLE = "TAKESTREAM_API_KEYS"

_PREFIX = "ts_"
# Keys have 46 characters; nothing longer than this is hashed.
_LONGEST = 256
_PLAINTEXT = {"key", "secret", "token", "password", "plaintext", "api_key", "value"}


@dataclass(frozen=True)
class Key:
    """Somebody who showed a valid key."""

    name: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether the key has that scope; none includes another."""
        return scope in self.scopes


class KeyEntry(Settings):
    """A key as it lies in a file: its owner's name, the SHA-256 of the key in hex, what it may."""

    name: Name
    sha256: Sha256
    scopes: tuple[Scope, ...]

    @model_validator(mode="before")
    @classmethod
    def _hashed(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            digest = str(data.get("sha256", ""))
            if _PLAINTEXT & {str(k).lower() for k in data} or digest.startswith(_PREFIX):
                raise ValueError(
                    "holds a key in plain text, which others may have read by now: throw that key "
                    "away and make one with `takestream keys new NAME`, which prints the entry to "
                    "put here (name, sha256, scopes). Only hashes belong here; "
                    "`printf %s KEY | sha256sum` makes one"
                )
        return data

    @field_validator("sha256", mode="before")
    @classmethod
    def _hex(cls, digest: Any) -> Any:
        if not re.fullmatch("[0-9a-fA-F]{64}", str(digest)):
            raise ValueError("expected 64 hex digits, the SHA-256 of the key (in quotes)")
        return str(digest).lower()

    @field_validator("scopes")
    @classmethod
    def _some(cls, scopes: tuple[Scope, ...]) -> tuple[Scope, ...]:
        if not scopes:
            raise ValueError(f"a key without scopes may nothing; name some of {', '.join(SCOPES)}")
        return tuple(dict.fromkeys(scopes))

    def yaml(self) -> str:
        """The entry as an item of a keys file."""
        facts = self.model_dump(mode="json")
        return yaml.safe_dump([facts], sort_keys=False, default_flow_style=None, width=200)


class _KeyFile(Settings):
    keys: tuple[KeyEntry, ...]


class KeyRing:
    """The keys that a service accepts."""

    def __init__(self, entries: Iterable[KeyEntry]) -> None:
        self._entries = tuple(entries)
        self._digests = tuple(bytes.fromhex(entry.sha256) for entry in self._entries)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self.names)})"

    @property
    def names(self) -> tuple[str, ...]:
        """Whose keys they are."""
        return tuple(entry.name for entry in self._entries)

    @classmethod
    def load(cls, file: str | None, environment: Mapping[str, str]) -> "KeyRing | None":
        """The keys of a YAML file and of TAKESTREAM_API_KEYS (the same list, in the variable).

        None when neither is given. Raises SettingsError for a file that cannot be read, holds no
        keys, a key in plain text, an unknown scope or the same name or key twice; warns when
        others than its owner may read the file.
        """
        entries: list[KeyEntry] = []
        if file is not None:
            entries += _entries(_read(file), file)
        if (text := environment.get(VARIABLE, "")).strip():
            entries += _entries(text, VARIABLE)
        elif file is None:
            return None
        _refuse_twice(entries, file or VARIABLE)
        return cls(entries)

    def find(self, authorization: str | None) -> Key | None:
        """Whose key an `Authorization: Bearer …` header shows; None for any other header.

        The time that it takes does not tell which key was nearly right, or whether one was.
        """
        scheme, _, shown = (authorization or "").strip().partition(" ")
        shown = shown.strip()
        sound = scheme.lower() == "bearer" and 0 < len(shown) <= _LONGEST
        digest = _digest(shown[:_LONGEST])
        found = None
        for entry, known in zip(self._entries, self._digests, strict=True):
            # Every entry is compared, also after the right one.
            if hmac.compare_digest(digest, known):
                found = entry
        if not sound or found is None:
            return None
        return Key(found.name, frozenset(found.scopes))


def new_key(name: str, scopes: Iterable[str]) -> tuple[str, KeyEntry]:
    """A fresh key, which is kept nowhere, and its entry. Raises SettingsError."""
    secret = _PREFIX + secrets.token_urlsafe(32)
    entry = {"name": name, "sha256": _digest(secret).hex(), "scopes": tuple(scopes)}
    return secret, parse(KeyEntry, entry, "key")


def add_to_file(entry: KeyEntry, file: str) -> None:
    """Append the entry to a keys file, which only its owner can read afterwards (0600).

    What is in the file stays as it is, comments and its owner too. A file that does not exist is
    made. Several may do this at once. Raises SettingsError, and leaves the file alone, when it or
    the name is no good.
    """
    path = Path(os.path.realpath(file))
    with _alone(path.parent):
        _add(entry, path, file)


def _add(entry: KeyEntry, path: Path, file: str) -> None:
    before = _read(file, warn=False) if path.exists() else ""
    entries = _entries(before, file) if before.strip() else []
    _refuse_twice([*entries, entry], file)
    text = before + ("" if not before or before.endswith("\n") else "\n") + entry.yaml()
    try:
        sound = len(_entries(text, file)) == len(entries) + 1
    except SettingsError:
        sound = False
    if not sound:  # written in another style, such as JSON
        facts = [one.model_dump(mode="json") for one in (*entries, entry)]
        text = yaml.safe_dump(facts, sort_keys=False, default_flow_style=None, width=200)
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
    """Nobody else changes a keys file in the folder; the file itself is replaced, so no lock."""
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


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="replace")).digest()


def _read(file: str, *, warn: bool = True) -> str:
    path = Path(file)
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SettingsError(f"{file}: cannot read the keys file: {why}") from error
    if warn and mode & (stat.S_IRGRP | stat.S_IROTH):
        log.warning(
            "%s: others than its owner may read this keys file (mode %o): chmod 600 it",
            file, stat.S_IMODE(mode),
        )  # fmt: skip
    return text


def _entries(text: str, where: str) -> list[KeyEntry]:
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        # Not the error's own words: they quote the text, and there may be a key in it.
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(f"{where}: is no YAML{line}") from None
    if isinstance(data, Mapping) and set(data) == {"keys"}:
        data = data["keys"]
    if not isinstance(data, list) or not data:
        raise SettingsError(
            f"{where}: expected a list of keys (name, sha256, scopes); "
            "`takestream keys new NAME --file FILE` makes one"
        )
    return list(parse(_KeyFile, {"keys": data}, where).keys)


def _refuse_twice(entries: Iterable[KeyEntry], where: str) -> None:
    names: set[str] = set()
    digests: dict[str, str] = {}
    for entry in entries:
        if entry.name in names:
            raise SettingsError(f"{where}: there is a key named '{entry.name}' already")
        if entry.sha256 in digests:
            other = digests[entry.sha256]
            raise SettingsError(f"{where}: '{entry.name}' has the same key as '{other}'")
        names.add(entry.name)
        digests[entry.sha256] = entry.name
