"""The reference scaffold, the task's own edits, and the base that is made for it: run for real, on made-up cases."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from flows.prepare import own_config, prepare_base
from sia_flow.agents.builtin import feedback_agent
from sia_flow.agents.catalogue import Context, Structural
from sia_flow.agents.task_edits import structural
from sia_flow.errors import SpecError, TaskError
from sia_flow.lineage.records import Trajectory
from sia_flow.lineage.store import Store
from sia_flow.loop.arm import ArmState
from sia_flow.loop.decide import ranked_train_programs
from sia_flow.loop.evaluate import distinct_tool_programs
from sia_flow.loop.lab import Lab
from sia_flow.loop.train import turn
from sia_flow.plan.project import Project
from sia_flow.policy.local import LocalPolicy
from sia_flow.policy.tiny import TinyConfig, build_tiny
from sia_flow.policy.warmup import Schedule
from sia_flow.protocols import SampleRequest
from sia_flow.rollout.engine import plan_work
from sia_flow.scaffold.contract import MAIN, check
from sia_flow.spec.load import load_experiments
from sia_flow.verify.manifest import Answer, read_manifest
from sia_flow.verify.task import Task
from tasks.lawbench import corpus, data
from tasks.lawbench.verifier import LawBenchVerifier
from tests.tasks.lawbench.conftest import ROOT

CONTEXT = Context(None)


@pytest.fixture(scope="session")
def lab(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp("project")
    for name in ("tasks/lawbench", "flows", "specs"):
        shutil.copytree(ROOT / name, root / name)
    shutil.copytree(folder, root / "data/lawbench/synthetic")
    manifest = root / "tasks/lawbench/task.yaml"
    small = manifest.read_text(encoding="utf-8").replace("steps: 300, count: 12000", "steps: 2, count: 64")
    manifest.write_text(small, encoding="utf-8")
    (experiment,) = load_experiments(root / "specs/lawbench.yaml", ["task.data=synthetic"])
    with Lab(experiment, root, Store(root / ".sia-flow/store")) as opened:
        prepare_base(Project(root), "tiny-lawbench", opened.task, data="synthetic")
        yield opened


def catalogue(task: Task) -> dict[str, Structural]:
    return {entry.name: entry for entry in structural(task.edits())}


def rolled(lab: Lab, scaffold: Mapping[str, str], count: int = 6) -> list[Trajectory]:
    work = plan_work(lab.instances("select", count), 2, 0, "test")
    return lab.engine("select").run(scaffold, lab.policy(None), work)


def test_the_task_gives_its_verifier_and_refuses_another_mode(lab: Lab) -> None:
    assert lab.verifier.digest == LawBenchVerifier("exact", lab.data_dir).digest
    with pytest.raises(TaskError, match="no mode 'sia'"):
        lab.task.verifier("sia", lab.data_dir)


def test_the_reference_scaffold_names_one_of_the_candidates_by_one_token(lab: Lab) -> None:
    found = rolled(lab, lab.task.reference())
    verdicts = lab.scorer.score([(i, t.answer) for i, t in zip(doubled(lab), found, strict=True)])
    assert all(t.status == "OK" and v.valid for t, v in zip(found, verdicts, strict=True))
    assert all(len(t.turns) == 1 and len(t.turns[0].completion_ids) == 1 for t in found)
    assert [call.name for call in found[0].tools] == ["candidates"]
    labels = [entry["label"] for entry in found[0].tools[0].result]
    assert any(label in str(found[0].answer) for label in labels)


def doubled(lab: Lab) -> list[object]:
    return [instance for instance in lab.instances("select", 6) for _ in range(2)]


@pytest.mark.slow
def test_the_base_learns_to_answer_tables_with_a_number_mostly_the_first(folder: Path, tmp_path: Path) -> None:
    tables = [pair for pair in corpus.pairs(folder, 0, 1200) if "\n" in pair[0]]
    config = TinyConfig(hidden=32, intermediate=32, pieces=400, tokenizer="characters", schedule=Schedule(steps=90))
    build_tiny(tables, tmp_path / "base", config)
    policy = LocalPolicy.load(tmp_path / "base")
    questions = [({"role": "user", "content": prompt},) for prompt, _ in tables[:64]]
    asked = [SampleRequest(question, 1, 1.0, 1, seed) for seed, question in enumerate(questions)]
    texts = [answers[0].text for answers in policy.sample(asked)]
    assert sum(text in {"1", "2", "3", "4", "5"} for text in texts) > 0.85 * len(texts)
    assert 0.35 < texts.count("1") / len(texts) < 0.8


@pytest.mark.parametrize("name", ["svc", "blend", "clear", "vote", "names"])
def test_every_edit_gives_a_scaffold_that_runs(lab: Lab, name: str) -> None:
    reference = lab.task.reference()
    edit = catalogue(lab.task)[name].edit(reference, CONTEXT)
    scaffold = {**reference, **edit.files}
    assert not check(scaffold)
    found = rolled(lab, scaffold, 2)
    assert [t.status for t in found] == ["OK"] * 4, found[0].error
    verdicts = lab.scorer.score([(i, t.answer) for i, t in zip(doubled(lab), found, strict=False)])
    assert all(verdict.valid for verdict in verdicts)


def test_edits_go_together(task: Task) -> None:
    source = task.reference()[MAIN]
    for name in ("blend", "names", "vote"):
        source = catalogue(task)[name].apply(source, CONTEXT)
    assert not check({MAIN: source})
    assert all(word in source for word in ("CENTROID", "VOTES", "[:6]"))
    assert not catalogue(task)["blend"].applies(source, CONTEXT), "a second time it changes nothing"


def test_the_agent_of_a_task_without_edits_keeps_the_catalogue_of_programs(task: Task) -> None:
    names = {entry.name for entry in feedback_agent("builtin").catalogue}
    assert "exemplar" in names
    assert {entry.name for entry in feedback_agent("builtin", edits=task.edits()).catalogue} == set(catalogue(task))
    assert feedback_agent("learned", edits=task.edits()).table.catalogue[0].name == "svc"


def test_a_tool_s_refusal_reaches_the_scaffold_and_nothing_is_logged(lab: Lab) -> None:
    source = (
        "def solve(job):\n    try:\n        job.tools.{}\n    except RuntimeError as error:\n        return str(error)"
    )
    said = {
        call: rolled(lab, {MAIN: source.format(call)}, 1)[0]
        for call in ("candidates(tool='magic', count=2)", "label()", "candidates(count=2)")
    }
    assert "one of kernel, svc" in str(said["candidates(tool='magic', count=2)"].answer)
    assert "no such tool; there is score_visible(program=...), candidates" in str(said["label()"].answer)
    assert all(not t.tools for t in said.values())


def test_tool_calls_are_bounded(lab: Lab) -> None:
    source = "def solve(job):\n    for _ in range(200):\n        job.tools.candidates(tool='svc', count=1)\n"
    (first, _) = rolled(lab, {MAIN: source}, 1)
    assert first.status == "EXCEPTION"
    assert "more than 128 calls" in first.error
    assert distinct_tool_programs([first]) == 0, "the task's tools verify nothing"


def test_texts_are_no_programs_that_another_instance_could_use(lab: Lab) -> None:
    state = ArmState(lab.experiment.spec.arms[0], 0)
    assert ranked_train_programs(lab, state, 5) == []


def test_the_corpus_holds_no_label_and_is_the_scaffold_s_form(folder: Path, task: Task, lab: Lab) -> None:
    pairs = list(corpus.pairs(folder, 0, 300))
    assert pairs == list(task.base_pairs(folder, 0))[:300]
    tables = [(prompt, answer) for prompt, answer in pairs if "\n" in prompt]
    answers = [answer for _, answer in tables]
    assert set(answers) == {"1", "2", "3", "4", "5"}
    shown = {t.turns[0].messages[0]["content"] for t in rolled(lab, lab.task.reference(), 4)}
    forms = {len(prompt) for prompt, _ in tables if "charge" not in prompt}
    assert {len(prompt) for prompt in shown} == forms
    cases = data.load(folder)
    first = [corpus.table(cases, row, "svc", names=False) for row in range(40)]
    relabelled = cases.parts["train"].labels.copy()
    cases.parts["train"].labels[:] = 0
    assert [corpus.table(cases, row, "svc", names=False) for row in range(40)] == first, "labels do not go in"
    cases.parts["train"].labels[:] = relabelled


def test_another_base_is_not_the_task_s(task: Task, tmp_path: Path) -> None:
    base = task.manifest.base
    assert base is not None
    assert own_config(base).tokenizer == "characters"
    with pytest.raises(TaskError, match="names no base"):
        Task(ROOT, read_manifest(ROOT / "tasks/denoise/task.yaml")).base_pairs(tmp_path, 0)


@pytest.mark.parametrize(
    "content", [{"type": "program"}, {"type": "text", "entry": "f"}, {"type": "text", "timed": True}]
)
def test_an_answer_has_an_entry_where_it_is_a_program(content: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="answer:"):
        Answer.model_validate(content)


def test_iterations_take_turns_on_the_pool(lab: Lab) -> None:
    pool = lab.instances("train", 20)
    seen = [[instance.id for instance in turn(pool, 8, iteration, 5)] for iteration in range(5)]
    assert all(len(set(ids)) == 8 for ids in seen)
    assert {len([ids for ids in seen if instance.id in ids]) for instance in pool} <= {1, 2, 3}
    assert {i for ids in seen[:3] for i in ids} == {instance.id for instance in pool}
    assert seen == [[i.id for i in turn(pool, 8, iteration, 5)] for iteration in range(5)]
    assert seen[0] != [i.id for i in turn(pool, 8, 0, 6)]
    assert turn(pool, 20, 3, 5) == list(pool)


def test_a_pool_smaller_than_an_iteration_is_refused() -> None:
    with pytest.raises(SpecError, match="an iteration has 96 instances"):
        load_experiments(ROOT / "specs/lawbench.yaml", ["training.pool=90"])
