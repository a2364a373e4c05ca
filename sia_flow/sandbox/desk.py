"""Answers scaffolds' calls one at a time, each in a thread, for hosts that mostly wait for a server.

Invariant: an answer that was begun is waited for, and handed out once; so what was paid for is never lost.
"""

from __future__ import annotations

import contextlib
import queue
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

from sia_flow.protocols import Call

Serve = Callable[[Sequence[Call]], Sequence[Any]]


class Desk:
    """Takes calls from one thread and works on several of them at a time."""

    def __init__(self, serve: Serve, threads: int) -> None:
        """Open a desk; `serve` is called with one call at a time, from up to `threads` threads."""
        self._serve = serve
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="answer")
        self._done: queue.SimpleQueue[tuple[Call, Future[Sequence[Any]]]] = queue.SimpleQueue()
        self.bell, self._ring = socket.socketpair()
        """Readable when there are answers."""
        self.bell.setblocking(False)
        self._ring.setblocking(False)

    def ask(self, call: Call) -> None:
        """Begin with a call."""
        self._pool.submit(self._serve, [call]).add_done_callback(lambda future: self._tell(call, future))

    def answers(self) -> Iterator[tuple[Call, Any]]:
        """Yield what is answered by now, as (call, answer). Raises what `serve` raised."""
        with contextlib.suppress(BlockingIOError):
            self.bell.recv(1 << 16)
        while not self._done.empty():
            call, future = self._done.get()
            (answer,) = future.result()
            yield call, answer

    def close(self) -> list[tuple[Call, Any]]:
        """Begin nothing any more, wait for what has begun, and return what of it was answered."""
        self._pool.shutdown(cancel_futures=True)
        found = []
        while not self._done.empty():
            call, future = self._done.get()
            with contextlib.suppress(CancelledError, Exception):
                found.append((call, future.result()[0]))
        self.bell.close()
        self._ring.close()
        return found

    def _tell(self, call: Call, future: Future[Sequence[Any]]) -> None:
        self._done.put((call, future))
        # A full pipe rings already.
        with contextlib.suppress(BlockingIOError):
            self._ring.send(b"\0")
