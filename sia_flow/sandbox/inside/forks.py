"""Imports what the standard library would tidy up in each fork, and leaves the tidying out. To be imported first.

`threading` makes its locks anew and `random` seeds itself, which costs a fork more than its own making. The zygote has
one thread and holds no lock when it forks, and a job seeds `random` itself. Invariant: no other module's hook is lost.
"""

from __future__ import annotations

import os
from collections.abc import Callable


def _import_without_hooks() -> None:
    register: Callable[..., None] = os.register_at_fork
    os.register_at_fork = lambda **_hooks: None
    try:
        import random
        import threading

        del random, threading
    finally:
        os.register_at_fork = register


_import_without_hooks()
