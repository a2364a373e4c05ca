"""Rows of CSV and JSON files, read strictly."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from sia_flow.errors import TaskError

Row = dict[str, Any]
IDS = ("id", "question_id", "qid")


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a CSV, JSON or JSON-lines file; of a JSON object, one row a key. Raises TaskError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".csv":
            rows = _csv(path, text)
        elif path.suffix == ".jsonl":
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            found = json.loads(text)
            rows = found if isinstance(found, list) else [{"id": k, "answer": v} for k, v in found.items()]
    except (OSError, ValueError, AttributeError) as error:
        raise TaskError(f"{path} cannot be read as {path.suffix or 'a table'}: {error}") from error
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise TaskError(f"{path} holds no rows")
    return rows


def id_column(rows: list[Row], path: Path) -> str:
    """Return the column that names a row: a usual name, or the first one that is unique. Raises TaskError."""
    columns = [*(name for name in IDS if name in rows[0]), *rows[0]]
    for name in columns:
        values = [str(row.get(name)) for row in rows]
        if len(set(values)) == len(values):
            return name
    raise TaskError(f"{path}: no column is different in every row; a column of ids is needed, without duplicates")


def spell(value: Any) -> str:
    """Return a value as answers are spelt: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _csv(path: Path, text: str) -> list[Row]:
    csv.field_size_limit(1 << 24)
    reader = csv.DictReader(io.StringIO(text, newline=""))
    rows = [dict(row) for row in reader]
    if any(None in row or None in row.values() for row in rows):
        raise TaskError(f"{path}: a row has not as many fields as the header")
    return rows
