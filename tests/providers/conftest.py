"""A scripted server for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.providers.wire import Fault, Request, Say, Script, Wire


@pytest.fixture
def serve() -> Iterator[Callable[..., Wire]]:
    """Start servers; a list of answers is a script that gives them in order, the last one for ever."""
    started: list[Wire] = []

    def start(script: Script | list[Say | Fault]) -> Wire:
        wire = Wire(in_order(script) if isinstance(script, list) else script)
        wire.start()
        started.append(wire)
        return wire

    yield start
    for wire in started:
        wire.close()


def in_order(answers: list[Say | Fault]) -> Script:
    def script(request: Request) -> Say | Fault:
        return answers[min(request.number, len(answers) - 1)]

    return script
