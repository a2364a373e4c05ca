"""Text for a terminal: what was read from a file, a model or a candidate cannot steer it."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return the text with every control character but the newline escaped."""
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)
