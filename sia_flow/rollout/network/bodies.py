"""Turns what a server sends into text: unpacked within bounds, decoded strictly, without control characters.

Invariant: no more than the limit is ever held, packed or unpacked.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping

from sia_flow.rollout.requests import RefusedRequest

LIMIT = 1 << 20
"""Bytes of a body, unpacked."""
_CHARSET = re.compile(r"""charset\s*=\s*["']?([A-Za-z0-9_-]+)""", re.IGNORECASE)
_CODECS = {
    "utf-8": "utf-8-sig",
    "utf8": "utf-8-sig",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "windows-1252": "cp1252",
    "utf-16": "utf-16",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
}
_CONTROLS = {code: 0xFFFD for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n\r"}


class BrokenBodyError(Exception):
    """A body does not end, or not as it says; worth another try."""


def read_body(chunks: Iterable[bytes], headers: Mapping[str, str]) -> bytes:
    """Return a body, unpacked. Raises RefusedRequest for one that is too large, BrokenBodyError."""
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity", "gzip", "x-gzip"):
        raise RefusedRequest(f"the answer is packed as {coding[:40]!a}, only gzip is read")
    unpacker = zlib.decompressobj(wbits=31) if coding.endswith("gzip") else None
    body = bytearray()
    for chunk in chunks:
        try:
            body += unpacker.decompress(chunk, LIMIT + 1 - len(body)) if unpacker else chunk
        except zlib.error as error:
            raise BrokenBodyError(f"its body cannot be unpacked: {error}") from error
        if len(body) > LIMIT:
            raise RefusedRequest(f"the answer has more than {LIMIT} bytes; ask for a smaller one, or by a range header")
        if unpacker is not None and unpacker.eof:
            break
    if unpacker is not None and not unpacker.eof and body:
        raise BrokenBodyError("its body ends too early")
    return bytes(body)


def read_text(body: bytes, kind: str) -> str:
    """Return a body as text, control characters replaced. Raises RefusedRequest where it is none."""
    named = _CHARSET.search(kind)
    codec = _CODECS.get(named[1].lower() if named else "utf-8")
    try:
        text = body.decode(codec) if codec else None
    except UnicodeDecodeError:
        text = None
    if text is None:
        raise RefusedRequest(f"the answer is no text that can be read (content-type {kind[:100]!a})")
    return text.translate(_CONTROLS)
