"""Keys of a profile that are read again whenever its file has changed: by a process that runs on.

An S3 client asks for its keys at each request that it signs, so requests from then on are signed
with the new ones; nothing has to be opened again.
"""

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import botocore.session
from aiobotocore.credentials import AioCredentialResolver, AioCredentials
from aiobotocore.session import AioSession
from botocore.credentials import CredentialProvider, ReadOnlyCredentials
from botocore.exceptions import BotoCoreError

# Where botocore found keys that stand in a file and that nothing renews.
_IN_FILES = ("shared-credentials-file", "config-file")

# What botocore goes by besides the files.
_VARIABLES = (
    "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE", "HOME",
)  # fmt: skip

State = tuple[tuple[int, int, int] | None, ...]
_Asked = tuple[str | None, ...]

# By profile and environment: the state of the files, and the session.
_sessions: dict[_Asked, tuple[State, AioSession | None]] = {}
_lock = threading.Lock()


def renewing_session(profile: str | None) -> AioSession | None:
    """A session whose clients sign with what the profile's file holds at that moment.

    One for each profile, so that file systems are shared. None where the keys stand in no file:
    those of the environment cannot change for a process, those of a role renew themselves.

    Args:
        profile: of the AWS files; None for the one that the usual chain decides on.
    """
    files = tuple(
        os.path.expanduser(os.environ.get(name) or usual)
        for name, usual in (
            ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
            ("AWS_CONFIG_FILE", "~/.aws/config"),
        )
    )
    asked = (profile, *map(os.environ.get, _VARIABLES))
    with _lock:
        before, session = _sessions.get(asked, (None, None))
        state = _state(files)
        if session is None and before != state:
            if (found := _read(profile)) is not None:
                session = AioSession(profile=profile)
                resolver = AioCredentialResolver([_Provider(_FileKeys(profile, files, found))])
                session.register_component("credential_provider", resolver)
            _sessions[asked] = state, session
        return session


def _state(files: Iterable[str]) -> State:
    """Which versions of files are there."""
    found: list[tuple[int, int, int] | None] = []
    for path in files:
        try:
            facts = os.stat(path)
        except OSError:
            found.append(None)
        else:
            found.append((facts.st_mtime_ns, facts.st_size, facts.st_ino))
    return tuple(found)


def _read(profile: str | None) -> Any:
    """The keys of a profile now, None where they stand in no file."""
    with suppress(BotoCoreError):
        keys = botocore.session.Session(profile=profile).get_credentials()
        if keys is not None and keys.method in _IN_FILES and not hasattr(keys, "refresh_needed"):
            return keys.get_frozen_credentials()
    return None


class _FileKeys(AioCredentials):  # type: ignore[misc]
    """The keys of a profile as its file has them. A file that cannot be read changes nothing."""

    def __init__(self, profile: str | None, files: tuple[str, ...], keys: Any) -> None:
        super().__init__(keys.access_key, keys.secret_key, keys.token, method=_IN_FILES[0])
        self._profile, self._paths = profile, files
        self._state = _state(self._paths)

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """The keys to sign one request with."""
        if (state := _state(self._paths)) != self._state:
            # A file that is half written is read again when it changes once more.
            self._state = state
            if (keys := _read(self._profile)) is not None:
                self.access_key, self.secret_key = keys.access_key, keys.secret_key
                self.token = keys.token
        return ReadOnlyCredentials(self.access_key, self.secret_key, self.token)


class _Provider(CredentialProvider):  # type: ignore[misc]
    METHOD = "takestream"

    def __init__(self, keys: _FileKeys) -> None:
        super().__init__()
        self._keys = keys

    async def load(self) -> _FileKeys:
        return self._keys
