"""What goes wrong in several parts of the service."""


class Unknown(LookupError):
    """There is no take, encoder or stream of that name; the message names the nearest."""
