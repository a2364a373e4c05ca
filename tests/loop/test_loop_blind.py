"""The control `no-feedback`: random edits of the constants, whatever the evidence says."""

from __future__ import annotations

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from sia_flow.agents.blind import BlindFeedbackAgent, random_edits
from sia_flow.agents.decision import Evidence
from sia_flow.scaffold.constants import constant_values, parse_constants
from sia_flow.scaffold.contract import check
from tests.flows.world import ROOT, generations
from tests.loop.conftest import Ran

REFERENCE = {"scaffold.py": (ROOT / "tasks/denoise/scaffold/scaffold.py").read_text()}
BARE = {"scaffold.py": "def solve(job):\n    return ''\n"}


def evidence(**fields: object) -> Evidence:
    """Evidence that holds only what the blind agent may take; all else is None and would fail if it were read."""
    values = dict.fromkeys((f.name for f in dataclasses.fields(Evidence)), None)
    return Evidence(**{**values, "scaffold": REFERENCE, "trials": 4, "seed": 3, **fields})  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**40), count=st.integers(1, 12))
def test_every_edit_is_another_setting_within_bounds(seed: int, count: int) -> None:
    edits = random_edits(REFERENCE, count, seed)
    found = [constant_values(edit.files["scaffold.py"]) for edit in edits]
    assert len(edits) == count
    assert len({str(values) for values in [*found, constant_values(REFERENCE["scaffold.py"])]}) == count + 1
    assert all(check(dict(edit.files)) == [] for edit in edits)


def test_a_range_is_used_from_end_to_end() -> None:
    drawn = [constant_values(e.files["scaffold.py"]) for e in random_edits(REFERENCE, 80, 0)]
    for constant in parse_constants(REFERENCE["scaffold.py"]):
        values = [values[constant.name] for values in drawn]
        span = constant.high - constant.low
        assert min(values) < constant.low + 0.1 * span
        assert max(values) > constant.high - 0.2 * span


def test_the_decision_rests_on_the_seed_alone() -> None:
    agent = BlindFeedbackAgent()
    decision = agent.decide(evidence())
    assert (decision.lever, len(decision.edits), decision.forecast) == ("harness", 4, 0.0)
    assert decision == agent.decide(evidence())
    assert decision.edits != agent.decide(evidence(seed=4)).edits


def test_without_constants_it_stops() -> None:
    assert BlindFeedbackAgent().decide(evidence(scaffold=BARE)).lever == "stop"


def test_the_control_runs_as_an_arm_with_as_many_trials(ran: Ran) -> None:
    blind, seeing = (generations(ran.root, ran.results[arm]) for arm in ("no-feedback", "SIA-H"))
    assert [len(g.trials) for g in blind] == [len(g.trials) for g in seeing] == [0, 2, 2]
    assert all("without a look at the evidence" in g.decision.reason for g in blind[1:])
    assert ran.results["no-feedback"].control == "no-feedback"
