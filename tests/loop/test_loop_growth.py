"""A run grows in place: nothing is done twice, nothing that is there changes, a budget ends it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from flows.improve import improve
from sia_flow.errors import Interrupted
from sia_flow.lineage.records import Spend
from sia_flow.lineage.store import Store
from sia_flow.loop.arm import ArmState
from sia_flow.loop.events import Silent
from sia_flow.loop.lab import Lab
from sia_flow.loop.prepared import run_local
from sia_flow.loop.stopping import Stop, spent
from sia_flow.plan.project import Project
from sia_flow.spec.load import load_experiments
from sia_flow.spec.loop import Budget
from tests.flows.world import done_steps, generations, journal, records, run_here


class Recorder(Silent):
    """Remembers what it hears of."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.cached: list[bool] = []

    def step_started(self, name: str, label: str, total: int | None) -> None:
        self.started.append(name)

    def step_ended(self, name: str, label: str, *, cached: bool) -> None:
        self.cached.append(cached)


def unchanged(before: dict[str, bytes], root: Path) -> None:
    after = records(root)
    assert {path: after[path] for path in before} == before
    assert max(Counter(done_steps(root)).values()) == 1


@pytest.mark.slow
def test_growth(spec: Path) -> None:
    """One project through its life: again, longer, with a seed more, with another arm."""
    root = spec.parents[1]
    (first,) = run_here(spec)
    before, log = records(root), journal(root)

    recorder = Recorder()
    assert run_here(spec, watcher=recorder) == [first]
    assert (journal(root), records(root)) == (log, before)
    assert recorder.started == []

    (longer,) = run_here(spec, "budget.generations=2", watcher=(recorder := Recorder()))
    unchanged(before, root)
    assert longer.generations[:2] == first.generations
    assert len(longer.generations) == 3
    assert longer.key != first.key
    assert Counter(step for step, _ in done_steps(root))["scaffold synth"] == 1
    assert recorder.cached.count(True) > 5

    before = records(root)
    again, other = run_here(spec, "budget.generations=2", "seeds=[0,1]")
    unchanged(before, root)
    assert again == longer
    assert not set(other.generations) & set(longer.generations)
    one, two = generations(root, longer)[0], generations(root, other)[0]
    assert one.scaffold == two.scaffold
    assert one.trajectories != two.trajectories

    before, count = records(root), len(done_steps(root))
    same, control = run_here(spec, "budget.generations=2", "arms=[best-of-n, SIA-H]")
    unchanged(before, root)
    assert same == longer
    assert control.spend.rollouts >= same.spend.rollouts
    assert control.control == "best-of-n"
    assert control.generations == longer.generations[:1]
    assert control.best.train >= max(g.train.mean for g in generations(root, longer)[:1])
    fresh = [step for step, _ in done_steps(root)[count:]]
    assert not {"scaffold synth", "feedback", "train-LoRA"} & set(fresh)


def test_a_stop_is_obeyed_between_steps_and_the_run_goes_on_from_there(spec: Path) -> None:
    class Asks(Silent):
        def step_started(self, name: str, label: str, total: int | None) -> None:
            if name == "feedback":
                stop.ask()

    stop = Stop()
    with pytest.raises(Interrupted, match="the same command again goes on"):
        run_here(spec, watcher=Asks(), stop=stop)
    root = spec.parents[1]
    last = done_steps(root)[-1]
    assert last[0] == "feedback"
    before = records(root)
    run_here(spec)
    unchanged(before, root)


@pytest.mark.parametrize(
    ("budget", "spend", "word"),
    [
        ({}, Spend(rollouts=10**9, prompt_tokens=10**9), None),
        ({"rollouts": 10}, Spend(rollouts=9), None),
        ({"rollouts": 10}, Spend(rollouts=10), "budget.rollouts"),
        ({"tokens": 10}, Spend(prompt_tokens=4, completion_tokens=5), None),
        ({"tokens": 10}, Spend(prompt_tokens=4, completion_tokens=6), "budget.tokens"),
        ({}, Spend(usd=0.01), "budget.usd"),
        ({"usd": 0.0}, Spend(), None),
        ({"usd": 0.0}, Spend(usd=0.01), "budget.usd"),
        ({"usd": 5.0}, Spend(usd=4.99), None),
        ({"usd": 5.0}, Spend(usd=5.0), "budget.usd"),
        ({"usd": "unlimited"}, Spend(usd=1e9), None),
    ],
)
def test_which_limit_is_reached(budget: dict[str, object], spend: Spend, word: str | None) -> None:
    assert spent(Budget(**budget), spend) == word


def test_a_budget_ends_an_arm(spec: Path) -> None:
    """Each limit in one project: generation 0 is shared, so each case costs its closing steps only."""
    root = spec.parents[1]
    ended = {}
    for limit in ("rollouts=1", "tokens=1"):
        (result,) = run_here(spec, f"budget.{limit}", "budget.generations=5")
        ended[limit] = result.stopped, len(result.generations)
    assert ended == {"rollouts=1": ("budget.rollouts", 1), "tokens=1": ("budget.tokens", 1)}
    (experiment,) = load_experiments(spec, ["budget.usd=2"])
    with Lab(experiment, root, Store(Project(root).store)) as lab:
        state = ArmState(experiment.spec.arms[0], 0, spend=Spend(usd=2.0))
        assert improve(lab, run_local, state).stopped == "budget.usd"


def test_wall_time_ends_an_arm_until_there_is_more_of_it(spec: Path) -> None:
    root = spec.parents[1]
    (short,) = run_here(spec, "budget.wall=0.001s", "budget.generations=2", "seeds=[0]")
    assert (short.stopped, len(short.generations)) == ("budget.wall", 1)
    log, before = journal(root), records(root)
    assert run_here(spec, "budget.wall=0.001s", "budget.generations=2") == [short]
    assert journal(root) == log
    (longer,) = run_here(spec, "budget.wall=1h", "budget.generations=1")
    assert (longer.stopped, len(longer.generations)) == ("budget.generations", 2)
    assert longer.generations[:1] == short.generations
    unchanged(before, root)


def test_the_gate_refuses_what_is_not_better(spec: Path) -> None:
    """Kept is what gains more than ten standard errors; the next generation grows from the last one kept."""
    (result,) = run_here(spec, "accept={gate: paired, k: 10}", "budget.generations=2")
    made = generations(spec.parents[1], result)
    assert made[0].accepted
    for generation in made[1:]:
        decided = generation.gain > 10 * generation.gain_se and generation.gain > 0
        assert generation.accepted == (decided and min(generation.guards.values(), default=0) >= 0)
        best = [g for g in made[: generation.index] if g.accepted][-1]
        assert generation.parent == best.id
        assert f"{generation.gain:+.4f}" in generation.verdict
    assert result.incumbent == [g for g in made if g.accepted][-1].id
