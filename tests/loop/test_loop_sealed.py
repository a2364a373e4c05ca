"""The sealed split: nothing but the closing code reaches it, it is read once an arm, and what follows is on record."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flows.local import run_experiment
from sia_flow.cli.main import main
from sia_flow.errors import SealedError
from sia_flow.lineage.readings import all_readings
from sia_flow.lineage.store import Store
from sia_flow.loop.events import Silent
from sia_flow.loop.lab import Lab
from sia_flow.spec.load import load_experiments
from sia_flow.verify.apart import process, wire
from tests.flows.world import records

ROOT = Path(__file__).parents[2] / "sia_flow"


class Notes(Silent):
    """Writes the generations among the splits that the verifier was asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warnings: list[str] = []

    def generation(self, arm: str, generation: Any) -> None:
        with self.path.open("a") as file:
            file.write(f"generation {generation.index}\n")

    def warning(self, text: str) -> None:
        self.warnings.append(text)


@pytest.mark.slow
def test_sealed_is_read_once_at_the_end_and_again_only_with_a_word(
    spec: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = spec.parents[1]

    def told(header: Mapping[str, Any], *rest: Any) -> list[memoryview]:
        with (root / "asked").open("a") as file:
            file.write("sealed\n" if "sealed" in json.dumps(header) else f"{header.get('do')}\n")
        return wire.pack(header, *rest)

    # All that is ever said to the process that has the sealed rows.
    monkeypatch.setattr(process, "pack", told)
    (once,), (longer,) = load_experiments(spec), load_experiments(spec, ["budget.generations=2"])
    notes = Notes(root / "asked")
    (first,) = run_experiment(once, root, notes)
    asked = (root / "asked").read_text().split("\n")
    assert {"instances", "score", "sealed"} <= {*asked}
    assert asked.index("sealed") > asked.index("generation 1")
    store = Store(root / ".sia-flow/store")
    (reading,) = all_readings(store)
    assert (reading.key, reading.number, reading.arm) == (first.key, 1, "SIA-H")
    nothing_tells(root, store)

    run_experiment(once, root, notes)
    before = records(root)
    with pytest.raises(SealedError, match="SIA-H seed 0 has read its sealed split already \\(once before\\)"):
        run_experiment(longer, root, notes)
    assert (records(root), len(all_readings(store)), notes.warnings) == (before, 1, [])

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////dev/null/no")
    set_ = ("--engine", "local", "--set", "budget.generations=2")
    monkeypatch.setattr("sys.argv", ["sia-flow", "apply", str(spec), *set_, "--read-sealed-again"])
    with pytest.raises(SystemExit) as ended:
        main()
    said = "".join(capsys.readouterr())
    assert ended.value.code == 0, said
    assert "may read its sealed split again; this stays on record" in said
    assert before.items() <= records(root).items()
    again = next(arm for arm in store.arms() if arm.key != first.key)
    later = [one for one in all_readings(store) if one.key == again.key]
    # An incumbent that stayed was measured already: that is no reading.
    assert (again.reading, len(later)) == ((2, 1) if again.incumbent != first.incumbent or later else (1, 0))


def nothing_tells(root: Path, store: Store) -> None:
    """No decision, no generation and no train trajectory knows a sealed instance by name."""
    for path, data in records(root, "generations", "steps").items():
        step = re.search(rb'"step":"([a-zA-Z -]+)"', data)
        if step is None or step.group(1) in (b"feedback", b"scaffold edit", b"scaffold synth", b"train-LoRA"):
            assert b"sealed/" not in data, path
    for generation in store.generations():
        assert "sealed/" not in store.objects.get_text(generation.trajectories)


def test_a_lab_gives_no_sealed_instance_outside_of_a_reading(spec: Path) -> None:
    (experiment,) = load_experiments(spec)
    told: list[str] = []
    with Lab(experiment, spec.parents[1], Store(spec.parents[1] / ".sia-flow/store")) as lab:
        with pytest.raises(SealedError, match="outside of a reading"):
            lab.instances("sealed", 1)
        with lab.unsealed(lambda: told.append("noted")):
            assert lab.instances("sealed", 1)
        with pytest.raises(SealedError, match="outside of a reading"):
            lab.instances("sealed", 1)
    assert told == ["noted"]


READERS = {"loop/arm.py", "loop/control.py", "loop/evaluate.py", "loop/finish.py", "loop/lab.py", "loop/sealed.py"}
SEARCH = ("agents", "rollout", "training", "policy", "scaffold", "providers", "track", "sandbox", "loop")


def test_no_module_of_the_search_names_the_sealed_split() -> None:
    """In code, that is: as the name of a split, or of what reads it. Words in docstrings and figures of results may."""
    found = set()
    for package in SEARCH:
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.parse(path.read_text())
            texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
            names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
            if "sealed" in texts or names & {"sealed_scorer", "sealed_sample", "unsealed", "sealed_reading"}:
                found.add(path.relative_to(ROOT).as_posix())
    assert found <= READERS, found - READERS
