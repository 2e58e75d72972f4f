"""S3 without blindly followed redirections.

aiohttp follows a redirection with the signature of the first address, which no other accepts: a
bucket in another region then looked as if the keys were wrong. botocore itself signs again.
"""

from functools import partial
from inspect import signature
from types import SimpleNamespace
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession


class UnredirectedSession(AIOHTTPSession):  # type: ignore[misc]  # untyped
    """As aiobotocore's own, and redirections (301, 302, 307) are answers like any other."""

    async def _get_session(self, proxy_url: Any) -> Any:
        session = await super()._get_session(proxy_url)
        return SimpleNamespace(request=partial(session.request, allow_redirects=False))


def unredirected() -> dict[str, Any]:
    """What to add to the settings of a client; nothing where aiobotocore is too old to take it."""
    takes = signature(AioConfig).parameters
    return {"http_session_cls": UnredirectedSession} if "http_session_cls" in takes else {}
