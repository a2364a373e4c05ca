"""OpenEvolve and ShinkaEvolve: an evaluator, and a program to begin with between EVOLVE-BLOCK marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sia_flow.errors import TaskError
from sia_flow.importers.layout import Imported, task_name
from sia_flow.importers.packages import imported_packages, missing_note

LARGEST = 1 << 20
SKIPPED = {".git", "__pycache__", "results", "openevolve_output", "node_modules"}
FILES = {"openevolve": ("evaluator.py", "evaluate.py"), "shinka": ("evaluate.py",)}
SEEDS = {"openevolve": ("initial_program.py",), "shinka": ("initial.py", "initial_program.py")}
CALLS = {"openevolve": "def evaluate(", "shinka": "--program_path"}


def read_evolve(kind: str, path: Path, name: str | None, seed: str | None, metric: str | None) -> Imported:
    """Read an evaluator's folder, or the evaluator itself. Raises TaskError that says what is missing."""
    folder = path if path.is_dir() else path.parent
    evaluator = path if path.is_file() else _pick(folder, FILES[kind], "evaluator")
    program = folder / seed if seed else _pick(folder, SEEDS[kind], "program to begin with (--seed FILE)")
    text = _text(evaluator)
    if CALLS[kind] not in text:
        raise TaskError(f"{evaluator} is no evaluator of {kind}: it has no {CALLS[kind]!r}")
    files = read_files(folder)
    packages, missing = imported_packages(files)
    what = task_name(name, folder)
    readme = next((_text(p) for p in (folder / "README.md",) if p.is_file()), f"# {what}\n")
    start = _text(program)
    return Imported(
        kind=kind,
        name=what,
        title=what.replace("_", " "),
        description=f"{readme}\n\n## The program to begin with\n```python\n{start}\n```",
        verifier="sia_flow.foreign.programs:EvaluatorVerifier",
        settings={"kind": kind, "file": evaluator.name, "packages": packages, "metric": metric or "combined_score"},
        meta={"program": start, "labels": []},
        shape="program",
        foreign=files,
        notes=(
            *missing_note(missing),
            f"a program can forge its score, by the contract of {kind}: it shares a process with the evaluator",
        ),
    )


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the small files of a folder by path; results and large files are left out. Raises TaskError."""
    found = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if not path.is_file() or path.is_symlink() or SKIPPED & set(inside.parts):
            continue
        if path.stat().st_size <= LARGEST and path.suffix != ".ipynb":
            found[inside.as_posix()] = path.read_bytes()
    if not found:
        raise TaskError(f"{folder} holds no file that could be imported")
    return found


def _pick(folder: Path, names: Sequence[str], what: str) -> Path:
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise TaskError(f"{folder} has no {what}; looked for {', '.join(names)}")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path} cannot be read: {error}") from error
