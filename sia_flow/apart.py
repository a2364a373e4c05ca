"""Processes in a session of their own, which a terminal's Ctrl-C does not reach: it is the host's to handle.

Invariant: that holds from their first moment. Between its fork and its new session a child still belongs to the
terminal's group, with no handler left, and a Ctrl-C at that moment would kill it; so it is born with the signal held
back, and lets it through, dropping what came, when its program begins (`let_through`).
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from typing import Any


def start_apart(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own; `options` are those of `subprocess.Popen`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen(command, start_new_session=True, **options)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_through() -> None:
    """Be open to SIGINT from now on; what came before was the host's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGINT, signal.default_int_handler)
