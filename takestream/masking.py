"""URIs without what must not be kept: passwords and signatures."""

import re

from takestream.errors import InvalidStorage

# A user and password before the host, and words of a query that sign a URL of http.
_PASSWORD = re.compile(r"(?<=://)[^/?#@]*:[^/?#@]*@")
_SIGNED = re.compile(
    r"(?i)[?&][^=&#]*(?:token|secret|password|passwd|signature|credential|api[-_]?key|sig)=[^&#]+"
)


def refuse_secrets(uri: str) -> None:
    """Refuse a URI that holds what must not be kept in reports, stores, records and logs.

    Raises:
        InvalidStorage: It holds a password, or is a signed URL; neither is repeated.
    """
    for part in uri.split("::"):
        signed = part.startswith(("http://", "https://")) and _SIGNED.search(part)
        if _PASSWORD.search(part) or signed:
            raise InvalidStorage(
                f"the URI {masked(uri)} holds a password or a signature, which reports and stores"
                " would keep: leave it out and give the access by a profile or the environment"
            )


def masked(uri: str) -> str:
    """`uri` without passwords and signatures, for messages."""
    return _SIGNED.sub("?…", _PASSWORD.sub("…@", uri))
