"""What goes wrong in several parts of the service."""

from takestream.errors import ErrorKind, TakestreamError


class Unknown(TakestreamError, LookupError):
    """There is no take, encoder or stream of that name; the message names the nearest."""

    kind = ErrorKind.NOT_FOUND
