"""Mutated files at every reader: the errors that it promises, and nothing else. The long form is benchmarks/fuzz.py."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzz import SEEDS, TARGETS, mutated, timed


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_seeds_do_no_harm(name: str) -> None:
    @settings(max_examples=40, deadline=None)
    @given(st.randoms(use_true_random=False))
    def fuzz(draw) -> None:  # type: ignore[no-untyped-def]
        timed(TARGETS[name], mutated(draw, SEEDS[name]))

    fuzz()


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=30, deadline=None)
@given(data=st.binary(max_size=400))
def test_any_bytes_do_no_harm(name: str, data: bytes) -> None:
    timed(TARGETS[name], data)
