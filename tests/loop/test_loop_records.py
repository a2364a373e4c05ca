"""What a run leaves behind: the graph, its order, its invariants, on real parts."""

from __future__ import annotations

import json
from pathlib import Path

from sia_flow.lineage.jsonl import load_lines
from sia_flow.lineage.records import Trajectory
from sia_flow.lineage.store import Store
from tests.flows.world import generations, journal, records
from tests.loop.conftest import Ran


def steps(root: Path) -> dict[str, dict[str, object]]:
    return {json.loads(data)["key"]: json.loads(data) for data in records(root, "steps").values()}


def test_arms_of_a_seed_share_generation_zero(ran: Ran) -> None:
    assert len({result.generations[0] for result in ran.results.values()}) == 1
    assert len({g for r in ran.results.values() for g in r.generations}) == 3 * 2 + 1
    synths = [e for e in journal(ran.root) if e["event"] == "done" and e["step"] == "scaffold synth"]
    assert len(synths) == 1


def test_an_arm_pulls_its_own_levers_only(ran: Ran) -> None:
    pulled = {
        arm: [g.decision.lever for g in generations(ran.root, result) if g.decision]
        for arm, result in ran.results.items()
    }
    assert pulled == {"SIA-H": ["harness"] * 2, "W": ["weights"] * 2, "no-feedback": ["harness"] * 2}


def test_a_harness_arm_never_has_an_adapter(ran: Ran) -> None:
    made = [g for arm in ("SIA-H", "no-feedback") for g in generations(ran.root, ran.results[arm])]
    assert {g.adapter for g in made} == {None}
    assert all("train-LoRA" not in g.steps for g in made)
    store = Store(ran.root / ".sia-flow/store")
    for generation in made:
        turns = [t for r in load_lines(store.objects.get_bytes(generation.trajectories), Trajectory) for t in r.turns]
        assert {turn.policy for turn in turns} == {generation.base[:16]}


def test_a_harness_pull_is_one_step_whose_trials_have_records_of_their_own(ran: Ran) -> None:
    known = steps(ran.root)
    for generation in generations(ran.root, ran.results["SIA-H"])[1:]:
        edit = known[generation.steps["scaffold edit"]]
        assert edit["outputs"] == {"scaffold": generation.scaffold}
        assert edit["result"] == [trial.model_dump(mode="json") for trial in generation.trials]
        assert [trial.chosen for trial in generation.trials].count(True) == 1
        assert max(generation.trials, key=lambda trial: trial.mean).mean == next(
            trial.mean for trial in generation.trials if trial.chosen
        )
        tried = {v for name, v in edit["inputs"].items() if name.startswith("edit ")}
        rolled = [s for s in known.values() if s["step"] == "rollout" and s["params"]["stream"] == "trial"]
        assert tried <= {step["inputs"]["scaffold"] for step in rolled}
        assert edit["spend"]["rollouts"] == 2 * 2 * len(generation.trials)


def test_a_weights_arm_keeps_its_scaffold_and_goes_on_from_its_adapter(ran: Ran) -> None:
    first, second, third = generations(ran.root, ran.results["W"])
    assert first.scaffold == second.scaffold == third.scaffold
    assert first.adapter is None
    assert None not in {second.adapter, third.adapter}
    trained = {key: record for key, record in steps(ran.root).items() if record["step"] == "train-LoRA"}
    assert trained[third.steps["train-LoRA"]]["inputs"]["adapter"] == second.adapter
    assert trained[second.steps["train-LoRA"]]["inputs"]["adapter"] is None
    assert second.spend.updates > 0
    assert len(second.training) == 2
    assert second.spend.rollouts == 2 * 2 * 3 + 2 * 3 + 2 * 2


def test_the_gate_off_takes_every_generation_and_a_chain_grows_from_the_last(ran: Ran) -> None:
    for result in ran.results.values():
        made = generations(ran.root, result)
        assert all(g.accepted for g in made)
        assert [g.parent for g in made] == [None, *(g.id for g in made[:-1])]
        assert result.incumbent == made[-1].id


def test_no_adapter_or_scaffold_of_one_arm_reaches_another(ran: Ran) -> None:
    own = {arm: {g.id for g in generations(ran.root, r)[1:]} for arm, r in ran.results.items()}
    assert not own["SIA-H"] & own["no-feedback"] | own["SIA-H"] & own["W"]
    assert (
        generations(ran.root, ran.results["SIA-H"])[1].scaffold
        != generations(ran.root, ran.results["no-feedback"])[1].scaffold
    )


def test_sealed_is_read_only_when_the_search_of_an_arm_is_over(ran: Ran) -> None:
    """Within one arm no step of the search comes after a step on the sealed split."""
    known = steps(ran.root)
    order = [e["key"] for e in journal(ran.root) if e["event"] == "start"]
    sealed = [i for i, key in enumerate(order) if known[key]["params"].get("split") == "sealed"]
    closing = [i for i, key in enumerate(order) if known[key]["step"] == "select program"]
    assert sealed
    seen = set()
    for result in ran.results.values():
        search = {key for g in generations(ran.root, result) for key in g.steps.values() if key in known}
        fresh = {order.index(key) for key in search - seen}
        seen |= search
        incumbent = generations(ran.root, result)[-1]
        own = [
            i
            for i in sealed
            if known[order[i]]["step"] == "rollout"
            and known[order[i]]["inputs"]["scaffold"] == incumbent.scaffold
            and known[order[i]]["inputs"]["adapter"] == incumbent.adapter
        ]
        assert len(own) == 1
        assert own[0] > max(fresh)
        assert any(max(fresh) < i < own[0] for i in closing)


def test_nothing_that_the_agents_read_holds_a_sealed_instance(ran: Ran) -> None:
    store = Store(ran.root / ".sia-flow/store")
    sealed = set(next(iter(ran.results.values())).sealed.rewards)
    assert len(sealed) == 2
    for result in ran.results.values():
        for generation in generations(ran.root, result):
            shown = store.objects.get_bytes(generation.trajectories).decode() + generation.model_dump_json()
            assert not [name for name in sealed if name in shown]


def test_the_two_by_two_is_there_where_weights_were_pulled(ran: Ran) -> None:
    assert ran.results["SIA-H"].factorial == ()
    cells = {(c.scaffold, c.weights): c.score for c in ran.results["W"].factorial}
    first, *_, last = generations(ran.root, ran.results["W"])
    assert cells["first", "base"] == first.select
    assert cells["best", "best"] == last.select
    assert len(cells) == 4


def test_spend_of_an_arm_is_the_sum_of_its_generations(ran: Ran) -> None:
    for result in ran.results.values():
        total = sum((g.spend for g in generations(ran.root, result)[1:]), generations(ran.root, result)[0].spend)
        assert result.spend == total


def test_the_views_can_be_read_without_the_store(ran: Ran) -> None:
    assert {e["event"] for e in journal(ran.root)} == {"start", "done"}
    for data in records(ran.root).values():
        assert not {"at", "time", "seconds", "pid"} & set(json.loads(data))
