"""The control `unaided`: one step in which a model works on the task alone, and the agent that its answer makes.

Invariants: it pays from the same books and runs in the same sandbox as the other arms; the step is keyed by its caps,
so that one which a cap cut short is stored, and a higher cap takes the talk up for nothing where it was.
"""

from __future__ import annotations

from typing import Final

from sia_flow.agents.language.toolbox import UnusableError
from sia_flow.agents.language.unaided import Tried, UnaidedAgent
from sia_flow.lineage.records import Decision, Edit, Spend
from sia_flow.lineage.store import Step, StepOutput, StepRecord
from sia_flow.loop.arm import ArmState, Made
from sia_flow.loop.bench import pairs_of
from sia_flow.loop.books import admit_models, role_of
from sia_flow.loop.evaluate import Agent, Sample, evaluate
from sia_flow.loop.lab import Lab
from sia_flow.loop.language import seat_of, train_fields
from sia_flow.loop.network import granted
from sia_flow.loop.prepared import Prepared, run_local
from sia_flow.loop.stopping import spent
from sia_flow.providers.journal import Account
from sia_flow.scaffold.contract import check

ROLE: Final = "unaided"
CAPS = {"usd", "total", "roles", "rollouts", "tokens"}


class UnaidedBench:
    """Runs answers on all train instances, once each."""

    def __init__(self, lab: Lab, state: ArmState) -> None:
        self.spend = Spend()
        """What the runs have cost."""
        self._lab = lab
        self._state = state
        self._paid: set[str] = set()

    def attempt(self, answer: str) -> Tried:
        """Judge an answer on every train instance. Raises UnusableError where a budget is spent."""
        lab, state = self._lab, self._state
        limit = spent(lab.spec.budget, state.spend + self.spend)
        if limit is not None:
            raise UnusableError(f"{limit} is spent: close with your answer")
        files = scaffold_of(lab, answer)
        problems = tuple(problem.message for problem in check(files))
        if problems:
            return Tried(problems)
        sample = Sample("train", lab.spec.rollouts.instances, 1, ROLE)
        agent = Agent(stored(lab, files), None)
        found = evaluate(lab, run_local, agent, sample, state.seed, state.label(len(state.history), ROLE))
        if found.verify.key not in self._paid:
            self._paid.add(found.verify.key)
            self.spend += found.spend
        return Tried((), pairs_of(lab, found))


def prepare_unaided(lab: Lab, state: ArmState) -> Prepared:
    """Prepare the work of the agent. Raises SpecError for a model that lacks a price, or a budget."""
    admit_models(lab.experiment)
    section = role_of(lab.experiment, ROLE)
    assert section is not None, "the spec refuses the arm without a model"
    step = Step(
        name=ROLE,
        version=1,
        params={
            "agent": section.model_dump(mode="json"),
            "budget": lab.spec.budget.model_dump(mode="json", include=CAPS),
            "instances": lab.spec.rollouts.instances,
            "limits": lab.limits_digest,
        },
        inputs={**lab.inputs, "generation 0": state.history[0].id},
        seed=state.seed,
    )
    return Prepared(ROLE, state.label(len(state.history)), step, lambda: _work(lab, state))


def _work(lab: Lab, state: ArmState) -> StepOutput:
    seat = seat_of(lab, Account(state.arm.name, state.seed, ROLE), state.history)
    bench, kind = UnaidedBench(lab, state), lab.task.manifest.answer.type
    agent = UnaidedAgent(seat.talker, bench, lab.task.description(), kind, seat.turns, granted(lab.experiment))
    example = {f"reference/{name}": text for name, text in lab.task.reference().items()} if kind == "text" else {}
    answer = agent.solve(train_fields(lab), example)
    if agent.failure:
        lab.watcher.warning(f"{state.label(len(state.history))}: no answer of its own ({agent.failure})")
    files = scaffold_of(lab, answer)
    problems = check(files)
    if problems:
        # What cannot run is worth what no answer is worth.
        files = {"scaffold.py": fixed("")}
    outputs = {"scaffold": stored(lab, files), "transcript": lab.store.objects.put_bytes(agent.transcript)}
    result = {"model": seat.talker.model, "notes": agent.notes, "failure": agent.failure, "index": seat.index}
    return StepOutput(outputs, result, bench.spend + Spend(usd=seat.talker.bill.usd), lab.isolation)


def made_alone(lab: Lab, record: StepRecord) -> Made:
    """Return the agent that the answer makes."""
    result = record.result
    failed = f" It gave no answer of its own ({result['failure']})." if result["failure"] else ""
    decision = Decision(
        lever="harness",
        reason=f"{result['model']} worked on the task alone, once.{failed}",
        forecast=0.0,
        report=result["notes"],
        edits=(_edit(lab, record.outputs["scaffold"]),),
        features={"model": float(result["index"]), "model_failed": float(bool(result["failure"]))},
    )
    return Made(Agent(record.outputs["scaffold"], None), decision, record.spend, {ROLE: record.key})


def ended_alone(record: StepRecord) -> str:
    """Return why the arm ended: the cap that cut it short, or that it has answered."""
    failure = str(record.result["failure"])
    return failure if failure.startswith("budget.") else "the agent has answered"


def scaffold_of(lab: Lab, answer: str) -> dict[str, str]:
    """Return the scaffold that an answer is: the procedure itself, or one that returns the program."""
    text = answer if lab.task.manifest.answer.type == "text" else fixed(answer)
    return {"scaffold.py": text}


def fixed(program: str) -> str:
    """Return a scaffold that returns one program."""
    lines = "\n".join(f"    {line!r}" for line in program.splitlines(keepends=True)) or "    ''"
    head = '"""One program, whatever the instance: the answer of an agent that worked alone."""'
    return f"{head}\n\nPROGRAM = (\n{lines}\n)\n\n\ndef solve(job):\n    return PROGRAM\n"


def stored(lab: Lab, files: dict[str, str]) -> str:
    """Put a scaffold into the store; return its object id."""
    return lab.store.objects.put_tree({name: text.encode() for name, text in files.items()})


def _edit(lab: Lab, scaffold: str) -> Edit:
    files = lab.store.objects.get_sources(scaffold)
    return Edit(kind="files", name=ROLE, summary="The whole answer of an agent that worked alone.", files=files)
