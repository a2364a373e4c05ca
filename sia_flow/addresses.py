"""Web addresses, read so strictly that nobody reads them differently, and what a grant of one covers.

Invariant: of an address that is returned, everyone sees the same scheme, host, port and path; what could be read in two
ways is refused, and what a grant does not name is not covered.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import unquote

Address = IPv4Address | IPv6Address
AnyNetwork = IPv4Network | IPv6Network

PORTS = {"https": 443, "http": 80}
INNER: tuple[AnyNetwork, ...] = tuple(
    ip_network(text)
    for text in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "::1/128", "fc00::/7")
)
"""Addresses of this machine and of private networks."""
METADATA = frozenset(
    ip_address(text)
    for text in ("169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")
)
"""Where clouds hand a machine its keys: never reached, whatever is granted."""
_LENGTH = 4096
_ODD = re.compile(r"[^A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]", re.ASCII)
_PARTS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)(/[^?#]*)?(?:\?([^#]*))?(?:#.*)?", re.ASCII)
_PORT = re.compile(r":([1-9][0-9]{0,4})", re.ASCII)
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})", re.ASCII)
_CONTROL_ESCAPE = re.compile(r"%([01][0-9A-F]|7F)", re.ASCII | re.IGNORECASE)
_NAT64 = IPv6Network("64:ff9b::/96")
_STEERING = frozenset("./\\;%")
"""Characters by which a server may come to another path than the one that is written."""


class AddressError(ValueError):
    """A text is no address that everyone reads alike; the message says why."""


@dataclass(frozen=True, slots=True)
class Url:
    """An http or https address. `str` gives it back in its one spelling."""

    scheme: str
    host: str
    """Lower case; an IPv6 address without its brackets."""
    port: int
    path: str
    """Begins with a slash; still escaped."""
    query: str | None = None

    @property
    def authority(self) -> str:
        """Host and port, as in a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"{self.scheme}://{self.authority}"

    @property
    def target(self) -> str:
        """What the server is asked for: path and query."""
        return self.path if self.query is None else f"{self.path}?{self.query}"

    @property
    def literal(self) -> Address | None:
        """The host as an address, where it is no name."""
        return literal_of(self.host)

    def __str__(self) -> str:
        """Return the whole address."""
        return self.origin + self.target


@dataclass(frozen=True, slots=True)
class Grant:
    """A part of the web that may be read: one scheme, host and port, and a path with all below it."""

    url: Url
    at: tuple[AnyNetwork, ...] = ()
    """Inner networks in which the host may lie, beside the public ones."""

    def covers(self, url: Url) -> bool:
        """Say whether an address lies within."""
        mine = self.url
        if (url.scheme, url.host, url.port) != (mine.scheme, mine.host, mine.port):
            return False
        within = mine.path.rstrip("/")
        return not within or (_steady(url.path) and (url.path == within or url.path.startswith(f"{within}/")))

    def admits(self, address: Address) -> bool:
        """Say whether the host may be reached at an address."""
        if address in METADATA:
            return False
        return address == self.url.literal or is_public(address) or any(address in network for network in self.at)


def parse_url(text: str) -> Url:
    """Return what a text means. Raises AddressError."""
    if len(text) > _LENGTH:
        raise AddressError(f"it has {len(text)} characters, at most {_LENGTH} are taken")
    odd = _ODD.search(text)
    if odd:
        host = "" if odd[0].isascii() else "; a host is written in its ASCII form, xn--..."
        raise AddressError(f"the character {odd[0]!a} has to be escaped, as urllib.parse.quote does{host}")
    parts = _PARTS.fullmatch(text)
    if parts is None or parts[1].lower() not in PORTS:
        raise AddressError("it must begin with https://HOST or http://HOST")
    scheme = parts[1].lower()
    host, port = _host_and_port(parts[2], PORTS[scheme])
    return Url(scheme, host, port, _path(parts[3] or "/"), _query(parts[4]))


def literal_of(host: str) -> Address | None:
    """Return a host as an address, or None where it is a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def is_public(address: Address) -> bool:
    """Say whether an address is one of the open internet, seen through every form that wraps another address."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def _host_and_port(authority: str, default: int) -> tuple[str, int]:
    if "@" in authority:
        raise AddressError("it holds a user name or a password before @")
    host, port = authority.lower(), default
    end = host.rfind("]") if host.startswith("[") else host.find(":") - 1
    if end >= 0 and host[end + 1 :]:
        found = _PORT.fullmatch(host[end + 1 :])
        if found is None or int(found[1]) > 65535:
            raise AddressError(f"{host[end + 1 :]} is no port from :1 to :65535")
        host, port = host[: end + 1], int(found[1])
    return (_bracketed(host) if host.startswith("[") else _name(host)), port


def _bracketed(host: str) -> str:
    try:
        return IPv6Address(host[1:-1] if host.endswith("]") and "%" not in host else "").compressed
    except ValueError:
        raise AddressError(f"{host} is no IPv6 address in brackets") from None


def _name(host: str) -> str:
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise AddressError(f"{host} is no IPv4 address of four plain numbers") from None
    if not host:
        raise AddressError("the host is missing")
    if host.endswith("."):
        raise AddressError(f"drop the dot at the end of {host}")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise AddressError(f"{host[:80]} is no host name of ASCII letters, digits, hyphens and dots")
    return host


def _path(path: str) -> str:
    if "[" in path or "]" in path:
        raise AddressError("brackets in a path have to be escaped, as urllib.parse.quote does")
    if _BAD_ESCAPE.search(path) or _CONTROL_ESCAPE.search(path):
        raise AddressError("its path holds a broken escape, or one of a control character")
    if any(re.sub("%2e", ".", segment, flags=re.IGNORECASE) in (".", "..") for segment in path.split("/")):
        raise AddressError("its path holds . or .. as a segment")
    return path


def _query(query: str | None) -> str | None:
    if query is not None and _BAD_ESCAPE.search(query):
        raise AddressError("its query holds a broken escape")
    return query


def _steady(path: str) -> bool:
    """Say whether no server can come from a path to one that does not begin as it does."""
    try:
        plain = unquote(path, errors="strict")
    except UnicodeDecodeError:
        return False
    hidden = {char for escape in re.findall("(?:%[0-9A-Fa-f]{2})+", path) for char in unquote(escape)}
    folded = {part for char in hidden for part in unicodedata.normalize("NFKC", char)}
    return ";" not in plain and not folded & _STEERING
