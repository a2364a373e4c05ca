"""Writes the folders of small tasks."""

from __future__ import annotations

from pathlib import Path

from sia_flow.verify.task import Task, load_task


def write_task(root: Path, name: str, manifest: str, verifier: str) -> Task:
    """Write a task of the project at `root` and load it."""
    folder = root / "tasks" / name
    folder.mkdir(parents=True)
    (folder / "task.yaml").write_text(manifest)
    (folder / "verifier.py").write_text(verifier)
    (folder / "task.md").write_text(name)
    return load_task(root, name)
