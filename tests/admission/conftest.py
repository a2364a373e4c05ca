from __future__ import annotations

from pathlib import Path

import pytest

from sia_flow.importers.fresh import lay_new


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("tasks", "flows", "specs"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def task(project: Path) -> Path:
    return lay_new("curves", project)
