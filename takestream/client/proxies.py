"""Which proxy of the environment stands between a client and its service.

Not left to httpx, which refuses to start where NO_PROXY holds a network or an IPv6 address in
brackets, as curl and Go read them.
"""

import ipaddress
from urllib.request import getproxies

import httpx


def proxy_of(url: str) -> str | None:
    """The URL of the proxy for the service at `url`, None where it is reached without one."""
    parsed = httpx.URL(url)
    proxies = getproxies()
    found = proxies.get(parsed.scheme) or proxies.get("all")
    # No proxy of the environment can reach our own loopback.
    if not found or _is_here(parsed.host):
        return None
    port = parsed.port or {"http": 80, "https": 443}[parsed.scheme]
    entries = (entry.strip() for entry in proxies.get("no", "").split(","))
    if any(_means(entry, parsed.host, port) for entry in entries if entry):
        return None
    return found if "://" in found else f"http://{found}"


def _is_here(host: str) -> bool:
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def _means(entry: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY, a name, domain, address or network, stands for this host."""
    if entry == "*":
        return True
    entry = entry.rpartition("://")[2]
    address = _address(host)
    if address is not None:
        try:
            return address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            pass  # with a port, or in brackets, or a name
    name, colon, digits = entry.rpartition(":")
    if not colon or not digits.isdecimal() or (":" in name and not name.endswith("]")):
        name, digits = entry, ""
    if digits and int(digits) != port:
        return False
    name = name.strip("[]").removeprefix("*").lstrip(".").lower()
    if address is not None:
        return address == _address(name)
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
