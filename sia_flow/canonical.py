"""One spelling for every value that is hashed: sorted keys, no spaces, finite numbers, UTF-8.

Invariant: equal values give equal bytes on every machine and in every process.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]


def canonical_json(value: Json) -> bytes:
    """Return the canonical JSON of `value`. Raises ValueError for NaN and infinities."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def digest(value: Json) -> str:
    """Return the SHA-256 of the canonical JSON of `value`, as 64 hex digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def digest_bytes(data: bytes) -> str:
    """Return the SHA-256 of raw bytes, as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def derive_seed(*parts: Json) -> int:
    """Return a 63-bit seed that depends on every part: one stream for each (run seed, step, iteration, row)."""
    return int(digest(list(parts))[:16], 16) >> 1
