"""A folder of spec files, and the smallest valid one."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

MINIMAL = "metadata: {name: one}\nspec: {task: {name: denoise}}\n"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a spec file into an empty working folder and return its relative path."""
    monkeypatch.chdir(tmp_path)

    def write_file(text: str = MINIMAL, name: str = "spec.yaml") -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write_file
