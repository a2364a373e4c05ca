"""Whole experiments against a scripted Claude: it writes, edits, trains, is cut off by a cap, killed, and goes on."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sia_flow.errors import BudgetSpentError, ProviderError, SpecError
from sia_flow.lineage.store import Store
from sia_flow.loop.events import Several, Silent
from sia_flow.loop.view import FolderView
from sia_flow.plan.project import Project
from tests.flows.world import generations, make_project, records, run_here
from tests.providers.claude import FIRST, MISSING, SECOND, claude, role, turn, verdict
from tests.providers.wire import KEY, Call, Fault, Request, Say, Wire

SPEC = """metadata: {{name: small}}
spec:
  task: {{name: denoise, mode: sia}}
  arms: [SIA-W+H]
  agents:
    meta: {{type: {kind}, model: {model}, base_url: "{url}", max_tokens: 1000}}
    feedback: {{type: {kind}, model: {model}, base_url: "{url}", max_tokens: 1000, evidence: 2000, retries: 0}}
  rollouts: {{instances: 2, samples: 3}}
  verify: {{select: {{instances: 2, samples: 2}}, sealed: {{instances: 2, samples: 2}}}}
  training: {{iterations: 1, instances: 2, samples: 3}}
  search: {{trials: 2}}
  accept: {{gate: always}}
  budget: {{generations: 2, usd: $1}}
"""
DECISIONS = [verdict("harness", FIRST, SECOND), verdict("weights", algorithm="grpo")]
EACH = (1000 * 2 + 200 * 10) / 1e6


class Hears(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, KEY)


def project(folder: Path, wire: Wire, kind: str = "anthropic", model: str = "claude-sonnet-5-5") -> Path:
    url = wire.url + ("/v1" if kind == "openai" else "")
    return make_project(folder, SPEC.format(kind=kind, model=model, url=url))


class Ran(NamedTuple):
    """A project after a run, and the server that it talked to."""

    spec: Path
    root: Path
    wire: Wire
    result: Any
    warnings: list[str]


CANARY = "CANARY-e7f1c2-never-to-be-seen"
PLANT = f"""
_make_plain = _make


def _make(name, split, public, halves, truth):
    import dataclasses

    made = _make_plain(name, split, public, halves, truth)
    words = np.array(["{CANARY} " + split])
    return dataclasses.replace(made, private={{**made.private, "canary": words}})
"""
MEASURED = "metrics = scoring.measure(output, reference)\n"
FIGURE = "987654.321"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """Two generations by a scripted Claude, on a verifier whose private fields and truth metrics hold canaries."""
    root, wire, hears = tmp_path_factory.mktemp("claude"), Wire(claude(DECISIONS)), Hears()
    wire.start()
    spec = project(root, wire)
    verifier = root / "tasks/denoise/verifier.py"
    planted = f'{MEASURED}        metrics["truth_canary"] = {FIGURE}\n'
    verifier.write_text(verifier.read_text().replace(MEASURED, planted, 1) + PLANT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANTHROPIC_API_KEY", KEY)
        (result,) = run_here(spec, watcher=Several(hears, FolderView(Store(Project(root).store), root, root, "view")))
    yield Ran(spec, root, wire, result, hears.warnings)
    wire.close()


@pytest.mark.slow
def test_a_scripted_claude_writes_edits_trains_and_hits_the_cap(ran: Ran) -> None:
    spec, root, wire, result, warnings = ran
    first, edited, trained = generations(root, result)
    sources = Store(Project(root).store).objects.get_sources(first.scaffold)
    assert "T: int = 4" in sources["scaffold.py"]
    assert edited.decision.action == "harness-files"
    assert sorted(trial.name for trial in edited.trials) == ["cooler", "wider"]
    assert trained.decision.action == "weights-grpo"
    assert trained.adapter is not None
    reasons = [g.decision.reason for g in (edited, trained)]
    assert reasons == ["The harness lever promises most.", "The weights lever promises most."]
    assert [role(r) for r in wire.requests] == ["meta"] * 2 + ["feedback"] * 4
    assert result.spend.usd == pytest.approx(6 * EACH)
    assert warnings == []
    folder = root / "view/SIA-W+H/seed-0"
    assert "T: int = 4" in (folder / "gen-0/transcript.jsonl").read_text()
    assert "list_rollouts" in (folder / "gen-1/transcript.jsonl").read_text()

    paid, before = len(wire.requests), records(root)
    assert run_here(spec) == [result]
    assert (len(wire.requests), records(root)) == (paid, before)

    (capped,) = run_here(spec, "budget.generations=5", "budget.usd=0.0425")
    assert capped.stopped == "budget.usd"
    assert capped.generations[:3] == result.generations
    assert capped.spend.usd <= 0.0425
    assert capped.sealed.n > 0
    assert max(Counter(r.text for r in wire.said).values()) == 1


@pytest.mark.slow
def test_a_canary_in_every_private_field_is_in_no_prompt_trace_log_or_artifact(ran: Ran) -> None:
    """Private fields, truth metrics, sealed figures and the key: nowhere but where they were put."""
    said = "".join(request.text for request in ran.wire.requests)
    assert "instance own-" in said
    assert FIGURE in json.dumps(generations(ran.root, ran.result)[0].model_dump(mode="json"))
    for secret in (CANARY, FIGURE, "truth_canary", KEY, "/sealed/", f"{ran.result.sealed.mean!r}"):
        assert secret == "0.0" or secret not in said, secret
    seen = []
    for path in sorted(ran.root.rglob("*")):
        if path.is_file() and path != ran.root / "tasks/denoise/verifier.py":
            data = path.read_bytes()
            seen += [path for secret in (CANARY, KEY) if secret.encode() in data]
    assert seen == []


@pytest.mark.slow
def test_a_fault_and_a_cap_in_the_middle_of_a_talk_leave_it_to_be_taken_up(tmp_path: Path, serve) -> None:
    refused, good = [Fault(401)], claude(DECISIONS)

    def script(request: Request) -> Say | Fault:
        if role(request) == "feedback" and refused:
            return refused[0]
        # The first answer of a decision is dear: it leaves too little of the cap for the second.
        found = good(request)
        dear = isinstance(found, Say) and (role(request), turn(request)) == ("feedback", 0)
        return dataclasses.replace(found, usage=(5000, 1000, 0, 0)) if dear else found

    wire, first = serve(script), 0.02
    spec = project(tmp_path, wire)
    with pytest.raises(ProviderError, match=r"the key in \$ANTHROPIC_API_KEY is refused"):
        run_here(spec, "budget.generations=1")
    refused.clear()
    (short,) = run_here(spec, "budget.roles={feedback: {usd: 0.045}}", "budget.generations=1")
    assert (short.stopped, len(short.generations)) == ("budget.roles.feedback.usd", 1)
    assert short.spend.usd == pytest.approx(2 * EACH + first)
    (whole,) = run_here(spec, "budget.generations=1")
    assert whole.stopped == "budget.generations"
    assert whole.spend.usd == pytest.approx(3 * EACH + first)
    talks = [(role(r), turn(r)) for r in wire.said]
    assert talks == [("meta", 0), ("meta", 1), ("feedback", 0), ("feedback", 1)]

    asked = len(wire.requests)
    shutil.rmtree(Project(tmp_path).store)
    (again,) = run_here(spec, "budget.generations=1")
    assert (again.generations, again.spend) == (whole.generations, whole.spend)
    assert len(wire.requests) == asked


def test_money_keys_and_prices_are_asked_for_before_anything_is_paid(
    tmp_path: Path, serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = serve(claude(DECISIONS))
    spec = project(tmp_path, wire)
    with pytest.raises(SpecError, match=r"budget\.prices: the price of mine is not known"):
        run_here(spec, "agents.meta.model=mine")
    with pytest.raises(SpecError, match=r"set budget\.usd to an amount"):
        run_here(spec, "budget.usd=0")
    with pytest.raises(BudgetSpentError, match=r"spec\.budget\.usd: the next call"):
        run_here(spec, "budget.usd=0.001")
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(ProviderError, match="set the environment variable ANTHROPIC_API_KEY"):
        run_here(spec)
    assert wire.requests == []


@pytest.mark.slow
def test_a_model_that_fails_is_recorded_and_the_builtin_agents_stand_in(tmp_path: Path, serve) -> None:
    tries = (Call("try_change", {"change": MISSING}), Call("bash", {"command": "env"}))

    def script(request: Request) -> Say | Fault:
        trying = (role(request), turn(request)) == ("feedback", 0)
        return Say("I try.", tries) if trying else Say("I will not.", stop="refusal")

    wire, hears = serve(script), Hears()
    (result,) = run_here(project(tmp_path, wire), "budget.generations=1", "arms=[SIA-H]", watcher=hears)
    first, second = generations(tmp_path, result)
    assert first.spend.usd > 0
    synth = Store(Project(tmp_path).store).find(first.steps["scaffold synth"])
    assert synth is not None
    assert synth.result["failure"].startswith("refusal: claude-sonnet-5-5 refuses")
    assert second.decision.features["model_failed"] == 1.0
    assert second.decision.lever == "harness"
    assert "the model failed (refusal)" in second.decision.reason
    tried, shell = wire.requests[-1].results
    assert "No module named 'absent_package'" in tried
    assert shell.startswith("there is no tool 'bash'")
    told = " ".join(hears.warnings)
    assert "the Meta-Agent wrote no scaffold (refusal)" in told
    assert "SIA-H seed 0 gen 1: the builtin agent decides: refusal" in told


@pytest.mark.slow
def test_any_openai_compatible_model_plays_both_parts(tmp_path: Path, serve) -> None:
    wire = serve(claude(DECISIONS))
    spec = project(tmp_path, wire, "openai", "local-model")
    (result,) = run_here(spec, "budget.generations=1", "budget.prices={local-model: {input: 0, output: 0}}")
    assert result.stopped == "budget.generations"
    assert result.spend.usd == 0.0
    assert {r.api for r in wire.requests} == {"openai"}
    assert generations(tmp_path, result)[1].decision.action == "harness-files"
