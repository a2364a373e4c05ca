"""Statistics against figures worked out another way, the report's bounds, and the builtin Meta-Agent."""

import ast
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sia_flow.agents.builtin import meta_agent
from sia_flow.agents.evidence import quantile, statistics_of
from sia_flow.agents.feedback import BuiltinFeedbackAgent
from sia_flow.agents.report import LIMIT, improvement_report, quoted
from sia_flow.errors import ScaffoldError, SpecError
from sia_flow.lineage.records import Decision, Trajectory, Verdict
from sia_flow.scaffold.constants import constant_values
from sia_flow.scaffold.contract import check
from sia_flow.scaffold.diff import unified_diff
from tests.agents.world import REFERENCE, Arm, rollouts

REWARDS = st.lists(st.floats(0, 1, width=16), min_size=1, max_size=30)


@given(REWARDS)
def test_the_figures_agree_with_numpy(rewards):
    found = statistics_of(*rollouts(tuple(rewards), groups=3))
    values = np.array(rewards, dtype=np.float64)
    assert found.n == 3 * len(rewards)
    assert found.mean == pytest.approx(values.mean())
    assert found.sd == pytest.approx(values.std(), abs=1e-7)
    assert found.spread == pytest.approx(found.sd, abs=1e-7)
    assert found.upper == pytest.approx(np.quantile(np.tile(values, 3), 0.9))
    assert found.best == values.max()
    assert found.valid == pytest.approx((values > 0).mean())
    assert found.dead == float(np.ptp(values) == 0)
    assert sum(count for _, count in found.histogram) == found.n
    json.dumps(found.features(), allow_nan=False)


def test_skew_tells_rare_successes():
    assert statistics_of(*rollouts((0.1,) * 9 + (0.9,))).skew > 2
    assert statistics_of(*rollouts((0.1, 0.2, 0.3))).skew == pytest.approx(0)


def test_density_counts_what_lies_above_a_failure():
    trajectories, verdicts = rollouts((0.0, 0.0, 0.2, 0.4), groups=1)
    guard = Verdict(reward=0.3, valid=False, reason="guard")
    found = statistics_of(trajectories, [*verdicts[:1], guard, *verdicts[2:]])
    assert (found.valid, found.density) == (0.5, 0.25)


def test_failures_are_clustered_by_reason_with_the_first_as_example():
    trajectories = [Trajectory(instance="i", sample=n, seed=n, answer=f"program {n}") for n in range(4)]
    reasons = ["ok", "syntax", "guard", "guard"]
    verdicts = [Verdict(reward=0, valid=r == "ok", reason=r, feedback=f"said {n}") for n, r in enumerate(reasons)]
    found = statistics_of(trajectories, verdicts).failures
    assert [(f.reason, f.count, f.answer, f.feedback) for f in found] == [
        ("guard", 2, "program 2", "said 2"),
        ("syntax", 1, "program 1", "said 1"),
    ]


def test_no_rollouts_give_finite_figures():
    assert statistics_of([], []).features()["mean"] == 0
    assert quantile([], 0.5) == 0
    with pytest.raises(ValueError, match="shorter"):
        statistics_of(*[rollouts()[0], []])


@given(st.text(max_size=3000))
def test_quoted_text_cannot_close_its_fence(text):
    lines = quoted(text).split("\n")
    fence = lines[0]
    assert set(fence) == {"`"}
    assert lines[-1] == fence
    assert all(fence not in line for line in lines[1:-1])
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", quoted(text))
    assert len(quoted(text)) < 2000


def test_the_report_tells_what_the_decision_rests_on():
    arm = Arm(best="import numpy\n\ndef denoise(counts, seed):\n    return counts + 1\n")
    arm.pull("harness", 0.03)
    arm.pull("weights", -0.02)
    decision = BuiltinFeedbackAgent().decide(arm.evidence())
    for part in (
        "after generation 2",
        f"## Decision: {decision.lever}",
        decision.reason,
        "mean 0.0750",
        "**exception**, 2 rollouts: ValueError: bad",
        "| 2 | weights | 0.1100 ± 0.0100 | -0.0200 ± 0.0100 | no | +0.0200 |",
        "KNN 5, T 3, N_PCA 100",
        "return counts + 1",
    ):
        assert part in decision.report


def test_the_report_is_bounded_and_escapes_what_models_wrote():
    arm = Arm(best="x" * 50_000)
    for _ in range(30):
        arm.pull("harness", 0.0)
    trajectories = [Trajectory(instance="i", sample=n, seed=n, answer="```\n# owned\n" * 99) for n in range(40)]
    verdicts = [Verdict(reward=0, valid=False, reason=f"r{n}|<b>", feedback="<script>" * 99) for n in range(40)]
    evidence = arm.evidence(trajectories=trajectories, verdicts=verdicts)
    decision = Decision(lever="stop", reason="done", forecast=0)
    report = improvement_report(evidence, statistics_of(trajectories, verdicts), decision)
    assert len(report) <= LIMIT
    assert "<script>" not in report
    assert "<b>" not in report
    assert report.count("\n````\n") >= 2


DESCRIPTION = """# Denoise counts

Use KNN = 15 and DECAY, TEMPERATURE = 2.5, 0.8.
T = 99 is too much, N_PCA = 20.5 no number of axes, and T, N_PCA = 5, 30, 2 sets nothing.
"""


def test_the_first_scaffold_is_the_reference_with_what_the_description_names():
    files = meta_agent("builtin").write(DESCRIPTION, {**REFERENCE, "notes.md": "kept"}, seed=0)
    assert check(files) == []
    assert files["notes.md"] == "kept"
    assert constant_values(files["scaffold.py"]) == {
        **constant_values(REFERENCE["scaffold.py"]),
        "KNN": 15,
        "DECAY": 2.5,
        "TEMPERATURE": 0.8,
    }
    note = ast.get_docstring(ast.parse(files["scaffold.py"]))
    assert "Read: Denoise counts (" in note
    assert "Settings that it names: KNN 15, DECAY 2.5, TEMPERATURE 0.8." in note


def test_the_first_scaffold_is_the_same_for_every_seed_and_else_the_reference():
    first = meta_agent("builtin").write("Denoise.", REFERENCE, seed=0)
    assert first == meta_agent("builtin").write("Denoise.", REFERENCE, seed=1)
    assert first != meta_agent("builtin").write("Denoise better.", REFERENCE, seed=0)
    removed = [line for line in unified_diff(REFERENCE, first).splitlines()[3:] if line.startswith("-")]
    assert removed == []


def test_a_hostile_description_stays_text():
    hostile = '"""\nimport os\nos.system("x")\n"""\\ # KNN = 15'
    first = meta_agent("builtin").write(hostile, REFERENCE, seed=0)["scaffold.py"]
    old, new = ast.parse(REFERENCE["scaffold.py"]), ast.parse(first)
    assert len(old.body) == len(new.body)
    assert "os.system" not in first


def test_a_reference_that_breaks_the_contract_is_an_error():
    with pytest.raises(ScaffoldError, match="no top-level function solve"):
        meta_agent("builtin").write("", {"scaffold.py": "x = 1\n"}, seed=0)
    with pytest.raises(SpecError, match=r"spec\.agents\.meta\.type"):
        meta_agent("oracle")
