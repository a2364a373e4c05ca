"""Falls from a joint optimum: pairing, the method by number of seeds, and what may be said."""

from __future__ import annotations

import pytest

from sia_flow.lineage.records import Score
from sia_flow.report.fragility import fall


def score(rewards: dict[str, tuple[float, ...]]) -> Score:
    values = [value for group in rewards.values() for value in group]
    mean = sum(values) / len(values)
    return Score(split="select", n=len(values), mean=mean, se=0.1, best=max(values), valid=1.0, rewards=rewards)


NOISY = {"a": (0.1, 0.9, 0.4, 0.6), "b": (0.3, 0.8, 0.2, 0.5)}


def lower(by: float) -> Score:
    return score({name: tuple(value - by for value in group) for name, group in NOISY.items()})


def test_common_draws_are_paired_away() -> None:
    found = fall([(score(NOISY), lower(0.05))])
    assert (found.value, found.low, found.high) == (pytest.approx(0.05), pytest.approx(0.05), pytest.approx(0.05))
    assert (found.method, found.verdict) == ("paired bootstrap over rollouts", "the swap costs")
    # The same rewards dealt out to other draws are as far apart on average and tell nothing.
    dealt = {name: tuple(value - 0.05 for value in reversed(group)) for name, group in NOISY.items()}
    found = fall([(score(NOISY), score(dealt))])
    assert found.value == pytest.approx(0.05)
    assert found.low < 0 < found.high
    assert found.verdict == "no difference shown"


def test_three_seeds_are_what_is_repeated() -> None:
    found = fall([(score(NOISY), lower(by)) for by in (0.10, 0.12, 0.11)])
    assert found.value == pytest.approx(0.11)
    # s = 0.01, t(2, 0.975) = 4.30265
    assert found.high - found.low == pytest.approx(2 * 4.30265 * 0.01 / 3**0.5, rel=1e-5)
    assert (found.method, found.seeds) == ("t over seeds", 3)
    assert fall([(score(NOISY), lower(-by)) for by in (0.10, 0.12, 0.11)]).verdict == "the swap gains"


def test_many_instances_are_redrawn_and_only_shared_ones_count() -> None:
    ours = {f"i{n}": (float(n % 2),) for n in range(40)}
    theirs = {f"i{n}": (float(n % 4 == 1),) for n in range(41)}
    found = fall([(score(ours), score(theirs))])
    assert found.method == "paired bootstrap over instances"
    assert found.value == pytest.approx(0.25)
    assert 0.1 < found.low < 0.25 < found.high < 0.45
    assert fall([(score(ours), score(theirs))]) == found
    with pytest.raises(ValueError, match="measure the grid"):
        fall([])
