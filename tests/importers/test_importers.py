from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sia_flow.errors import TaskError
from sia_flow.foreign.base import ForeignVerifier
from sia_flow.importers.layout import lay_out
from sia_flow.importers.read_foreign import Options, read
from sia_flow.protocols import Instance, Verifier
from sia_flow.scaffold.contract import check as check_scaffold
from sia_flow.spec.load import load_experiments
from sia_flow.verify.apart.client import ApartVerifier
from sia_flow.verify.task import Task, load_task


def take(project: Path, kind: str, path: Path, **options: object) -> tuple[Task, ApartVerifier]:
    found = read(kind, path, Options(**options))
    lay_out(found, project)
    task = load_task(project, found.name)
    assert check_scaffold(task.reference()) == []
    (experiment,) = load_experiments(project / "specs" / f"{found.name}.yaml", [])
    assert experiment.spec.task.name == found.name
    assert len(list(task.base_pairs(task.data_dir(project), 0))) == task.manifest.base.count
    verifier = task.verifier(None, task.data_dir(project))
    assert isinstance(here(verifier), ForeignVerifier)
    assert (verifier.digest, verifier.data_digest) == (here(verifier).digest, here(verifier).data_digest)
    return task, verifier


def here(verifier: ApartVerifier) -> Verifier:
    """Return the same verifier in this process."""
    place = verifier.place
    return load_task(place.root, place.task).build(place.mode, place.data)


def first(verifier: ApartVerifier, split: str = "train") -> Instance:
    return verifier.instances(split, 1, 0)[0]


def guess(value: object) -> str:
    return f"def guess():\n    return {value}\n"


def test_an_openevolve_evaluator_scores_programs(project: Path, evolve_folder: Path) -> None:
    task, verifier = take(project, "openevolve", evolve_folder)
    one = first(verifier)
    assert one.public["program"].startswith("# EVOLVE-BLOCK-START")
    verdict = verifier.score_text(one, guess(3))
    assert (verdict.reward, verdict.valid, verdict.feedback) == (1.0, True, "hint: go on")
    assert verifier.score_text(one, guess(1)).reward == pytest.approx(1 / 3)
    assert verifier.score_text(one, "def guess(:").reason == "exception"
    assert verifier.score_text(one, " ").reason == "no_answer"
    assert verifier.score_text(one, "import os\nos._exit(0)").reason == "bad_result"
    assert "forge" in json.loads((task.folder / "origin.json").read_text())["notes"][0]


def test_the_reward_of_an_openevolve_task_may_be_named(project: Path, evolve_folder: Path) -> None:
    _, mean = take(project, "openevolve", evolve_folder, metric="mean", name="mean")
    _, other = take(project, "openevolve", evolve_folder, metric="nothing", name="other")
    assert mean.score_text(first(mean), guess(3)).reward == pytest.approx(0.75)
    refused = other.score_text(first(other), guess(3))
    assert (refused.valid, refused.reason) == (False, "no_metric")
    assert mean.digest != other.digest


def test_a_shinka_evaluator_validates_and_scores(project: Path, shinka_folder: Path) -> None:
    _, verifier = take(project, "shinka", shinka_folder)
    one = first(verifier)
    verdict = verifier.score_text(one, guess(2))
    assert (verdict.reward, verdict.metrics["runs"]) == (4.0, 2.0)
    wrong = verifier.score_text(one, guess(6))
    assert (wrong.valid, wrong.reason, wrong.reward) == (False, "incorrect", 0.0)
    assert "above five" in wrong.feedback


def test_an_inspect_task_keeps_its_scorer(project: Path, inspect_file: Path) -> None:
    _, sums = take(project, "inspect", Path(f"{inspect_file}@sums"))
    _, near = take(project, "inspect", Path(f"{inspect_file}@near"))
    one = first(sums)
    right = here(sums).rows[one.id.partition("/")[2]]["answer"]
    assert one.public["question"]["input"].startswith("What is")
    assert right not in json.dumps(dict(one.public)).replace(one.public["question"]["input"], "")
    assert sums.score_text(one, f"It is {right}.").reward == 1.0
    assert sums.score_text(one, "It is a number.").reward == 0.0
    twin = first(near)
    target = float(here(near).rows[twin.id.partition("/")[2]]["answer"])
    assert near.score_text(twin, str(target + 1)).reward == pytest.approx(0.9)
    assert near.score_text(twin, "no number").reason == "exception"
    assert sums.score_text(sums.visible(one), right).reason == "not_scorable"


def test_an_mle_bench_grader_never_meets_the_program(project: Path, competition: Path) -> None:
    _, verifier = take(project, "mle-bench", competition)
    one = first(verifier)
    head = "import pandas as pd\ntest = pd.read_csv('test.csv')\n"
    write = "test[['id', 'y']].to_csv('submission.csv', index=False)\n"
    assert here(verifier).lower_is_better
    assert verifier.score_text(one, f"{head}test['y'] = 2 * test['x']\n{write}").reward == 1.0
    off = verifier.score_text(one, f"{head}test['y'] = 2 * test['x'] + 1\n{write}")
    assert (off.reward, off.metrics["score"]) == (0.5, 1.0)
    short = verifier.score_text(one, f"{head}test['y'] = 0\ntest = test[:3]\n{write}")
    assert (short.reason, short.valid) == ("invalid", False)
    twice = verifier.score_text(one, f"{head}test['y'] = 0\ntest = pd.concat([test, test])\n{write}")
    assert "twice" in twice.feedback
    assert verifier.score_text(one, "x = 1\n").feedback == "the program wrote no submission.csv"
    spy = "from pathlib import Path\nassert [p for p in Path('/tmp').rglob('*') if 'answer' in p.name]\n"
    assert "AssertionError" in verifier.score_text(one, spy).feedback
    splits = [set(here(verifier)._meta["splits"][name]) for name in ("train", "select", "sealed")]
    assert sum(map(len, splits)) == len(set.union(*splits)) == 40


def test_a_sia_agent_folder_becomes_rows(project: Path, sia_folder: Path) -> None:
    task, verifier = take(project, "sia-agent", sia_folder, name="evenodd")
    rows = here(verifier).rows
    assert sum(row["split"] == "sealed" for row in rows.values()) == 40
    assert "train-3" not in rows
    one = first(verifier, "sealed")
    answer = rows[one.id.partition("/")[2]]["answer"]
    assert set(one.public) == {"task", "question", "labels"}
    assert verifier.score_text(one, f" {answer}\n").reward == 1.0
    assert verifier.score_text(one, "neither").reason == "unknown_label"
    assert verifier.score_text(one, "x" * 20_000).reason == "too_long"
    notes = json.loads((task.folder / "origin.json").read_text())["notes"]
    assert "1 labelled rows have the text of a test row and were left out" in notes
    data = task.data_dir(project) / "rows.jsonl"
    data.write_text(data.read_text().replace("odd", "even"))
    with pytest.raises(TaskError, match=r"not what meta\.json describes"):
        first(task.verifier(None, data.parent))


def test_nothing_is_laid_out_twice(project: Path, evolve_folder: Path) -> None:
    found = read("openevolve", evolve_folder)
    lay_out(found, project)
    with pytest.raises(TaskError, match="is there already; remove it, or give another --name"):
        lay_out(found, project)


def spoil(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


def test_folders_that_lack_something_say_what(evolve_folder: Path, shinka_folder: Path, tmp_path: Path) -> None:
    (evolve_folder / "initial_program.py").unlink()
    spoil(shinka_folder / "evaluate.py", "--program_path", "--program")
    for kind, path, words in (
        ("openevolve", evolve_folder, r"no program to begin with \(--seed FILE\); looked for initial_program.py"),
        ("shinka", shinka_folder, "no evaluator of shinka"),
        ("openevolve", tmp_path / "gone", "does not exist"),
        ("sia-agent", evolve_folder, "no sia-agent task: it has no data/public"),
        ("inspect", evolve_folder, "no Python file with an Inspect task"),
        ("mle-bench", evolve_folder, "no grader: it has no `def grade"),
    ):
        with pytest.raises(TaskError, match=words):
            read(kind, path)
    with pytest.raises(TaskError, match="cannot name a task"):
        read("openevolve", evolve_folder, Options(name="No Name", seed="evaluator.py"))


def test_an_inspect_task_that_cannot_be_taken_over_says_why(inspect_file: Path) -> None:
    for name, words in (
        ("judged", r"its scorer asks a model.*\[model_scorer\]"),
        ("gone", r"no task 'gone'; it has judged, near, sums"),
        ("", "several tasks; name one of"),
    ):
        with pytest.raises(TaskError, match=words):
            read("inspect", Path(f"{inspect_file}@{name}"))
    spoil(inspect_file, 'json_dataset("sums.jsonl"', 'hf_dataset("owner/sums"')
    spoil(inspect_file, "FieldSpec, json_dataset", "FieldSpec, hf_dataset")
    with pytest.raises(TaskError, match="'owner/sums' is on a hub; save it beside the task file"):
        read("inspect", Path(f"{inspect_file}@sums"))


def test_a_competition_without_direction_or_data_is_refused(competition: Path) -> None:
    (competition / "leaderboard.csv").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(TaskError, match=r"give --direction maximize or minimize \[missing_direction\]"):
        read("mle-bench", competition)
    assert read("mle-bench", competition, Options(direction="maximize")).settings["lower_is_better"] is False
    spoil(competition / "prepared/private/test.csv", "id,y", "key,y")
    with pytest.raises(TaskError, match=r"no column 'id'.*\[bad_ids\]"):
        read("mle-bench", competition, Options(direction="minimize"))
    shutil.rmtree(competition / "prepared/private")
    with pytest.raises(TaskError, match=r"give --answers FILE\.csv \[missing_data\]"):
        read("mle-bench", competition)


def test_sia_tables_that_are_wrong_are_refused(sia_folder: Path) -> None:
    private = sia_folder / "data/private/test.csv"
    rows = private.read_text()
    for content, words in (
        ("", "holds no rows"),
        (rows.replace("2,", "1,"), "no column is different in every row"),
        (rows + "41\n", "not as many fields"),
        (rows.replace("label", "text"), "no column that the public data lack"),
    ):
        private.write_text(content)
        with pytest.raises(TaskError, match=words):
            read("sia-agent", sia_folder)
    private.write_text(rows)
    with pytest.raises(TaskError, match="no column 'kind'; it has id, label: give --label"):
        read("sia-agent", sia_folder, Options(label="kind"))
