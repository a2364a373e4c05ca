"""The verifier, the tools, the probes, and the scorer of texts that stands before them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sia_flow.errors import TaskError
from sia_flow.protocols import Instance
from sia_flow.sandbox.open import open_sandbox
from sia_flow.verify.probes import assert_probes
from sia_flow.verify.task import Task
from sia_flow.verify.texts import MAX_CHARACTERS, TextScorer
from tasks.lawbench.data import DataSet
from tasks.lawbench.retrieval import TOOLS
from tasks.lawbench.tools import MOST, LawBenchTools
from tasks.lawbench.verifier import LawBenchVerifier, answer_file


@pytest.fixture(scope="session")
def scorer(task: Task, verifier: LawBenchVerifier) -> TextScorer:
    return TextScorer(task, verifier, open_sandbox(1))


@pytest.fixture
def case(verifier: LawBenchVerifier) -> Instance:
    return verifier.instances("train", 1, 0)[0]


def truth(verifier: LawBenchVerifier, case: Instance) -> int:
    return int(verifier.data.parts[case.split].labels[verifier.row(case)])


def test_the_right_charge_earns_one_and_another_nothing(verifier: LawBenchVerifier, case: Instance) -> None:
    right = truth(verifier, case)
    assert verifier.score_text(case, verifier.line(case, right)).reward == 1.0
    wrong = verifier.score_text(case, verifier.line(case, (right + 1) % 12))
    assert (wrong.reward, wrong.valid, wrong.reason, wrong.feedback) == (0.0, True, "ok", "wrong")


def test_splits_share_no_case_and_the_order_is_fixed(verifier: LawBenchVerifier) -> None:
    found = {split: verifier.instances(split, 1000, 0) for split in ("train", "select", "sealed")}
    assert {split: len(cases) for split, cases in found.items()} == {"train": 252, "select": 36, "sealed": 48}
    assert len({case.public["facts"] for cases in found.values() for case in cases}) == 336
    assert [c.id for c in verifier.instances("train", 7, 0)] == [c.id for c in found["train"][:7]]


def test_the_visible_twin_tells_the_form_alone(verifier: LawBenchVerifier, case: Instance) -> None:
    twin = verifier.visible(case)
    assert not twin.private
    said = {verifier.score_text(twin, verifier.line(case, number)).feedback for number in range(12)}
    assert len(said) == 1
    assert verifier.score_text(twin, "train-0").reason == "bad_line"


def test_a_file_is_scored_over_all_cases(verifier: LawBenchVerifier, cases: DataSet) -> None:
    part = cases.parts["sealed"]
    names = [f"sealed-{row}" for row in range(len(part.texts))]
    labels = [cases.classes[int(label)] for label in part.labels]
    assert verifier.score_file("sealed", answer_file(names, labels)).reward == 1.0
    half = verifier.score_file("sealed", answer_file(names[:24], labels[:24]))
    assert (half.reward, half.valid) == (0.5, True)
    doubled = verifier.score_file("sealed", answer_file([*names, names[0]], [*labels, labels[0]]))
    assert (doubled.reward, doubled.reason) == (0.0, "duplicate_id")


def test_baselines_are_what_the_tools_put_first(verifier: LawBenchVerifier, cases: DataSet) -> None:
    sealed = verifier.instances("sealed", 1000, 0)
    mean = sum(verifier.baselines(case)["tfidf svc"].reward for case in sealed) / len(sealed)
    part = cases.parts["sealed"]
    assert mean == pytest.approx(float((part.scores["svc"].argmax(axis=1) == part.labels).mean()))


def test_tools_answer_in_order_and_name_no_label(verifier: LawBenchVerifier, case: Instance) -> None:
    found = LawBenchTools(verifier).call("candidates", case, {"tool": "svc", "count": 4})
    scores = [entry["scores"]["svc"] for entry in found]
    assert scores == sorted(scores, reverse=True)
    assert [set(entry) for entry in found] == [{"label", "scores"}] * 4
    assert all(set(entry["scores"]) == set(TOOLS) for entry in found)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"tool": "svc"},
        {"tool": "magic", "count": 3},
        {"tool": "svc", "count": 0},
        {"tool": "svc", "count": MOST + 1},
        {"tool": "svc", "count": True},
        {"tool": "svc", "count": "3"},
        {"tool": "svc", "count": 3, "id": "sealed-1"},
    ],
)
def test_tools_refuse_what_they_do_not_know(
    verifier: LawBenchVerifier, case: Instance, params: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match="candidates takes tool, one of kernel, svc, centroid, nearest"):
        LawBenchTools(verifier).call("candidates", case, params)


def test_no_probe_pays(scorer: TextScorer, task: Task, case: Instance) -> None:
    verdicts = assert_probes(scorer, case, task.probes())
    assert {name: verdict.reason for name, verdict in verdicts.items()} == {
        "null": "no_answer",
        "empty": "empty",
        "header alone": "empty",
        "no charge": verdicts["no charge"].reason,
        "all ids at once": verdicts["all ids at once"].reason,
        "a label without an id": "bad_line",
        "not a CSV": "bad_line",
        "markup": "bad_line",
    }
    assert not any(verdict.valid for verdict in verdicts.values())


def test_the_scorer_reads_a_text_once_and_bounds_it(task: Task, verifier: LawBenchVerifier, case: Instance) -> None:
    scorer = TextScorer(task, verifier, open_sandbox(1))
    line = verifier.line(case, truth(verifier, case))
    found = scorer.score(
        [(case, line), (case, None), (case, line), (case, "x" * (MAX_CHARACTERS + 1)), (case, "\ud800")]
    )
    assert [verdict.reason for verdict in found] == ["ok", "no_answer", "ok", "too_long", "text"]
    assert scorer.verifications == 1
    assert TextScorer(task, verifier, open_sandbox(1), memo=scorer.memo).score([(case, line)])[0] == found[0]


@settings(max_examples=50, deadline=None)
@given(answer=st.text(max_size=200))
def test_any_text_gets_a_verdict(scorer: TextScorer, verifier: LawBenchVerifier, answer: str) -> None:
    case = verifier.instances("train", 1, 0)[0]
    (verdict,) = scorer.score([(case, answer)])
    assert verdict.reward == 0.0 or verdict.valid


def test_another_mode_or_case_is_refused(folder: Path, verifier: LawBenchVerifier, case: Instance) -> None:
    with pytest.raises(TaskError, match="no mode 'sia'"):
        LawBenchVerifier("sia", folder)
    stranger = Instance("denoise/0", "train", {"id": "sealed-0"}, {}, case.returns)
    with pytest.raises(TaskError, match="no case of lawbench"):
        verifier.row(stranger)
