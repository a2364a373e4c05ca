"""The Prefect API server of a run: the user's own where one is set, else a private one on the state folder.

Invariants: the private server listens on loopback only, on a socket that was bound before it started, so
that no port can be lost in between; it never outlives the process that started it. Prefect is not imported
here.
"""

from __future__ import annotations

import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from sia_flow.errors import InfrastructureError
from sia_flow.track.database import FirstStart
from sia_flow.track.environment import profile_server, quiet_environment
from sia_flow.track.service import Service

HOST = "127.0.0.1"
UVICORN = (
    *("--factory", "prefect.server.api.server:create_app"),
    *("--log-level", "warning", "--lifespan", "on", "--timeout-graceful-shutdown", "3"),
)
REACH_ATTEMPTS = 3
DATABASE = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")


class PrefectServer:
    """Gives a usable Prefect API for as long as the `with` block lasts.

    `state_dir` keeps the database (`prefect/prefect.db`) and the log; `port` 0 takes a free one; `full` runs
    Prefect's scheduler and the UI as well, which a single run does not need.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        port: int = 0,
        full: bool = False,
        timeout: float = 120.0,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._home = state_dir.resolve() / "prefect"
        self._environ = dict(os.environ if environ is None else environ)
        self._quiet = quiet_environment(state_dir, self._environ)
        self._timeout = timeout
        self._full = full
        self._port = port
        self._service: Service | None = None
        self._first = FirstStart(self._home)
        self._url = "" if full else profile_server(self._environ).get("PREFECT_API_URL", "")
        self.private = not self._url
        """Whether the server is ours to start and stop."""

    def start_async(self) -> None:
        """Start the private server, if one is needed, and return at once."""
        if self.private and self._service is None and self._first.enter():
            self._start()

    def _start(self) -> None:
        with _listen(self._port) as listener:
            self._url = f"http://{HOST}:{listener.getsockname()[1]}/api"
            service = Service("Prefect server", f"{self._url}/health", self._home / "server.log")
            service.start(
                "uvicorn",
                [*UVICORN, "--fd", str(listener.fileno())],
                self._server_environ(),
                [listener.fileno()],
            )
            self._service = service

    def wait(self) -> str:
        """Return the API's URL once the server answers. Raises InfrastructureError when it does not."""
        if self.private and self._service is None:
            self._first.enter(self._timeout)
            self._start()
        if self._service is not None:
            self._service.wait(self._timeout)
            self._first.done()
        return self._url

    def reach(self) -> str:
        """Return the API's URL after it has answered, whoever's server it is. Raises InfrastructureError."""
        url = self.wait()
        if not self.private:
            _require_answer(url, self._environ)
        return url

    def variables(self) -> dict[str, str]:
        """Return the environment under which Prefect in this process uses the server."""
        return self._quiet | ({"PREFECT_API_URL": self._url} if self._url else {})

    def stop(self) -> None:
        """End the private server; the user's own is left alone."""
        if self._service is not None:
            self._service.stop()
            self._service = None
            self._url = ""
        self._first.leave()

    @property
    def pid(self) -> int | None:
        """Process id of the private server, while it runs."""
        return self._service.pid if self._service else None

    @property
    def running(self) -> bool:
        """Whether the private server was started and has not ended."""
        return self._service is not None and self._service.running

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self.stop)
            self.wait()
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _server_environ(self) -> dict[str, str]:
        own = {"PREFECT_API_URL": self._url, "PREFECT__SERVER_FINAL": "1", "PREFECT_UI_ENABLED": "true"}
        if not self._full:
            # Nobody sees its pages, so it needs none of the blocks that they offer.
            own |= {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT_UI_ENABLED": "false"}
            own["PREFECT_SERVER_REGISTER_BLOCKS_ON_START"] = "false"
        if not any(name in self._environ for name in DATABASE):
            own[DATABASE[0]] = f"sqlite+aiosqlite:///{self._home / 'prefect.db'}"
        return self._environ | self._quiet | own


def _require_answer(url: str, environ: Mapping[str, str]) -> None:
    for left in range(REACH_ATTEMPTS - 1, -1, -1):
        try:
            with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=10):  # noqa: S310 - the user's own URL
                return
        except urllib.error.HTTPError:
            # It answers; whether it lets us in is between it and Prefect.
            return
        except (urllib.error.URLError, OSError, ValueError) as error:
            if not left:
                source = "PREFECT_API_URL" if environ.get("PREFECT_API_URL") else "the active Prefect profile"
                reason = getattr(error, "reason", error)
                raise InfrastructureError(
                    f"{url}, which {source} names, does not answer: {reason}; start it or unset {source}"
                ) from error
        time.sleep(0.5)


@contextmanager
def _listen(port: int) -> Iterator[socket.socket]:
    """Yield a socket bound to loopback; our copy is closed afterwards."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            raise InfrastructureError(f"port {port} on {HOST} cannot be used: {error.strerror}") from error
        yield listener
    finally:
        listener.close()
