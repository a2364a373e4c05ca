"""Tiny tasks of our own in the formats of other systems."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

EVALUATOR = """import importlib.util
from openevolve.evaluation_result import EvaluationResult

def evaluate(program_path):
    spec = importlib.util.spec_from_file_location("program", program_path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    value = float(program.guess())
    return EvaluationResult({"combined_score": 1 / (1 + abs(value - 3)), "seconds": 0.5}, {"hint": "go on"})
"""
SEED = """# EVOLVE-BLOCK-START
def guess():
    return 1.0
# EVOLVE-BLOCK-END
"""
SHINKA = """import argparse
from shinka.core import run_shinka_eval

def main(program_path, results_dir):
    run_shinka_eval(
        program_path=program_path, results_dir=results_dir, experiment_fn_name="guess", num_runs=2,
        validate_fn=lambda value: (value <= 5, None if value <= 5 else "above five"),
        aggregate_metrics_fn=lambda values: {"combined_score": sum(values), "public": {"runs": len(values)}},
    )

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--program_path")
    parser.add_argument("--results_dir")
    given = parser.parse_args()
    main(given.program_path, given.results_dir)
"""
INSPECT = """from inspect_ai import Task, task
from inspect_ai.dataset import FieldSpec, json_dataset
from inspect_ai.scorer import Score, includes, match, model_graded_qa, scorer
from inspect_ai.solver import generate, system_message

@scorer(metrics=[])
def close():
    async def score(state, target):
        return Score(value=1.0 - abs(float(state.output.completion) - float(target.text)) / 10)
    return score

@task
def sums():
    rows = json_dataset("sums.jsonl", FieldSpec(input="q", target="a"))
    return Task(dataset=rows, solver=[system_message("Add."), generate()], scorer=match())

@task(name="near")
def near():
    return Task(dataset=json_dataset("sums.jsonl", FieldSpec(input="q", target="a")), scorer=close())

@task
def judged():
    return Task(dataset=json_dataset("sums.jsonl", FieldSpec(input="q", target="a")), scorer=model_graded_qa())
"""
GRADER = """import pandas as pd
from mlebench.grade_helpers import InvalidSubmissionError

def grade(submission: pd.DataFrame, answers: pd.DataFrame) -> float:
    if sorted(submission["id"]) != sorted(answers["id"]):
        raise InvalidSubmissionError("the ids are not those of the answers")
    both = answers.merge(submission, on="id", suffixes=("", "_given"))
    return float((both["y"] - both["y_given"]).abs().mean())
"""
SIA_EVALUATOR = """import argparse, csv, json
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--gen-dir", type=Path)
folder = parser.parse_args().gen_dir
truth = {r["id"]: r["label"] for r in csv.DictReader((Path(__file__).parents[1] / "private/test.csv").open())}
given = list(csv.DictReader((folder / "submission.csv").open()))
right = sum(truth.get(row["id"]) == row["label"] for row in given)
found = {"n_rows": len(given), "accuracy": right / len(given) if given else 0.0}
(folder / "results.json").write_text(json.dumps(found))
"""


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([list(header), *map(list, rows)])


def question(index: int) -> str:
    return f"Is the number {index} * 7 + {index % 3}, counted from one, an even number or is it not?"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for name in ("tasks", "flows", "specs"):
        (root / name).mkdir(parents=True)
    return root


@pytest.fixture
def evolve_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "guessing"
    folder.mkdir()
    (folder / "evaluator.py").write_text(EVALUATOR)
    (folder / "initial_program.py").write_text(SEED)
    return folder


@pytest.fixture
def shinka_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "shinking"
    folder.mkdir()
    (folder / "evaluate.py").write_text(SHINKA)
    (folder / "initial.py").write_text(SEED)
    return folder


@pytest.fixture
def inspect_file(tmp_path: Path) -> Path:
    folder = tmp_path / "inspecting"
    folder.mkdir()
    lines = [json.dumps({"q": f"What is {i} + {i}?", "a": str(2 * i)}) for i in range(30)]
    (folder / "sums.jsonl").write_text("\n".join(lines))
    (folder / "sums.py").write_text(INSPECT)
    return folder / "sums.py"


@pytest.fixture
def competition(tmp_path: Path) -> Path:
    folder = tmp_path / "line-fit"
    write_csv(folder / "prepared/public/train.csv", ("id", "x", "y"), ((f"r{i}", i, 2 * i) for i in range(20)))
    write_csv(folder / "prepared/public/test.csv", ("id", "x"), ((f"t{i}", i) for i in range(40)))
    write_csv(folder / "prepared/public/sample_submission.csv", ("id", "y"), ((f"t{i}", 0) for i in range(40)))
    write_csv(folder / "prepared/private/test.csv", ("id", "y"), ((f"t{i}", 2 * i) for i in range(40)))
    write_csv(folder / "leaderboard.csv", ("team", "score"), (("a", 0.1), ("b", 3.5)))
    (folder / "grade.py").write_text(GRADER)
    return folder


@pytest.fixture
def sia_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "even-odd"
    public, private = folder / "data/public", folder / "data/private"
    labels = ["even" if (8 * i) % 2 == i % 2 else "odd" for i in range(40)]
    write_csv(public / "test.csv", ("id", "text"), ((i, question(i)) for i in range(40)))
    write_csv(private / "test.csv", ("id", "label"), enumerate(labels))
    train = [(i, question(i + (0 if i == 3 else 100)), labels[i]) for i in range(40)]
    write_csv(folder / "data/training_data/train.csv", ("id", "text", "label"), train)
    (public / "task.md").write_text("Say of each number whether it is even or odd.")
    (public / "evaluate.py").write_text(SIA_EVALUATOR)
    (folder / "reference").mkdir()
    (folder / "reference" / "SAMPLES.md").write_text(f"An example: {question(5)} Answer: odd")
    return folder
