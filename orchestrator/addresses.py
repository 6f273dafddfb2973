"""Where a picture may be fetched from: by its URL, and by the address its host name turns out to have. Pure.

A URL of a picture is a stranger's word. It must not make us call our own network.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

# One spelling only: urlsplit, urllib3 and the resolver must not read different hosts out of it. So no
# credentials, brackets, percent signs, backslashes, white space, letters beyond ASCII, trailing dot, and no
# last label of digits or 0x…, which some resolvers take for an IPv4 address.
# https://url.spec.whatwg.org/#ends-in-a-number-checker
LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
URL = re.compile(rf"https://((?:{LABEL}\.)+(?!0x|\d+(?:[:/?#]|$)){LABEL})(?::443)?(?:[/?#].*)?", re.I | re.A)
UNSAFE = re.compile(r"[\x00-\x20\x7f-\xa0\\]")

# What is called global by the registries and may still lead inside.
# https://www.iana.org/assignments/iana-ipv4-special-registry, …/iana-ipv6-special-registry
# https://learn.microsoft.com/en-us/azure/virtual-network/what-is-ip-address-168-63-129-16
GLOBAL_UNICAST = ip_network("2000::/3")  # so no IPv4-mapped, no NAT64, no unique local address
REFUSED = tuple(
    ip_network(network)
    for network in (
        *("0.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "192.0.0.0/24", "192.88.99.0/24", "240.0.0.0/4"),
        "168.63.129.16/32",  # Azure's own services
        *("2001::/23", "2002::/16", "2001:db8::/32", "3fff::/20"),  # Teredo, 6to4: an IPv4 address inside
    )
)


def may_fetch(url: str, hosts: Sequence[str], base_url: str) -> bool:
    """Whether an artifact URL may be fetched: the provider's hosts over HTTPS, or the account's own host."""
    if UNSAFE.search(url):
        return False
    if is_own(url, base_url):
        return True
    found = URL.fullmatch(url)
    host = found[1].lower() if found else ""
    return any(host.endswith(suffix) if suffix.startswith(".") else host == suffix for suffix in hosts)


def is_own(url: str, base_url: str) -> bool:
    """Whether a URL is at the account's own address, which the accounts file vouches for."""
    try:
        parts, base = urlsplit(url), urlsplit(base_url)
    except ValueError:
        return False
    return bool(base.netloc) and (parts.scheme, parts.netloc) == (base.scheme, base.netloc)


def is_public(address: str) -> bool:
    """Whether an IP address is anybody's on the Internet: none of our host, our network or our cloud."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and (found.scope_id or found not in GLOBAL_UNICAST):
        return False
    inside = any(found in network for network in REFUSED if network.version == found.version)
    return found.is_global and not found.is_multicast and not inside
