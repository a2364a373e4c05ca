from __future__ import annotations

from pathlib import Path

import pytest

from tasks.denoise.data import prepare
from tasks.denoise.synthetic import Recipe
from tasks.denoise.verifier import DenoiseVerifier


@pytest.fixture(scope="session")
def pbmc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pbmc")
    prepare("pbmc", folder)
    return folder


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    prepare("synthetic", folder, Recipe(cells=140, genes=200, groups=3, library=600))
    return folder


@pytest.fixture(scope="session")
def guarded(pbmc: Path) -> DenoiseVerifier:
    return DenoiseVerifier("guarded", pbmc)
