"""What may be told of an instance's private part to somebody who must not see it: a digest, and what leaks.

Invariant: nothing here says what a private array holds.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

import numpy as np

from sia_flow.protocols import Instance


class Audit(NamedTuple):
    """What was found about one instance."""

    digest: str
    """Of all of it, private arrays included."""
    leaks: tuple[str, ...]
    """Names of the private arrays that stand among the public ones too."""


def audit(instance: Instance) -> Audit:
    """Return the audit of an instance that has its private part."""
    shown = [array_digest(array) for array in instance.arrays.values()]
    held = {name: array_digest(array) for name, array in instance.private.items()}
    public = dict(instance.public)
    text = json.dumps([[instance.id, *shown, *held.values()], public], sort_keys=True, default=str)
    leaks = tuple(name for name, digest in held.items() if digest in shown)
    return Audit(text_digest(text), leaks)


def array_digest(array: Any) -> str:
    """Return the SHA-256 of an array's numbers and form."""
    plain = np.ascontiguousarray(array)
    return hashlib.sha256(plain.tobytes() + str((plain.shape, plain.dtype)).encode()).hexdigest()


def text_digest(text: str) -> str:
    """Return the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()
