"""One worker as a process of its own, for whoever holds its standard input: a task of a cluster.

Invariant: it is gone when that ends, and when whoever runs the experiment does.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading

from sia_flow.apart import let_through
from sia_flow.spread.ticket import Ticket


def _follow() -> None:
    while os.read(0, 1 << 10):
        pass
    os._exit(1)


def main() -> None:
    """Read a ticket, a line, and do its work."""
    let_through()
    ticket = Ticket.from_json(sys.stdin.readline())
    threading.Thread(target=_follow, name="holder", daemon=True).start()
    sys.path.insert(0, str(ticket.root))
    importlib.import_module("flows.worker").work(ticket)


if __name__ == "__main__":
    main()
