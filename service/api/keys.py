"""API keys: who may ask the service for what.

A key is 256 random bits, so its plain SHA-256 may lie in a file: nobody finds such a key by trying,
however fast the hash. Slow, salted hashes are for passwords, which people choose; here they would
cost every request some 100 ms and gain nothing.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import field_validator, model_validator

from configs.base import Settings
from configs.load import SettingsError, parse
from configs.schema import Name, Sha256

log = logging.getLogger(__name__)

Scope = Literal["read", "compute", "jobs"]
SCOPES: tuple[Scope, ...] = ("read", "compute", "jobs")
VARIABLE = "TAKESTREAM_API_KEYS"

# How soon a change of the keys file is noticed.
REREAD_SECONDS = 2.0
LONGEST_DAYS = 3650
_PREFIX = "ts_"
# Keys have 46 characters; nothing longer than this is hashed.
_LONGEST = 256
_PLAINTEXT = {"key", "secret", "token", "password", "plaintext", "api_key", "value"}


@dataclass(frozen=True)
class Key:
    """The owner of a valid key, and its scopes."""

    name: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether the key has that scope; none includes another."""
        return scope in self.scopes


class KeyEntry(Settings):
    """A key in a keys file.

    Attributes:
        name: Its owner's name.
        sha256: The SHA-256 of the key, in hex.
        scopes: What it may be used for.
        expires: The last day, in UTC, on which it is accepted; None for no limit.
    """

    name: Name
    sha256: Sha256
    scopes: tuple[Scope, ...]
    expires: date | None = None

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

    @property
    def expired(self) -> bool:
        """Whether its last day is over."""
        return self.expires is not None and today() > self.expires

    def facts(self) -> dict[str, Any]:
        """The entry as an item of a keys file, JSON-able."""
        return self.model_dump(mode="json", exclude_none=True)

    def yaml(self) -> str:
        """The entry as an item of a keys file, in YAML."""
        facts = self.facts()
        return yaml.safe_dump([facts], sort_keys=False, default_flow_style=None, width=200)


class _KeyFile(Settings):
    keys: tuple[KeyEntry, ...]


class KeyRing:
    """The keys that a service accepts.

    A keys file is read again within `REREAD_SECONDS` of a change to it, so a key that is taken out
    stops working. A file that is gone holds no keys; one that is damaged is left aside, and the
    keys from before stay.

    Attributes:
        problem: Why the keys file cannot be used as it is now, empty when it can.
    """

    def __init__(self, entries: Iterable[KeyEntry], *, file: str | None = None) -> None:
        self._given = tuple(entries)
        self._file = file
        self._seen: tuple[int, ...] | None = None
        self._reread_at = 0.0
        self.problem = ""
        self._accept(self._given)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self.names)})"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the keys' owners."""
        return tuple(entry.name for entry in self._entries)

    @classmethod
    def load(cls, file: str | None, environment: Mapping[str, str]) -> "KeyRing | None":
        """The keys of a YAML file and of TAKESTREAM_API_KEYS, which holds the same list.

        Warns when others than its owner may read the file.

        Args:
            file: Path of the keys file.
            environment: Where TAKESTREAM_API_KEYS is looked up.

        Returns:
            The keys; None when neither is given.

        Raises:
            SettingsError: The file cannot be read, holds no keys, a key in plain text, an unknown
                scope, or the same name or key twice.
        """
        text = environment.get(VARIABLE, "")
        if file is None and not text.strip():
            return None
        ring = cls(parse_entries(text, VARIABLE) if text.strip() else (), file=file)
        if file is not None:
            ring._accept((*parse_entries(read_text(file), file), *ring._given))
        return ring

    def find(self, authorization: str | None) -> Key | None:
        """Whose key an `Authorization: Bearer …` header shows; None for any other header.

        The time that it takes does not tell which key was nearly right, or whether one was.
        """
        self._reread()
        scheme, _, shown = (authorization or "").strip().partition(" ")
        shown = shown.strip()
        sound = scheme.lower() == "bearer" and 0 < len(shown) <= _LONGEST
        digest = _digest(shown[:_LONGEST])
        found = None
        for entry, known in zip(self._entries, self._digests, strict=True):
            # Every entry is compared, also after the right one.
            if hmac.compare_digest(digest, known):
                found = entry
        if not sound or found is None or found.expired:
            return None
        return Key(found.name, frozenset(found.scopes))

    def has(self, name: str) -> bool:
        """Whether the key of that owner is accepted, for links that were made in its name."""
        self._reread()
        return any(entry.name == name and not entry.expired for entry in self._entries)

    def _accept(self, entries: Iterable[KeyEntry]) -> None:
        entries = tuple(entries)
        refuse_twice(entries, self._file or VARIABLE)
        self._entries = entries
        self._digests = tuple(bytes.fromhex(entry.sha256) for entry in entries)

    def _reread(self) -> None:
        if self._file is None or time.monotonic() < self._reread_at:
            return
        self._reread_at = time.monotonic() + REREAD_SECONDS
        try:
            facts = os.stat(self._file)
            seen: tuple[int, ...] = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
        except OSError:
            seen = ()
        if seen == self._seen:
            return
        self._seen, self.problem = seen, ""
        try:
            there = parse_entries(read_text(self._file), self._file, some=False) if seen else []
            self._accept((*there, *self._given))
        except SettingsError as error:
            self.problem = f"{error}; the keys from before are still accepted"
        if not seen:
            self.problem = f"{self._file}: the keys file is gone, and its keys are not accepted"
        if self.problem:
            log.error("%s", self.problem)


def new_key(name: str, scopes: Iterable[str], days: int | None = None) -> tuple[str, KeyEntry]:
    """A new key, which is written nowhere, and its entry.

    Args:
        name: The owner's name.
        scopes: Some of `SCOPES`.
        days: How many days after today it is accepted, None for no limit.

    Raises:
        SettingsError: The name, a scope or the number of days cannot be used.
    """
    secret = _PREFIX + secrets.token_urlsafe(32)
    entry: dict[str, Any] = {"name": name, "sha256": _digest(secret).hex(), "scopes": tuple(scopes)}
    if days is not None:
        if not 0 < days <= LONGEST_DAYS:
            raise SettingsError(f"key: {days} days; give 1 to {LONGEST_DAYS}")
        entry["expires"] = today() + timedelta(days)
    return secret, parse(KeyEntry, entry, "key")


def today() -> date:
    """The date in UTC."""
    return datetime.now(UTC).date()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="replace")).digest()


def read_text(file: str, *, warn: bool = True) -> str:
    """The text of a keys file. Raises SettingsError."""
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


def parse_entries(text: str, where: str, *, some: bool = True) -> list[KeyEntry]:
    """The entries in the text of a keys file.

    Args:
        text: YAML: a list, or a mapping with the list as `keys`.
        where: What messages call it.
        some: Whether an empty list is an error.

    Raises:
        SettingsError: The text cannot be used; the message quotes nothing of it.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        # Not the error's own words: they quote the text, and there may be a key in it.
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(f"{where}: is no YAML{line}") from None
    if isinstance(data, Mapping) and set(data) == {"keys"}:
        data = data["keys"]
    if not isinstance(data, list) or (some and not data):
        raise SettingsError(
            f"{where}: expected a list of keys (name, sha256, scopes); "
            "`takestream keys new NAME --file FILE` makes one"
        )
    return list(parse(_KeyFile, {"keys": data}, where).keys)


def refuse_twice(entries: Iterable[KeyEntry], where: str) -> None:
    """Raise SettingsError for the same name or key twice."""
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
