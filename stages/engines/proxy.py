"""Whether requests go through a proxy, as the environment says (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


@dataclass(frozen=True)
class Proxy:
    """`url` as the environment has it, with what it may hold of a password; `words` name it without."""

    url: str
    words: str


def proxy_for(url: str) -> Proxy | None:
    """The proxy on the way to a URL; none to this machine itself, whatever the environment says."""
    parts = urlsplit(url)
    host, proxies = parts.hostname or "", getproxies()
    kind = next((kind for kind in (parts.scheme, "all") if proxies.get(kind)), None)
    if kind is None or _here(host) or proxy_bypass(host):
        return None
    named = proxies[kind] if "://" in proxies[kind] else f"http://{proxies[kind]}"
    bare = urlsplit(named)
    place = bare.netloc.rpartition("@")[2]
    return Proxy(named, f"the proxy {bare.scheme}://{place} of {kind.upper()}_PROXY")


def _here(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified
