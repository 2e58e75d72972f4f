"""What goes wrong with a store."""


class StoreError(Exception):
    """A store cannot be used as asked. The message names the store and says what to do next."""


class StoreNotFound(StoreError):
    """There is no store, or only a half-made one, at the URI."""


class StoreMismatch(StoreError):
    """What is at the URI has another grid, dimension, dtype or schema than wanted."""


class StoreDenied(StoreError):
    """No permission, no credentials, or expired ones."""
