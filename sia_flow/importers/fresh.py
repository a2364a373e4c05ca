"""A new task of the user's own, laid out so that it runs as it is; and the list of what a project has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sia_flow.errors import TaskError
from sia_flow.files import write_atomic
from sia_flow.importers.layout import NAME, TEMPLATES
from sia_flow.verify.task import load_task, task_names


def lay_new(name: str, root: Path) -> Path:
    """Write tasks/NAME and specs/NAME.yaml and return the task's folder. Raises TaskError where they are there."""
    if not NAME.fullmatch(name):
        raise TaskError(f"{name!r} cannot name a task; give lower-case letters and digits, a letter first")
    folder, spec = root / "tasks" / name, root / "specs" / f"{name}.yaml"
    for path in (folder, spec):
        if path.exists():
            raise TaskError(f"{path} is there already; give another name")
    for template in sorted((TEMPLATES / "new").rglob("*.txt")):
        inside = template.relative_to(TEMPLATES / "new").with_suffix("")
        text = template.read_text(encoding="utf-8").replace("@NAME", name)
        write_atomic(spec if inside.name == "spec.yaml" else folder / inside, text.encode(), sync=False)
    return folder


def describe_tasks(root: Path) -> list[dict[str, Any]]:
    """Return what a project's tasks are, one object each; of one that cannot be read, the problem."""
    rows: list[dict[str, Any]] = []
    for name in task_names(root):
        try:
            manifest = load_task(root, name).manifest
        except TaskError as error:
            rows.append({"name": name, "problem": str(error)})
            continue
        rows.append(
            {
                "name": name,
                "title": manifest.title,
                "answer": manifest.answer.type,
                "metric": manifest.metric.name,
                "data": sorted(manifest.data_sets),
                "from": _origin(root / "tasks" / name / "origin.json"),
            }
        )
    return rows


def _origin(path: Path) -> str:
    return f"taken over from {json.loads(path.read_bytes())['kind']}" if path.is_file() else "of this project"
