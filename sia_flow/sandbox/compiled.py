"""Source compiled on the host, once for all the jobs that run it.

Invariant: code objects cross into the sandbox and never come back; the host compiles a text and runs none of it.
"""

from __future__ import annotations

import base64
import functools
import marshal
import warnings

LARGEST = 1 << 16
"""Characters of a text that the host compiles; longer ones are the job's own trouble."""


@functools.lru_cache(maxsize=1024)
def compiled(name: str, text: str) -> str | None:
    """Return the marshalled code of a module in base64; None where the job has to find out what is wrong with it."""
    if len(text) > LARGEST:
        return None
    try:
        with warnings.catch_warnings(action="ignore"):
            code = compile(text, f"{name}.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        return None
    return base64.b64encode(marshal.dumps(code)).decode("ascii")
