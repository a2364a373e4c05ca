"""What an importer found, and how it is laid out as a task: tasks/NAME, data/NAME/imported and specs/NAME.yaml.

Invariant: nothing that exists is overwritten, and answers go into the data folder alone, which is never committed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sia_flow.errors import TaskError
from sia_flow.files import write_atomic

TEMPLATES = Path(__file__).parent / "templates"
DATA = "imported"
NAME = re.compile(r"[a-z][a-z0-9]*")
"""A folder of tasks/, a Python module and a name in specs, which agree on this."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A task of another system, read."""

    kind: str
    name: str
    title: str
    description: str
    verifier: str
    """`module:Class` of sia_flow.foreign that the task's verifier derives from."""
    settings: Mapping[str, Any]
    """Class attributes of the verifier."""
    meta: Mapping[str, Any]
    shape: str
    """`rows`, `program` or `table`: which scaffold and corpus it gets."""
    foreign: Mapping[str, bytes] = field(default_factory=dict)
    """The evaluator's files."""
    data: Mapping[str, bytes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What the user should know."""


def lay_out(found: Imported, root: Path) -> Path:
    """Write an imported task into a project and return its folder. Raises TaskError where it is there already."""
    folder, data, spec = (
        root / "tasks" / found.name,
        root / "data" / found.name / DATA,
        root / "specs" / f"{found.name}.yaml",
    )
    for path in (folder, data, spec):
        if path.exists():
            raise TaskError(f"{path} is there already; remove it, or give another --name")
    meta = {"schema": "sia-flow/imported@1", "name": found.name, "kind": found.kind, **found.meta}
    packed = json.dumps(meta, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"
    for name, content in found.foreign.items():
        write_atomic(folder / "foreign" / name, content, sync=False)
    for name, content in found.data.items():
        write_atomic(data / name, content, sync=False)
    write_atomic(data / "meta.json", packed, sync=False)
    for name, text in _sources(found).items():
        write_atomic(folder / name, text.encode(), sync=False)
    write_atomic(spec, _fill("spec.yaml", found).encode(), sync=False)
    return folder


def task_name(given: str | None, path: Path) -> str:
    """Return a name for the task: as given, or made from the path's. Raises TaskError where it is none."""
    name = given or re.sub(r"[^a-z0-9]", "", path.stem.lower())
    name = f"task{name}" if name[:1].isdigit() else name
    if not NAME.fullmatch(name):
        raise TaskError(f"{name!r} cannot name a task; give --name with lower-case letters and digits, a letter first")
    return name


def _sources(found: Imported) -> dict[str, str]:
    module, _, base = found.verifier.partition(":")
    packages = tuple(found.settings.get("packages", ()))
    lines = [f"    {name} = {value!r}" for name, value in {**found.settings, "packages": packages}.items()]
    verifier = _fill("verifier.py", found).replace("@MODULE", module).replace("@BASE", base)
    return {
        "task.yaml": _fill("task.yaml", found),
        "task.md": found.description.rstrip() + "\n",
        "verifier.py": verifier.replace("@SETTINGS", "\n".join(lines)),
        "data.py": _fill("data.py", found),
        "corpus.py": _fill(f"corpus_{found.shape}.py", found),
        "scaffold/scaffold.py": _fill(f"scaffold_{found.shape}.py", found),
        "origin.json": json.dumps({"kind": found.kind, "notes": list(found.notes)}, indent=1) + "\n",
    }


def _fill(template: str, found: Imported) -> str:
    text = (TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")
    values = {
        "@NAME": found.name,
        "@TITLE": json.dumps(found.title, ensure_ascii=False),
        "@KIND": found.kind,
        "@METRIC": json.dumps(str(found.settings.get("metric", "accuracy"))),
        "@META": json.dumps(json.dumps(dict(found.meta))) if found.shape == "program" else '""',
        "@LABELS": repr(list(found.meta.get("labels") or ["unknown"])[:400]),
    }
    for key in sorted(values, key=len, reverse=True):
        text = text.replace(key, values[key])
    return text
