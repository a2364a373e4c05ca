"""The name of exact weights: the base's digest, with the adapter's where there is one."""

from __future__ import annotations

DIGITS = 16
"""Hex digits of a digest that a version shows."""


def version_of(base: str, adapter: str | None = None) -> str:
    """Return the version of a base's digest and an adapter's."""
    return base[:DIGITS] if adapter is None else f"{base[:DIGITS]}+{adapter[:DIGITS]}"
