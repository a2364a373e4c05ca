"""`sia-flow compare`: the arms of an experiment beside each other, with intervals and a verdict in words."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from sia_flow.cli.apply import WIDTH

if TYPE_CHECKING:
    from sia_flow.lineage.results import ArmResult
    from sia_flow.plan.project import Project
    from sia_flow.report.published import Cited
    from sia_flow.report.spending import Price
    from sia_flow.spec.models import Experiment


class Found(NamedTuple):
    """One experiment that is compared."""

    name: str
    results: list[ArmResult]
    wanted: int
    """Arms times seeds."""
    spec: dict[str, Any]
    """Resolved, JSON; empty where nothing was kept."""
    project: Project
    experiment: Experiment | None = None
    """Where a spec file was given."""

    @property
    def theirs(self) -> Cited | None:
        """What others published for its task, where its label asks for that."""
        from sia_flow.report.published import published_for

        task = self.spec["spec"]["task"]["name"] if self.spec else ""
        return published_for(self.project.root, self.spec.get("metadata", {}), task)

    @property
    def price(self) -> Price | None:
        """What a spend costs in dollars, agents and policy; none where the policy has no price in the spec."""
        from pydantic import ValidationError

        from sia_flow.loop.equal import dollars, policy_rate
        from sia_flow.spec.models import Experiment

        try:
            rate = policy_rate(Experiment.model_validate_json(json.dumps(self.spec)).spec)
        except ValidationError:
            # Nothing was kept, or by a version that spelt it otherwise: what is recorded is compared all the same.
            return None
        return (lambda spend: dollars(spend, rate)) if rate else None


def command(
    spec: Annotated[str, typer.Argument(metavar="SPEC|NAME", help="A spec file, or an experiment's name.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Override a field: a.b=value.")] = None,
    *,
    grid: Annotated[bool, typer.Option("--grid", help="Every scaffold on every adapter; says its cost first.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Measure what is missing of the grid, unasked.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Compare the finished arms: a table, and for two arms the difference with its interval. Exit code 2 while an arm
    is missing.

    A name compares what is recorded; a spec file compares what it asks for, planned anew where the file has changed
    since it was applied. With --grid (a spec file alone) every scaffold of an arm that trained is measured on each of
    its adapters, on select, and what the best pair loses when one part is swapped for its neighbour in the lineage;
    what is missing runs after a yes, and is kept.

    Examples: sia-flow compare denoise; sia-flow compare specs/denoise.yaml --set 'spec.seeds=[4,5,6]'
    """
    complete = True
    by_file = Path(spec).suffix in (".yaml", ".yml", ".json") or Path(spec).is_file() or overrides
    found = _of_file(Path(spec), overrides or []) if by_file else _of_name(spec)
    for one in found:
        complete = complete and len(one.results) == one.wanted
        if as_json:
            typer.echo(json.dumps(_json(one)))
        else:
            _show(one)
        if grid:
            complete = _grid(one, yes=yes, as_json=as_json) and complete
    raise typer.Exit(0 if complete else 2)


def _json(one: Found) -> dict[str, Any]:
    rows = [result.model_dump(mode="json") for result in one.results]
    found: dict[str, Any] = {"experiment": one.name, "arms": rows, "verdicts": _verdicts(one.results)}
    if one.price is not None:
        found["usd"] = {f"{r.arm} seed {r.seed}": one.price(r.spend) for r in one.results}
    if one.theirs is None:
        return found
    title, theirs = one.theirs
    return found | {"published": {"title": title, **theirs.model_dump(mode="json")}}


def _show(one: Found) -> None:
    from rich.console import Console

    from sia_flow.cli.render import print_final, print_rows
    from sia_flow.report.published import caveats
    from sia_flow.report.spending import spending_table, spending_words

    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    print_final(console, f"{one.name}: all arms", one.results, one.theirs[1] if one.theirs else None)
    print_rows(console, "score against spend, means over seeds", spending_table(one.results, one.price))
    notes = [*(caveats(*one.theirs) if one.theirs else ()), *spending_words(one.results, one.price)]
    for words in (*notes, *_verdicts(one.results)):
        console.print(words, markup=False, highlight=False, soft_wrap=True)


def _grid(one: Found, *, yes: bool, as_json: bool) -> bool:
    from sia_flow.cli.grid import run_grid
    from sia_flow.errors import SpecError

    if one.experiment is None:
        raise SpecError(f"--grid runs what is missing, and so needs the spec file of {one.name}, not its name alone")
    return run_grid(one.project, one.experiment, one.results, yes=yes, as_json=as_json)


def _verdicts(results: Sequence[ArmResult]) -> list[str]:
    from sia_flow.cli.verdicts import verdicts

    return verdicts(results)


def _of_name(name: str) -> Iterator[Found]:
    """Yield the recorded results of an experiment and how many its last spec asks for."""
    from sia_flow.cli.lookup import of_experiment, open_store

    project, store = open_store(None)
    heads = of_experiment(store, name)
    results = [store.arm(head.result) for head in heads if head.result]
    wanted = {(head.arm, head.seed) for head in heads}
    for head in heads:
        if head.spec:
            inner = head.spec["spec"]
            wanted |= {(arm["name"], seed) for arm in inner["arms"] for seed in inner["seeds"]}
    spec = next((dict(head.spec) for head in heads if head.spec), {})
    yield Found(name, [result for result in results if result], len(wanted), spec, project)


def _of_file(spec: Path, overrides: list[str]) -> Iterator[Found]:
    from sia_flow.plan.project import Project
    from sia_flow.spec.load import load_experiments, resolved_json

    experiments = load_experiments(spec, overrides)
    project = Project.find(spec)
    for experiment in experiments:
        wanted = len(experiment.spec.arms) * len(experiment.spec.seeds)
        results = _recorded(project, experiment)
        results = _planned(project, experiment) if results is None else results
        yield Found(experiment.metadata.name, results, wanted, resolved_json(experiment), project, experiment)


def _recorded(project: Project, experiment: Experiment) -> list[ArmResult] | None:
    """Return the results that were recorded for this very spec, None where one of them must be planned for."""
    from sia_flow.lineage.heads import read_head
    from sia_flow.lineage.store import Store
    from sia_flow.spec.arms import run_order
    from sia_flow.spec.identity import resolved_json

    if not project.store.is_dir():
        return None
    store, asked = Store(project.store), resolved_json(experiment)
    results = []
    for seed in experiment.spec.seeds:
        for arm in run_order(experiment.spec.arms):
            head = read_head(store, experiment.metadata.name, arm.name, seed)
            result = store.arm(head.result) if head and head.result and _same(head.spec, asked) else None
            if result is None:
                return None
            results.append(result)
    return results


def _same(recorded: object, asked: object) -> bool:
    """Say whether two resolved specs ask for the same of an arm and seed that both have."""
    apart = {"arms", "seeds", "schedule", "track"}

    def kept(spec: object) -> object:
        inner = spec.get("spec", {}) if isinstance(spec, dict) else {}
        return {name: value for name, value in inner.items() if name not in apart}

    return kept(recorded) == kept(asked)


def _planned(project: Project, experiment: Experiment) -> list[ArmResult]:
    from sia_flow.cli.recorded import use_project
    from sia_flow.cli.workbench import plan_all

    use_project(project)
    return [plan.result for plan in plan_all(project, experiment) if plan.result is not None]
