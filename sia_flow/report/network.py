"""What a reader of scores has to know where scaffolds could read services of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def network_notice(urls: Sequence[str]) -> str:
    """Return the notice for addresses that were granted; empty where there are none."""
    if not urls:
        return ""
    return (
        f"Scaffolds may read {', '.join(urls)} through the host, on every split: what is known there is not held back "
        "from them, answers of the sealed split included, and whatever they ask reaches these services."
    )


def network_of(resolved: Mapping[str, Any]) -> list[str]:
    """Return the addresses that a resolved spec grants."""
    return [str(entry["url"]) for entry in resolved.get("spec", {}).get("sandbox", {}).get("network", ())]
