"""What goes wrong with a store, beyond what goes wrong with the storage it lies on."""

from takestream.errors import ErrorKind, StorageError


class StoreError(StorageError):
    """A store cannot be used as asked. The message names the store and says what to do next."""

    kind = ErrorKind.STORE


class StoreNotFound(StoreError):
    """There is no store, or only a half-made one, at the URI."""

    kind = ErrorKind.ABSENT


class StoreMismatch(StoreError):
    """What is at the URI has another grid, dimension, dtype or schema than wanted."""

    kind = ErrorKind.MISMATCH
