"""`sia-flow ledger`, and the pin of the ledger in real runs."""

import json
from pathlib import Path

import pytest

from sia_flow.cli.workbench import plan_all
from sia_flow.lineage.heads import Head, write_head
from sia_flow.lineage.jsonl import load_lines
from sia_flow.lineage.ledger import LedgerRow
from sia_flow.lineage.records import Decision, Draw, Generation, Isolation, Score, Spend, WeightPlan
from sia_flow.lineage.store import Store
from sia_flow.plan.project import Project
from sia_flow.spec.load import load_experiments
from tests.flows.world import generations, journal, make_project, records, run_here, sia_flow

LEARNED = "agents.feedback.type=learned"
FEATURES = {
    "sd": 0.05,
    "mean": 0.1,
    "upper": 0.2,
    "skew": 0.5,
    "valid": 0.9,
    "dead": 0.0,
    "spread": 0.04,
    "harness_stalled": 0.0,
    "weights_stalled": 1.0,
    "harness_banked": 0.01,
    "weights_banked": 0.0,
    "refused_in_a_row": 1.0,
    "select_noise": 0.01,
}


def pull(index: int, gain: float) -> Generation:
    """A generation that a drawn weight update made."""
    score = Score(split="select", n=8, mean=0.1 + gain, se=0.01, best=0.2, valid=1.0)
    decision = Decision(
        lever="weights",
        reason="[red]drawn[/]",
        forecast=0.02,
        weights=WeightPlan(algorithm="grpo", iterations=1, learning_rate=1e-3, kl=0.0),
        features=FEATURES,
        draw=Draw(table="harness-constants", chances={"harness-constants": 0.25, "weights-grpo": 0.75}),
    )
    return Generation(
        id=f"{index}" * 64,
        index=index,
        parent=None,
        seed=3,
        scaffold="none",
        base="base",
        adapter=None,
        data="data",
        verifier="verifier",
        decision=decision,
        train=score,
        select=score,
        accepted=gain > 0.01,
        verdict="",
        gain=gain,
        gain_se=0.01,
        spend=Spend(rollouts=12, prompt_tokens=100, completion_tokens=23, verifications=9),
        isolation=Isolation(level=2, backend="bubblewrap"),
        trajectories="none",
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("tasks", "flows"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_a_project_without_a_pull_says_so_and_stays_as_it_is(project: Path) -> None:
    assert "no lever was pulled" in sia_flow("ledger", cwd=project)
    assert json.loads(sia_flow("ledger", "--json", cwd=project)) == {"rows": [], "comparison": None}
    assert not (project / ".sia-flow").exists()


def test_the_rows_and_the_comparison_with_the_table(project: Path) -> None:
    store = Store(project / ".sia-flow" / "store")
    for index, gain in ((2, 0.03), (1, 0.01)):
        store.put_generation(pull(index, gain))
    head, first, second, *rest = sia_flow("ledger", cwd=project).splitlines()
    assert head.split()[:2] == ["experiment", "arm"]
    assert first.split() == [
        *("(unknown)", "3", "1", "weights-grpo", "+0.0200", "+0.0100", "+-", "0.0100", "no", "12", "123", "9", "0.75")
    ]
    assert second.split()[-5:] == ["yes", "12", "123", "9", "0.75"]
    assert rest[0].startswith("Mean gain of the 2 drawn pulls")
    assert "followed: +0.400 [+0.200, +0.600], resting on 2.0 rows" in rest[1]
    assert len(rest) == 4

    found = json.loads(sia_flow("ledger", str(project), "--json", cwd=project))
    assert [(row["index"], row["propensity"], row["gain"]) for row in found["rows"]] == [
        (1, 0.75, 0.01),
        (2, 0.75, 0.03),
    ]
    assert found["comparison"]["followed"]["mean"] == pytest.approx(0.4)
    assert found["comparison"]["table"]["mean"] == 0.0


def test_the_pulls_of_an_unfinished_arm_have_its_name(project: Path) -> None:
    store = Store(project / ".sia-flow" / "store")
    store.put_generation(pull(1, 0.01))
    (found,) = [path.stem for path in (store.root / "generations").rglob("*.json")]
    write_head(store, Head(experiment="small", arm="SIA-W", seed=3, generations=(found,)))
    _, row, *_ = sia_flow("ledger", cwd=project).splitlines()
    assert row.split()[:3] == ["small", "SIA-W", "3"]
    listed = json.loads(sia_flow("ledger", "--json", cwd=project))
    assert [(row["experiment"], row["arm"]) for row in listed["rows"]] == [("small", "SIA-W")]


def ledger_of(root: Path, step: str) -> list[LedgerRow]:
    store = Store(root / ".sia-flow" / "store")
    (key,) = {e["key"] for e in journal(root) if e["step"] == "ledger" and e["key"].startswith(step)}
    record = store.find(key)
    assert record is not None
    return load_lines(store.objects.get_bytes(record.outputs["ledger"]), LedgerRow)


def pins(root: Path) -> list[str]:
    return [e["key"] for e in journal(root) if (e["event"], e["step"]) == ("done", "ledger")]


@pytest.mark.slow
def test_an_experiment_pins_its_ledger_once(tmp_path: Path) -> None:
    """Planned, run, run again, made longer, and run under another name."""
    spec = make_project(tmp_path)
    (first,) = run_here(spec, LEARNED)
    assert [ledger_of(tmp_path, key) for key in pins(tmp_path)] == [[]]
    assert "the ledger knows too little" in generations(tmp_path, first)[1].decision.reason
    before, log = records(tmp_path), journal(tmp_path)
    assert run_here(spec, LEARNED) == [first]
    assert (journal(tmp_path), records(tmp_path)) == (log, before)

    (longer,) = run_here(spec, LEARNED, "budget.generations=2")
    assert len(pins(tmp_path)) == 1
    assert longer.generations[:2] == first.generations
    decided = [r for r in map(json.loads, records(tmp_path, "steps").values()) if r["step"] == "feedback"]
    assert len(decided) == 2
    assert len({record["inputs"]["ledger"] for record in decided}) == 1
    (plan,) = plan_all(Project(tmp_path), load_experiments(spec, [LEARNED, "budget.generations=2"])[0])
    assert plan.result == longer

    spec.write_text(spec.read_text().replace("name: small", "name: other"))
    log = journal(tmp_path)
    (plan,) = plan_all(Project(tmp_path), load_experiments(spec, [LEARNED])[0])
    assert (plan.next, journal(tmp_path)) == ("ledger of other", log)
    (other,) = run_here(spec, LEARNED)
    seen = ledger_of(tmp_path, pins(tmp_path)[1])
    assert [(row.experiment, row.index) for row in seen] == [("small", 1), ("small", 2)]
    assert {row.generation for row in seen} == set(longer.generations[1:])
    known = [row.action for row in seen].count("harness-constants")
    assert f"it has {known} of the 8 pulls of harness-constants" in generations(tmp_path, other)[1].decision.reason
