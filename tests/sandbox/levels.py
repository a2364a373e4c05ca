"""Which backends a test run must find: one that is expected here and missing is a failure, never a quiet skip."""

from __future__ import annotations

import os

import pytest

from sia_flow.errors import IsolationError
from sia_flow.sandbox import open_sandbox
from sia_flow.sandbox.backends import KNOWN, PODMAN
from sia_flow.sandbox.open import WarmSandbox

EXPECTED = "SIA_FLOW_EXPECT_LEVEL"
"""Level that this machine must reach; `.ci/run` sets it."""
PODMAN_EXPECTED = "SIA_FLOW_EXPECT_PODMAN"
"""Set where podman must hold, which no level asks of a machine."""


def sandbox_or_skip(backend: str) -> WarmSandbox:
    """Return a backend's sandbox; skip where the machine lacks it, fail where it is expected to have it."""
    try:
        return open_sandbox(prefer=backend)
    except IsolationError as error:
        if _expected(backend):
            pytest.fail(f"{backend} is expected and does not hold here: {error}", pytrace=False)
        pytest.skip(f"no {backend} here: {error}")


def _expected(backend: str) -> bool:
    if backend == PODMAN.name:
        return PODMAN_EXPECTED in os.environ
    level = next(one.level for one in KNOWN if one.name == backend)
    return level <= int(os.environ.get(EXPECTED, "0"))
