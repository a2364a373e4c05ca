"""Pulls that wait for a person: asked, answered at the command line, refused, forgotten, killed while they wait."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flows.improve import first_generation, grow
from flows.local import run_experiment
from sia_flow.errors import Interrupted, SealedError, SpecError
from sia_flow.lineage.approvals import Approvals
from sia_flow.lineage.records import Lever, Spend
from sia_flow.lineage.store import Store
from sia_flow.loop.arm import ArmState
from sia_flow.loop.events import Silent
from sia_flow.loop.lab import Lab
from sia_flow.loop.prepared import run_local
from sia_flow.loop.stopping import Stop
from sia_flow.plan.project import Project
from sia_flow.spec.load import load_experiments
from tests.cli.ops_world import call, copy, refusal
from tests.flows.world import done_steps, records, run_here

LONGER = ("arms=[{name: W, levers: [weights]}]", "budget.generations=2")
ASK = "approve={levers: [weights]}"


class Person(Silent):
    """Does something when asked, and remembers what was said."""

    def __init__(self, answer: Callable[[], Any] = lambda: None) -> None:
        self.heard: list[tuple[str, str]] = []
        self._answer = answer

    def approval(self, word: str, text: str) -> None:
        self.heard.append((word, text))
        if word == "asked":
            self._answer()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return copy(tmp_path)


@pytest.fixture
def spec(root: Path) -> Path:
    return root / "specs/small.yaml"


def test_a_pull_waits_for_a_yes_and_its_records_are_those_of_a_run_without_a_gate(root: Path, spec: Path) -> None:
    seen = []

    def answer() -> None:
        (state,) = json.loads(call(root, "status", "small", "--json"))["experiments"]
        seen.append([(wait["index"], wait["action"].partition("-")[0]) for wait in state["waits"]])
        assert "W seed 0 gen 2 waits for a yes: weights" in call(root, "status")
        assert "nothing of small arm H waits" in refusal(root, SpecError, "approve", "small", "--arm", "H")
        assert "was not applied" in refusal(root, SpecError, "approve", "other")
        assert json.loads(call(root, "approve", "small", "--note", "fine", "--json"))["answer"] == "yes"
        assert "nothing to add" in refusal(root, SpecError, "approve", "small", "--seed", "0")
        assert "That stands" in refusal(root, SpecError, "approve", "small", "--no")

    person = Person(answer)
    (result,) = run_here(spec, *LONGER, ASK, watcher=person)
    # Generation 1 was there before the gate was: nothing is asked of what is done.
    assert seen == [[(2, "weights")]]
    assert [word for word, _ in person.heard] == ["asked", "yes"]
    assert "sia-flow approve small --arm W --seed 0" in person.heard[0][1]
    assert len(result.generations) == 3
    done, held = done_steps(root), records(root)
    assert run_here(spec, *LONGER) == [result]
    assert (done_steps(root), records(root)) == (done, held)
    lines = [json.loads(line) for line in (root / ".sia-flow/approvals/small.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["asked", "answered"]
    assert (lines[1]["note"], lines[1]["id"]) == ("fine", lines[0]["id"])
    assert "waits" not in call(root, "status")


def test_a_no_ends_the_arm_with_its_best_so_far_and_stands(root: Path, spec: Path) -> None:
    (short,) = run_here(spec, LONGER[0], "budget.generations=1")
    (result,) = run_here(spec, *LONGER, ASK, watcher=Person(lambda: call(root, "approve", "small", "--no")))
    assert (result.stopped, result.generations) == ("approval.refused", short.generations)
    assert (result.sealed, result.incumbent) == (short.sealed, short.incumbent)
    done, again = done_steps(root), Person()
    assert run_here(spec, *LONGER, ASK, watcher=again) == [result]
    assert (done_steps(root), again.heard) == (done, [])
    sets = [word for change in (*LONGER, ASK) for word in ("--set", change)]
    call(root, "plan", "specs/small.yaml", *sets, code=0)
    # Without the gate there is more to do, and the sealed split was read already.
    for leave in (root / ".sia-flow/store/readings").rglob("leave-*.json"):
        leave.unlink()
    (experiment,) = load_experiments(spec, list(LONGER))
    with pytest.raises(SealedError, match="--read-sealed-again"):
        run_experiment(experiment, root)


def test_nobody_answers_in_time(root: Path, spec: Path) -> None:
    short = "approve={levers: [weights], timeout: 0.01}"
    (result,) = run_here(spec, *LONGER, short)
    assert (result.stopped, len(result.generations)) == ("approval.timeout", 2)
    (same,) = run_here(spec, *LONGER, short, watcher=(silent := Person()))
    assert (same, silent.heard) == (result, [])
    assert "sia-flow resume small" in call(root, "approve", "small")
    (allowed,) = run_here(spec, *LONGER, short)
    assert len(allowed.generations) == 3

    person = Person()
    go = "approve={levers: [weights], timeout: 0.01, otherwise: go}"
    (longer,) = run_here(spec, LONGER[0], "budget.generations=3", go, watcher=person)
    assert longer.generations[:3] == allowed.generations
    assert [word for word, _ in person.heard] == ["asked", "go"]
    assert "went on by itself" in refusal(root, SpecError, "approve", "small")


def test_a_run_that_ends_while_it_waits_asks_again_or_finds_the_answer(root: Path, spec: Path) -> None:
    for _ in range(2):
        stop = Stop()
        person = Person(stop.ask)
        with pytest.raises(Interrupted):
            run_here(spec, *LONGER, ASK, watcher=person, stop=stop)
        assert [word for word, _ in person.heard] == ["asked"]
    assert "the run that asked has ended: answer, then sia-flow resume small" in call(root, "status")
    call(root, "approve", "small", "--arm", "W", "--seed", "0")
    found = Person()
    (result,) = run_here(spec, *LONGER, ASK, watcher=found)
    assert (len(result.generations), found.heard) == (3, [])


def test_money_asks_and_whoever_resumes_where_an_engine_shows_it_says_yes(root: Path, spec: Path) -> None:
    shown = []

    @contextmanager
    def engine(text: str) -> Iterator[Callable[[], bool]]:
        shown.append(text)
        yield lambda: True
        shown.append("over")

    (experiment,) = load_experiments(spec, [*LONGER, "approve.above_usd=$3", "budget={generations: 2, usd: $9}"])
    with Lab(experiment, root, Store(Project(root).store)) as lab:
        lab.pause = engine
        state = ArmState(experiment.spec.arms[0], 0)
        first_generation(lab, run_local, state)
        state.spend += Spend(usd=3.0)
        assert grow(lab, run_local, state) == "budget.generations"
        assert (shown, len(state.history)) == ([], 3)
        for path in (root / ".sia-flow/store/steps").rglob("*.json"):
            if json.loads(path.read_text())["step"] == "train-LoRA":
                path.unlink()
        state = ArmState(experiment.spec.arms[0], 0)
        first_generation(lab, run_local, state)
        state.spend += Spend(usd=3.5)
        lab.stop.ask()
        with pytest.raises(Interrupted):
            grow(lab, run_local, state)
    assert "($3.50 spent or forecast, above $3.00)" in shown[0]
    assert shown[1:] == ["over"]
    (asked,) = Approvals(root / ".sia-flow/approvals/small.jsonl").questions()
    assert (asked.index, asked.answer and asked.answer.by) == (1, "Resume on Prefect's page")


@pytest.mark.parametrize(
    ("section", "levers", "usd", "reasons"),
    [
        ("{}", ("harness",), 0.0, ["every pull"]),
        ("{timeout: 12h}", ("harness", "weights"), 0.0, ["every pull"]),
        ("{levers: [weights]}", ("harness",), 99.0, []),
        ("{levers: [weights]}", ("harness", "weights"), 0.0, ["the weights lever"]),
        ("{above_usd: 5}", ("weights",), 5.0, []),
        ("{above_usd: $5, levers: [harness]}", ("harness",), 5.5, ["the harness lever", "$5.50 spent or forecast"]),
    ],
)
def test_what_is_asked_for(spec: Path, section: str, levers: tuple[Lever, ...], usd: float, reasons: list[str]) -> None:
    (experiment,) = load_experiments(spec, [f"approve={section}"])
    assert experiment.spec.approve is not None
    found = experiment.spec.approve.reasons(levers, usd)
    assert [reason.partition(",")[0] for reason in found] == reasons


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("{above_usd: unlimited}", "no spend passes unlimited"),
        ("{levers: [weights, weights]}", "names a lever twice"),
        ("{levers: [both]}", "Allowed: harness, weights"),
        ("{levers: [weights], otherwise: wait}", "Allowed: stop, go"),
        ("{levers: [weights], timeout: 0}", "a duration above zero"),
    ],
)
def test_a_gate_that_makes_no_sense_is_refused(spec: Path, section: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        load_experiments(spec, [f"approve={section}"])
