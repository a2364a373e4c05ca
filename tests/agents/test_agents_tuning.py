"""Proposals for constants, the trials they learn from, the plateau test and the forecasts."""

import math
import random
import statistics

import pytest

from sia_flow.agents.evidence import statistics_of
from sia_flow.agents.forecast import calibrated, constants_gain, expected_maximum
from sia_flow.agents.plateau import last_phase, plateau, unaccepted
from sia_flow.agents.tuning import Known, comparable_trials, constant_edits
from sia_flow.lineage.records import Decision, Edit, Trial
from sia_flow.scaffold.constants import constant_values, set_constants
from sia_flow.scaffold.diff import unified_diff
from tests.agents.world import REFERENCE, SE, Arm, rollouts

SOURCE = REFERENCE["scaffold.py"]
CURRENT = constant_values(SOURCE)


def trial(mean, **values):
    return Trial(name="t", constants={**CURRENT, **values}, mean=mean, se=SE, n=64)


def trials(means):
    return tuple(trial(mean, KNN=5 + i) for i, mean in enumerate(means))


def values_of(edits):
    return [constant_values(edit.files["scaffold.py"]) for edit in edits]


def constants_pull(edits):
    return Decision(lever="harness", reason="", forecast=0.0, edits=edits)


def test_proposals_differ_stay_in_bounds_and_change_constants_alone():
    edits = constant_edits(REFERENCE, (), 12, seed=1)
    proposed = values_of(edits)
    assert len(edits) == 12
    assert CURRENT not in proposed
    assert all(proposed.count(values) == 1 for values in proposed)
    for edit, values in zip(edits, proposed, strict=True):
        assert edit.files["scaffold.py"] == set_constants(SOURCE, values)
        changed = {
            line[1:].split(":")[0] for line in unified_diff(REFERENCE, edit.files).splitlines() if line[:2] > "+ "
        }
        assert {name for name in values if values[name] != CURRENT[name]} <= changed
        assert f"KNN 5 -> {values['KNN']}" in edit.name or values["KNN"] == 5


def test_proposals_depend_on_the_seed_and_the_trials_alone():
    seen = trials([0.1, 0.2, 0.3])
    once = constant_edits(REFERENCE, seen, 4, seed=1)
    random.seed(99)
    assert constant_edits(REFERENCE, seen, 4, seed=1) == once
    assert constant_edits(REFERENCE, seen, 4, seed=2) != once
    assert constant_edits(REFERENCE, trials([0.3, 0.2, 0.1]), 4, seed=1) != once


def test_the_search_finds_a_better_setting_than_as_many_random_draws():
    def worth(values):
        return -((values["KNN"] - 22) ** 2) / 400 - (values["TEMPERATURE"] - 0.6) ** 2 - math.log(values["DECAY"]) ** 2

    def search(seed):
        seen = []
        for pull in range(4):
            found = values_of(constant_edits(REFERENCE, seen, 6, seed=seed * 100 + pull))
            seen += [Trial(name="t", constants=v, mean=worth(v), se=SE, n=64) for v in found]
        return max(t.mean for t in seen)

    def blind(seed):
        found = values_of(constant_edits(REFERENCE, (), 24, seed=seed))
        return max(map(worth, found))

    assert statistics.mean(map(search, range(3))) > statistics.mean(map(blind, range(3)))


def test_a_space_that_is_used_up_gives_what_is_left():
    files = {"scaffold.py": "# tune: begin\nK: int = 1  # 1..4\n# tune: end\ndef solve(job):\n    return ''\n"}
    seen = (Trial(name="t", constants={"K": 2}, mean=0.1, se=SE, n=8),)
    assert {v["K"] for v in values_of(constant_edits(files, seen, 9, seed=1))} == {3, 4}
    assert constant_edits({"scaffold.py": "def solve(job):\n    return ''\n"}, (), 4, seed=1) == ()


def test_a_word_is_tuned_like_a_number():
    block = '# tune: begin\nMODE: str = "a"  # a | b | c\n# tune: end\ndef solve(job):\n    return ""\n'
    assert {v["MODE"] for v in values_of(constant_edits({"scaffold.py": block}, (), 5, seed=1))} == {"b", "c"}


def test_trials_are_compared_on_one_policy_and_structure():
    arm = Arm()
    edits = constant_edits(REFERENCE, (), 2, seed=1)
    arm.apply(constants_pull(edits), 0.03)
    assert comparable_trials(arm.history, arm.incumbent, SOURCE) == Known(arm.history[1].trials, own=True)
    arm.pull("weights", 0.03)
    assert comparable_trials(arm.history, arm.incumbent, SOURCE) == Known(arm.history[1].trials, own=False)
    arm.apply(constants_pull(constant_edits(REFERENCE, (), 2, seed=2)), 0.03)
    assert comparable_trials(arm.history, arm.incumbent, SOURCE) == Known(arm.history[3].trials, own=True)


def test_a_new_structure_starts_anew_and_a_refused_one_does_not():
    arm = Arm(levers=("harness",))
    arm.apply(constants_pull(constant_edits(REFERENCE, (), 2, seed=1)), 0.03)
    arm.pull("harness", 0.0, kind="structure")
    assert comparable_trials(arm.history, arm.incumbent, SOURCE).own
    arm.pull("harness", 0.03, kind="structure")
    assert not comparable_trials(arm.history, arm.incumbent, SOURCE).own
    more = SOURCE.replace("# tune: end", "NEW: int = 2  # 1..4\n# tune: end")
    assert comparable_trials(arm.history, arm.incumbent, more) == Known((), own=False)


def test_a_pull_with_one_proposal_stands_for_its_own_trial():
    arm = Arm()
    edit = Edit(kind="constants", name="KNN", summary="", files={"scaffold.py": set_constants(SOURCE, {"KNN": 9})})
    arm.add(constants_pull((edit,)), 0.0, dict(REFERENCE))
    (known,) = comparable_trials(arm.history, arm.incumbent, SOURCE).trials
    assert known.constants["KNN"] == 9
    assert known.mean == arm.history[1].train.mean


@pytest.mark.parametrize(
    ("gains", "state"),
    [
        ([], "untried"),
        ([0.03], "improving"),
        ([0.03, 0.02], "improving"),
        ([0.0, 0.03], "improving"),
        ([0.008], "undecided"),
        ([-0.005], "undecided"),
        ([-0.02], "stalled"),
        ([0.008, 0.009], "stalled"),
        ([0.03, 0.0, 0.0], "stalled"),
        ([-0.02, 0.03], "improving"),
    ],
)
def test_the_plateau_test_on_known_gains(gains, state):
    arm = Arm()
    pulls = [arm.pull("harness", gain) for gain in gains]
    assert plateau(pulls).state == state


def test_the_plateau_test_states_its_numbers():
    arm = Arm()
    found = plateau([arm.pull("harness", 0.03), arm.pull("harness", 0.005)])
    assert found.banked == pytest.approx(0.015)
    assert found.error == pytest.approx(SE / math.sqrt(2))
    assert "+0.0150 +- 0.0071" in found.words()
    assert plateau([arm.pull("harness", 0.03)], noise=0.04).state == "undecided"
    assert plateau([arm.pull("harness", -0.03)], least=2).state == "undecided"


def test_noise_without_gain_is_never_called_improving():
    draw = random.Random(5)
    arm = Arm()
    for _ in range(40):
        arm.pull("harness", min(draw.gauss(0, SE), 0.99 * SE))
    states = [plateau(arm.history[1:n]).state for n in range(3, 41)]
    assert set(states) == {"stalled"}


def test_phases_and_refusals_are_counted_from_the_end():
    arm = Arm()
    for lever, gain in (("harness", 0.0), ("weights", 0.03), ("harness", 0.0), ("harness", -0.02)):
        arm.pull(lever, gain)
    assert [g.index for g in last_phase(arm.history, "harness")] == [3, 4]
    assert last_phase(arm.history, "weights") == []
    assert unaccepted(arm.history) == 2


def test_the_expected_maximum_is_near_the_simulated_one():
    draw = random.Random(1)
    for n in (2, 6, 18):
        simulated = statistics.mean(max(draw.gauss(0, 1) for _ in range(n)) for _ in range(20_000))
        assert expected_maximum(n) == pytest.approx(simulated, abs=0.04)
    assert expected_maximum(1) == expected_maximum(0) == 0


def test_more_trials_promise_less():
    rewards = statistics_of(*rollouts())
    means = [0.10, 0.12, 0.11, 0.13]
    first = constants_gain(Known(trials(means), own=True), 6, rewards)
    later = constants_gain(Known(trials(means * 3), own=True), 6, rewards)
    assert first > later > 0
    assert constants_gain(Known(trials(means), own=False), 6, rewards) > first
    assert constants_gain(Known(trials([0.1] * 4), own=True), 6, rewards) == 0
    assert constants_gain(Known((), own=False), 6, rewards) == pytest.approx(0.1 * rewards.sd * expected_maximum(6))


def test_a_forecast_is_scaled_by_how_earlier_ones_came_out():
    arm = Arm()
    assert calibrated(0.02, []) == pytest.approx(0.02)
    refused = [arm.pull("weights", 0.0)]
    assert calibrated(0.02, refused) == pytest.approx(0.01)
    better = [arm.pull("weights", 0.06)]
    assert calibrated(0.02, better) == pytest.approx(0.04)
    assert calibrated(0.0, []) == 0
