"""One GET for a scaffold: within the grants, redirects included, tried again where the service fails.

Invariants: no request is made that no grant covers; nothing of this machine goes with it: no cookie, no key, no netrc,
and no proxy of the environment is asked.
"""

from __future__ import annotations

import email.utils
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from urllib.parse import urljoin

import httpcore

from sia_flow import __version__
from sia_flow.addresses import AddressError, Grant, Url, parse_url
from sia_flow.rollout.network import AT_ONCE
from sia_flow.rollout.network.answers import Page
from sia_flow.rollout.network.bodies import BrokenBodyError, read_body, read_text
from sia_flow.rollout.network.sockets import Deadline, Gate, Resolve, resolve_here
from sia_flow.rollout.requests import RefusedRequest

SECONDS = 20.0
"""For one call of a scaffold, with all redirects and all tries."""
REDIRECTS = 5
TRIES = 3
PAUSE = 0.5
SHOWN = ("content-type", "content-language", "content-range", "etag", "last-modified", "link", "retry-after")
"""Headers of an answer that a scaffold sees."""
_MOVED = frozenset({301, 302, 303, 307, 308})
_BUSY = frozenset({408, 425, 429})


class _FaultError(Exception):
    """The service failed, not the request; worth another try, after so many seconds."""

    def __init__(self, words: str, wait: float = 0.0) -> None:
        super().__init__(words)
        self.wait = wait


class Client:
    """Reads what grants cover. Several threads may use one."""

    def __init__(
        self,
        grants: Sequence[Grant],
        warn: Callable[[str], None] = lambda _: None,
        resolve: Resolve = resolve_here,
        tls: ssl.SSLContext | None = None,
        seconds: float = SECONDS,
        pause: float = PAUSE,
    ) -> None:
        """Open nothing yet; `warn` is told once of each service that fails.

        A call takes `seconds` at most; between its tries it waits for `pause` seconds, then for twice as long.
        """
        self.grants = tuple(grants)
        self._warn = warn
        self._resolve = resolve
        self._given = tls
        self._seconds = seconds
        self._pause = pause
        self._free = threading.BoundedSemaphore(AT_ONCE)
        self._lock = threading.Lock()
        self._told: set[str] = set()

    def admit(self, text: str, named: str = "it") -> Url:
        """Return an address that a grant covers. Raises RefusedRequest."""
        try:
            url = parse_url(text)
        except AddressError as error:
            raise RefusedRequest(f"{text[:200]!a} is no address to read: {error}") from error
        if self._grant_of(url) is None:
            known = ", ".join(str(grant.url) for grant in self.grants)
            raise RefusedRequest(f"{str(url)[:200]} is not granted; {named} must lie within {known}")
        return url

    def read(self, url: Url, headers: Mapping[str, str]) -> Page:
        """Return what a service answers. Raises RefusedRequest that says why there is nothing to return."""
        with self._free:
            deadline = Deadline(self._seconds)
            for attempt in range(1, TRIES + 1):
                try:
                    return self._followed(url, headers, deadline)
                except _FaultError as error:
                    fault = error
                wait = max(fault.wait, self._pause * 2 ** (attempt - 1))
                if attempt == TRIES or wait >= deadline.left:
                    break
                time.sleep(wait)
        self._tell(url, fault)
        raise RefusedRequest(f"{url.origin} gave no answer (tries: {attempt}): {fault}")

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return self._given or ssl.create_default_context()

    def _grant_of(self, url: Url) -> Grant | None:
        return next((grant for grant in self.grants if grant.covers(url)), None)

    def _tell(self, url: Url, fault: Exception) -> None:
        with self._lock:
            if url.origin in self._told:
                return
            self._told.add(url.origin)
        self._warn(f"{url.origin}, which scaffolds may read, gave no answer: {fault}; they are told so and go on")

    def _followed(self, url: Url, headers: Mapping[str, str], deadline: Deadline) -> Page:
        for _ in range(REDIRECTS + 1):
            found = self._asked(url, headers, deadline)
            if isinstance(found, Page):
                return found
            url = self.admit(_joined(url, found), "what it redirects to")
        raise RefusedRequest(f"{url.origin} redirects more than {REDIRECTS} times")

    def _asked(self, url: Url, headers: Mapping[str, str], deadline: Deadline) -> Page | str:
        """Return the page, or where the server says that it is."""
        grant = self._grant_of(url)
        assert grant is not None, "admit lets nothing else through"
        try:
            tls = self._tls if url.scheme == "https" else None
            gate = Gate(grant, self._resolve, deadline)
            # A pool of its own for each request: no connection is shared between rollouts.
            with (
                httpcore.ConnectionPool(ssl_context=tls, network_backend=gate) as pool,
                pool.stream("GET", _plain(url), headers=_sent(url, headers)) as response,
            ):
                return _answer(url, response)
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, BrokenBodyError) as error:
            raise _FaultError(" ".join(str(error).split())[:300] or type(error).__name__) from error


def _plain(url: Url) -> httpcore.URL:
    """Return an address in parts, so that nobody parses it again."""
    return httpcore.URL(
        scheme=url.scheme.encode(), host=url.host.encode(), port=url.port, target=url.target.encode("ascii")
    )


def _sent(url: Url, headers: Mapping[str, str]) -> list[tuple[str | bytes, str | bytes]]:
    # A part of what is packed cannot be unpacked.
    packing = "identity" if "range" in headers else "gzip"
    own = {"host": url.authority, "user-agent": f"sia-flow/{__version__}", "accept-encoding": packing}
    return [*{"accept": "*/*", **headers, **own, "connection": "close"}.items()]


def _joined(url: Url, location: str) -> str:
    try:
        return urljoin(str(url), location)
    except ValueError:
        return location


def _answer(url: Url, response: httpcore.Response) -> Page | str:
    found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
    if response.status in _MOVED and "location" in found:
        return found["location"]
    if response.status >= 500 or response.status in _BUSY:
        raise _FaultError(f"it answered {response.status}", _wait_of(found.get("retry-after", "")))
    text = read_text(read_body(response.iter_stream(), found), found.get("content-type", ""))
    shown = {name: _printable(found[name]) for name in SHOWN if name in found}
    return Page(status=response.status, url=str(url), headers=shown, text=text)


def _wait_of(text: str) -> float:
    """Return the seconds that a Retry-After asks for; 0 where it is none."""
    if text.isascii() and text.isdigit():
        return float(text[:6])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)[:1000]
