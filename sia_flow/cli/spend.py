"""What the models of an experiment's agents have taken, by role, from its books alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def spend_by_role(state: Path, experiment: str) -> list[dict[str, Any]]:
    """Return a row for each role and model of an experiment, over all its specs of this name; none without a model."""
    from sia_flow.providers.journal import Journal

    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for path in sorted((state / "spend" / experiment).glob("*.jsonl")):
        for entry in Journal(path).entries():
            key = (entry.account.role, entry.model)
            row = rows.setdefault(key, {"role": key[0], "model": key[1], "calls": 0, "usd": 0.0, "tokens": 0})
            row["calls"] += 1
            row["usd"] += entry.usd
            row["tokens"] += entry.tokens
            row["unsettled"] = row.get("unsettled", 0) + (entry.state in ("open", "lost"))
            row["priced"] = row.get("priced", True) and entry.priced
    return [rows[key] for key in sorted(rows)]


def spend_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the rows as lines."""
    return [f"  {_line(row)}" for row in rows]


def _line(row: dict[str, Any]) -> str:
    usd = f"${row['usd']:.4f}" if row["priced"] else "price not known"
    lost = f", {row['unsettled']} counted as reserved" if row["unsettled"] else ""
    return f"{row['role']}: {row['model']}, {row['calls']} calls, {row['tokens']:,} tokens, {usd}{lost}"
