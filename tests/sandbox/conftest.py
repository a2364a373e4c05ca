"""Sessions on every backend of this machine; one that it lacks is skipped with the reason printed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sia_flow.sandbox.open import WarmSandbox
from sia_flow.sandbox.session import WarmSession
from tests.sandbox.jobs import IMAGE
from tests.sandbox.levels import sandbox_or_skip


@pytest.fixture(scope="session", params=["bubblewrap", "podman", "landlock"])
def sandbox(request: pytest.FixtureRequest) -> WarmSandbox:
    backend: str = request.param
    return sandbox_or_skip(backend)


@pytest.fixture(scope="session")
def session(sandbox: WarmSandbox) -> Iterator[WarmSession]:
    with sandbox.open(IMAGE, workers=2) as opened:
        yield opened
