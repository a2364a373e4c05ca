"""Messages between the process that runs an experiment and its workers: one JSON object a line, over a socket.

Invariant: nobody is listened to who has not said the run's secret first; no message is code.
"""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sia_flow.errors import InfrastructureError

Message = Mapping[str, Any]
LONGEST = 64 << 20
"""Bytes of a message; an arm's result has some kilobytes."""
PATIENCE = 30.0
"""Seconds that a worker tries to reach the process that runs the experiment."""
SILENCE = 30
"""Seconds after which a machine that answers nothing, not even to the kernel, is taken for lost."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the process that runs the experiment listens: a path on this machine, or host and port."""

    host: str
    port: int | None = None
    secret: str = field(default="", repr=False)

    def call(self) -> Line:
        """Return a line to it. Raises InfrastructureError."""
        try:
            if self.port is None:
                made = socket.socket(socket.AF_UNIX)
                made.connect(self.host)
            else:
                made = socket.create_connection((self.host, self.port), timeout=PATIENCE)
                _watch(made)
        except OSError as error:
            raise InfrastructureError(f"a worker cannot reach the experiment at {self.host}: {error}") from error
        made.settimeout(None)
        return Line(made)


class Line:
    """One connection."""

    def __init__(self, made: socket.socket) -> None:
        self._socket = made
        self._rest = b""

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._socket.fileno()

    def send(self, message: Message) -> bool:
        """Send a message; False where nobody is there any more."""
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return False
        return True

    def take(self) -> list[Message] | None:
        """Wait for data and return the messages that it completes; None where the other side has hung up."""
        try:
            data = self._socket.recv(1 << 16)
        except OSError:
            return None
        if not data or len(self._rest) > LONGEST:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        try:
            return [json.loads(line) for line in lines]
        except ValueError:
            return None

    def messages(self) -> Iterator[Message]:
        """Yield messages until the other side hangs up."""
        while (found := self.take()) is not None:
            yield from found

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Door:
    """Where workers knock. A context manager.

    `host` is the name or number under which other machines reach this one; None: workers are on this machine alone.
    """

    def __init__(self, host: str | None = None) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        secret = secrets.token_hex(32)
        if host is None:
            self._folder = tempfile.TemporaryDirectory(prefix="sia-flow-")
            path = str(Path(self._folder.name) / "door")
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.bind(path)
            self.address = Address(path, None, secret)
        else:
            self._socket = socket.create_server(("", 0))
            self.address = Address(host, self._socket.getsockname()[1], secret)
        self._socket.listen(128)

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._socket.fileno()

    def open(self) -> Line:
        """Return the line to whoever knocks."""
        made = self._socket.accept()[0]
        if self._folder is None:
            _watch(made)
        return Line(made)

    def knows(self, message: Message) -> bool:
        """Say whether a first message holds the secret."""
        return hmac.compare_digest(str(message.get("secret", "")).encode(), self.address.secret.encode())

    def close(self) -> None:
        """Let nobody in any more."""
        self._socket.close()
        if self._folder is not None:
            self._folder.cleanup()


def _watch(made: socket.socket) -> None:
    """Have the kernel hang up when the other machine is gone: without power or network it says no goodbye."""
    step = max(1, SILENCE // 3)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", step),
        ("TCP_KEEPALIVE", step),  # the same on macOS
        ("TCP_KEEPINTVL", step),
        ("TCP_KEEPCNT", 2),
        ("TCP_USER_TIMEOUT", 1000 * SILENCE),  # the same for what was sent and is not acknowledged
    ):
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def own_address(towards: str) -> str:
    """Return the number of this machine on its way to another one. Raises InfrastructureError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: the kernel only looks up the way.
            probe.connect((towards, 9))
        except OSError as error:
            raise InfrastructureError(f"there is no way to {towards}: {error}") from error
        return str(probe.getsockname()[0])
