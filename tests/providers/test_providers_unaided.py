"""The control `unaided`: a scripted model that works on the task alone, judged as the other arms are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sia_flow.agents.ledger import ledger_rows
from sia_flow.errors import SpecError
from sia_flow.lineage.store import Store
from sia_flow.loop.events import Several, Silent
from sia_flow.loop.unaided import fixed
from sia_flow.loop.view import FolderView
from sia_flow.plan.project import Project
from sia_flow.report.table import final_rows
from sia_flow.scaffold.contract import check
from sia_flow.spec.load import load_experiments
from tests.cli.ops_world import call
from tests.flows.world import done_steps, generations, make_project, run_here
from tests.providers.claude import FIRST, USAGE, done, verdict
from tests.providers.conftest import in_order
from tests.providers.test_providers_experiments import EACH, SPEC, Hears, Ran
from tests.providers.wire import KEY, Call, Fault, Request, Say, Wire

GOOD = """import denoise_kit as kit


def denoise(counts, seed):
    x = kit.library_normalize(counts) ** 0.5
    p = kit.affinity(x, knn=5, n_pca=20, decay=1.0)
    return kit.rescale(kit.diffuse_pca(p, x, t=3, n_pca=20) ** 2, counts)
"""
POOR = "def denoise(counts, seed):\n    return counts + 0.5\n"
PROCEDURE = """def solve(job):
    (found,) = job.tools.candidates(tool="svc", count=1)
    return f'{job.instance["id"]},"{found["label"]}"'
"""
ALONE = ("arms=[unaided]", "agents.meta={type: builtin}", "rollouts={instances: 2, samples: 2}")


@pytest.fixture(autouse=True, scope="module")
def _key() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANTHROPIC_API_KEY", KEY)
        yield


def small(folder: Path, wire: Wire) -> Path:
    return make_project(folder, SPEC.format(kind="anthropic", model="claude-sonnet-5-5", url=wire.url))


def tries(answer: str) -> Say:
    return Say("I try.", (Call("try_answer", {"answer": answer}),), usage=USAGE)


def solution(answer: str) -> Say:
    return done(json.dumps({"notes": "Diffusion.", "answer": answer}))


def refuses() -> Say:
    return Say("I will not.", stop="refusal", usage=USAGE)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """One run of the arm: it reads, tries, is wrong, and answers."""
    read = Say("I read.", (Call("read_file", {"path": "task.md"}), Call("try_change", {})), usage=USAGE)
    wire = Wire(in_order([read, tries("def denoise(:"), tries(POOR), tries(GOOD), solution(GOOD)]))
    wire.start()
    root, hears = tmp_path_factory.mktemp("unaided"), Hears()
    spec, view = small(root, wire), FolderView(Store(Project(root).store), root, root, "view")
    (result,) = run_here(spec, *ALONE, watcher=Several(hears, view))
    yield Ran(spec, root, wire, result, hears.warnings)
    wire.close()


def begun(ran: Ran, folder: Path, wire: Wire) -> Path:
    """Return the spec of a project that has the records of the run, but none of its talk."""
    shutil.copytree(ran.root / ".sia-flow/store", folder / ".sia-flow/store")
    return small(folder, wire)


def test_it_reads_tries_answers_once_and_is_judged_like_an_arm(ran: Ran) -> None:
    spec, root, wire, result, _ = ran
    store = Store(Project(root).store)
    first, alone = generations(root, result)
    assert (result.control, result.stopped, result.incumbent) == ("unaided", "the agent has answered", alone.id)
    assert store.objects.get_text(result.best.answer) == GOOD
    # No gate: it is what the agent came to, be it worse than what was there.
    assert alone.accepted
    assert alone.verdict.startswith(f"its answer stands: gain {alone.gain:+.4f}")
    assert (alone.select.valid, result.sealed.valid, result.sealed.se) == (1.0, 1.0, 0.0)
    assert result.best.sealed.mean == pytest.approx(result.sealed.mean)
    assert (result.spend.usd, result.spend.completion_tokens) == (
        pytest.approx(5 * EACH),
        first.spend.completion_tokens,
    )

    asked = wire.requests
    words = json.dumps(asked[0].body["system"])
    assert "You are a coding agent" in words
    assert "A Python program with a function `denoise(counts, seed)`" in words
    assert "What a scaffold is" not in words
    tools = {tool["name"] for tool in asked[0].body["tools"]}
    assert tools == {"list_files", "read_file", "try_answer"}
    assert "# Denoising" in asked[1].results[0]
    assert "there is no tool 'try_change'" in asked[1].results[1]
    rewards = [float(r.results[0].split("mean reward ")[1].split()[0]) for r in asked[2:]]
    assert rewards[0] == 0.0
    assert rewards[2] > 0.0
    assert "syntax" in asked[2].results[0]

    (row,) = [row for row in final_rows([result]) if row.kind == "control"]
    assert (row.label, row.sealed and row.sealed.mean) == ("unaided", result.sealed.mean)
    assert ledger_rows(store) == ()
    assert "try_answer" in (root / "view/unaided/seed-0/gen-1/transcript.jsonl").read_text()
    assert "unaided: claude-sonnet-5-5, 5 calls" in call(root, "status", "small")
    paid, steps = len(wire.requests), done_steps(root)
    assert run_here(spec, *ALONE) == [result]
    assert (len(wire.requests), done_steps(root)) == (paid, steps)


def test_a_cap_ends_it_with_its_best_try_and_a_higher_one_takes_the_talk_up(ran: Ran, tmp_path: Path, serve) -> None:
    wire, hears = serve([tries(GOOD), tries(POOR), solution(POOR)]), Hears()
    spec = begun(ran, tmp_path, wire)
    (short,) = run_here(spec, *ALONE, "budget.usd=0.018", watcher=hears)
    assert (short.stopped, len(wire.said)) == ("budget.usd", 1)
    assert short.spend.usd <= 0.018
    store = Store(Project(tmp_path).store)
    assert store.objects.get_text(short.best.answer) == GOOD
    assert any("unaided seed 0 gen 1: no answer of its own (budget.usd)" in text for text in hears.warnings)
    (whole,) = run_here(spec, *ALONE, "budget.usd=2")
    assert (whole.stopped, len(wire.said)) == ("the agent has answered", 3)
    assert store.objects.get_text(whole.best.answer) == POOR
    assert whole.spend.usd == pytest.approx(3 * EACH)

    wire.requests.clear()
    (tokens,) = run_here(spec, *ALONE, "budget.rollouts=8")
    assert "budget.rollouts is spent: close with your answer" in wire.requests[-1].text
    assert tokens.stopped == "the agent has answered"


def test_one_that_gives_no_answer_is_worth_what_no_answer_is(ran: Ran, tmp_path: Path, serve) -> None:
    wire = serve([tries("def denoise(:"), refuses()])
    (result,) = run_here(begun(ran, tmp_path, wire), *ALONE, "budget.usd=3")
    alone = generations(tmp_path, result)[1]
    assert (alone.select.valid, alone.select.mean, result.best) == (0.0, 0.0, None)
    assert "It gave no answer of its own (refusal: claude-sonnet-5-5 refuses" in alone.decision.reason
    assert alone.decision.features["model_failed"] == 1.0


def test_where_each_instance_has_its_own_answer_it_writes_a_procedure(tmp_path: Path, serve) -> None:
    from tasks.lawbench import data

    def script(request: Request) -> Say | Fault:
        answers = [solution("def solve(): pass"), solution(PROCEDURE)]
        return answers[min(request.number, 1)]

    wire = serve(script)
    spec = small(tmp_path, wire)
    data.prepare("synthetic", tmp_path / "data/lawbench/synthetic")
    law = "task={name: lawbench, data: synthetic}"
    (result,) = run_here(spec, *ALONE, law, "policy.max_tokens=1")
    alone = generations(tmp_path, result)[1]
    assert Store(Project(tmp_path).store).objects.get_sources(alone.scaffold) == {"scaffold.py": PROCEDURE}
    assert (alone.select.valid, result.stopped) == (1.0, "the agent has answered")
    assert "it cannot run" in wire.requests[1].last
    words = json.dumps(wire.requests[0].body)
    assert "your answer is a procedure" in words
    assert "reference/scaffold.py" in words


def test_without_a_model_the_arm_is_refused_and_the_field_is_named(tmp_path: Path, serve) -> None:
    spec = small(tmp_path, serve([refuses()]))
    for kind in ("builtin", "learned"):
        with pytest.raises(SpecError, match=rf"spec\.arms\[0\]: .*agents\.feedback, which is {kind}"):
            load_experiments(spec, ["arms=[unaided]", f"agents.feedback={{type: {kind}}}"])
    with pytest.raises(SpecError, match="unaided works on the task alone: drop levers"):
        load_experiments(spec, ["arms=[{name: a, control: unaided, levers: [harness]}]"])
    (experiment,) = load_experiments(spec, [*ALONE, "budget.roles={unaided: {usd: 1}}"])
    assert experiment.spec.arms[0].control == "unaided"


@pytest.mark.parametrize("program", ["", 'a\\\'"""\n\tb\r\n', "é\u2028漢\0\ud800", POOR])
def test_a_program_comes_out_of_its_scaffold_as_it_was(program: str) -> None:
    text = fixed(program)
    assert check({"scaffold.py": text}) == []
    scope: dict[str, object] = {}
    exec(text, scope)
    assert scope["PROGRAM"] == program


def test_both_levers_in_one_generation_are_allowed_by_one_answer(ran: Ran, tmp_path: Path, serve) -> None:
    """The gate of the weights asks before the edit is tried, and the record is one generation of both."""
    wire = serve([done(verdict("both", FIRST, algorithm="grpo"))])
    spec = begun(ran, tmp_path, wire)
    both = ("arms=[SIA-W+H]", *ALONE[1:], "budget={generations: 1, usd: 1}")
    steps: list[str] = []

    class Person(Silent):
        def approval(self, word: str, text: str) -> None:
            steps.append(word)
            if word == "asked":
                call(tmp_path, "approve", "small")

        def step_started(self, name: str, label: str, total: int | None) -> None:
            steps.append(name)

    (result,) = run_here(spec, *both, "approve={levers: [weights]}", watcher=Person())
    first, made = generations(tmp_path, result)
    assert (made.decision.lever, made.decision.action) == ("both", "both")
    assert made.scaffold != first.scaffold
    assert made.adapter is not None
    assert {"scaffold edit", "train-LoRA", "feedback"} <= set(made.steps)
    assert len(result.factorial) == 4
    assert steps.count("asked") == 1
    after = steps[steps.index("asked") :]
    assert after[:2] == ["asked", "yes"]
    assert "train-LoRA" in after
    assert (made.spend.updates > 0, made.train.n) == (True, 4)
