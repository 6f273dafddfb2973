"""Which URLs may be called: by how they read, and by the address that their host turns out to have. Pure.

A URL of a picture, or of who is to be told of a job, is a stranger's word. It must not make us call our own
network.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

# One spelling only: urlsplit, urllib3 and the resolver must not read different hosts out of it. So no
# credentials, brackets, percent signs, backslashes, white space, letters beyond ASCII, trailing dot, and no
# last label of digits or 0x…, which some resolvers take for an IPv4 address.
# https://url.spec.whatwg.org/#ends-in-a-number-checker
LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
HOST = rf"(?:{LABEL}\.)+(?!0x|\d+(?:[:/?#]|$)){LABEL}"
URL = re.compile(rf"https://({HOST})(?::443)?(?:[/?#].*)?", re.I | re.A)
AUTHORITY = re.compile(r"https?://([^/?#]+)(?:[/?#].*)?", re.I)
MAX_URL_CHARACTERS = 2048
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
    """Whether an artifact URL may be fetched: from the account's own host, or over HTTPS from one of `hosts`.

    Each of these is an exact host, or `.suffix` for all below it.
    """
    if UNSAFE.search(url):
        return False
    if is_own(url, base_url):
        return True
    found = URL.fullmatch(url)
    if found is None:
        return False
    host = found[1].lower()
    return any(host.endswith(suffix) if suffix.startswith(".") else host == suffix for suffix in hosts)


def notify_fault(url: str, private_hosts: Collection[str]) -> str:
    """Why nobody can be told at this URL, and the cure; '' where somebody may be.

    `private_hosts`: hosts that need not be public, in lower case.
    """
    found = AUTHORITY.fullmatch(url)
    if not found or UNSAFE.search(url) or not url.isascii():
        return "must be a URL that begins with https:// (or http://), of ASCII letters, without spaces"
    if len(url) > MAX_URL_CHARACTERS:
        return f"must have {MAX_URL_CHARACTERS} characters at most"
    if "@" in found[1]:
        return "must hold no user name or password: what we send is signed"
    host, colon, port = found[1].lower().partition(":")
    if colon and not (port.isdecimal() and 0 < int(port) < 65_536):
        return "must have a port from 1 to 65535, or none"
    if host in private_hosts or re.fullmatch(HOST, host, re.A):
        return ""
    return (
        "must name a host of the Internet, by a name with a dot in it: one of your own network is told only "
        "where ORCHESTRATOR_NOTIFY_HOSTS names it"
    )


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
