"""The only place where a connection for a scaffold is opened: resolved once, checked, and bounded in time.

Invariant: the address that is connected to is one that was checked, so that a name which resolves to something else a
moment later gains nothing; nothing takes longer than its deadline, however slowly the other side speaks.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address
from typing import Any

import httpcore

from sia_flow.addresses import Grant
from sia_flow.rollout.requests import RefusedRequest

Resolve = Callable[[str, int], Sequence[str]]
"""Host name and port -> addresses. Raises OSError."""
_ADDRESSES = 4
"""Addresses of a host that are tried."""


class Deadline:
    """A moment that does not move."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until it, at least zero."""
        return max(0.0, self._end - time.monotonic())

    def demand(self) -> float:
        """Return the seconds that are left. Raises httpcore.ReadTimeout where there are none."""
        left = self.left
        if not left:
            raise httpcore.ReadTimeout("it took too long")
        return left


def resolve_here(host: str, port: int) -> list[str]:
    """Return a host's addresses as this machine finds them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Gate(httpcore.NetworkBackend):
    """Opens connections to the host of one grant, where its addresses are admitted."""

    def __init__(self, grant: Grant, resolve: Resolve, deadline: Deadline) -> None:
        self._grant = grant
        self._resolve = resolve
        self._deadline = deadline
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the host at an address that is admitted. Raises RefusedRequest, and httpcore's errors."""
        del timeout, local_address
        fault: Exception = httpcore.ConnectError("it has no address")
        for address in self._admitted(host, port)[:_ADDRESSES]:
            try:
                stream = self._inner.connect_tcp(address, port, self._deadline.demand(), None, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                fault = error
            else:
                return _Bounded(stream, self._deadline)
        raise fault

    def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.NetworkStream:
        """Refuse: no grant names a socket of this machine."""
        raise RefusedRequest("no socket of this machine is granted")

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(min(seconds, self._deadline.left))

    def _admitted(self, host: str, port: int) -> list[str]:
        """Return the host's addresses; one that is not admitted closes all of them."""
        literal = self._grant.url.literal
        if literal is not None:
            return [str(literal)]
        try:
            found = list(self._resolve(host, port))
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"its name cannot be resolved: {error}") from error
        for address in found:
            if not self._grant.admits(ip_address(address.partition("%")[0])):
                raise RefusedRequest(
                    f"{host} resolves to {address}, which is not public and not granted: the user may name it under at"
                )
        return found


class _Bounded(httpcore.NetworkStream):
    """A connection whose every wait ends at one deadline."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read up to so many bytes."""
        del timeout
        return self._inner.read(max_bytes, self._deadline.demand())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write it all."""
        del timeout
        self._inner.write(buffer, self._deadline.demand())

    def close(self) -> None:
        """Close."""
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Go on encrypted; the certificate has to be that of the name, not of the address."""
        del timeout
        return _Bounded(self._inner.start_tls(ssl_context, server_hostname, self._deadline.demand()), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """Say what httpcore asks about the socket."""
        return self._inner.get_extra_info(info)
