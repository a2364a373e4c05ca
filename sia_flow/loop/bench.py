"""What the tools of language agents stand on: an arm's records, and the sandbox on train instances.

Invariants: nothing of select or sealed rollouts is reachable from here; a run is a step with a record, so that a talk
that is taken up sees what it saw, and pays for it once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sia_flow.agents.language.bench import Rollouts, Smoke
from sia_flow.agents.ledger import ledger_rows
from sia_flow.lineage.ledger import LedgerRow
from sia_flow.lineage.records import Generation, Spend, Verdict
from sia_flow.lineage.store import Step, StepOutput
from sia_flow.loop.arm import ArmState
from sia_flow.loop.evaluate import Agent, Evaluation, Sample, evaluate
from sia_flow.loop.lab import Lab
from sia_flow.loop.prepared import Prepared, run_local
from sia_flow.loop.shown import shown, shown_verdict

SMOKE = Sample("train", 1, 2, "smoke")
"""What a scaffold is tried on before it counts."""


class TrainBench:
    """Runs scaffolds and answers on the first train instance, with the policy that the next generation has."""

    def __init__(self, lab: Lab, adapter: str | None, seed: int, label: str) -> None:
        self.spend = Spend()
        """What the runs have cost."""
        self._paid: set[str] = set()
        self._lab = lab
        self._adapter = adapter
        self._seed = seed
        self._label = label

    def smoke(self, files: Mapping[str, str]) -> Smoke:
        """Roll a scaffold out on one instance, a few times. Raises InfrastructureError."""
        scaffold = self._lab.store.objects.put_tree({name: text.encode() for name, text in files.items()})
        found = evaluate(self._lab, run_local, Agent(scaffold, self._adapter), SMOKE, self._seed, self._label)
        self._pay(found.verify.key, found.spend)
        return Smoke(pairs_of(self._lab, found))

    def score(self, answer: str) -> Verdict:
        """Score an answer on one instance. Raises InfrastructureError."""
        lab = self._lab
        oid = lab.store.objects.put_bytes(answer.encode())
        step = Step("score answer", 1, {"limits": lab.limits_digest}, {**lab.inputs, "answer": oid}, 0)
        record = run_local(lab, Prepared("verify", self._label, step, lambda: self._scored(answer)))
        self._pay(record.key, record.spend)
        return Verdict.model_validate(record.result)

    def _pay(self, key: str, spend: Spend) -> None:
        """Count a run the first time that it is asked for."""
        if key not in self._paid:
            self._paid.add(key)
            self.spend += spend

    def _scored(self, answer: str) -> StepOutput:
        lab = self._lab
        (verdict,) = lab.scorer.score([(lab.instances("train", 1)[0], answer)])
        result = shown_verdict(verdict).model_dump(mode="json")
        return StepOutput(result=result, spend=Spend(verifications=1), isolation=lab.isolation)


class StateBench(TrainBench):
    """The same, with the records of an arm."""

    def __init__(self, lab: Lab, state: ArmState, rows: Sequence[LedgerRow]) -> None:
        label = state.label(len(state.history), "smoke")
        super().__init__(lab, state.parent(lab).adapter, state.seed, label)
        self._state = state
        self._rows = tuple(rows)

    @property
    def history(self) -> Sequence[Generation]:
        """The arm's generations, in order."""
        return [shown(generation) for generation in self._state.history]

    def sources(self, index: int) -> Mapping[str, str]:
        """Return the scaffold of a generation."""
        return self._lab.store.objects.get_sources(self._state.history[index].scaffold)

    def rollouts(self, index: int) -> Rollouts:
        """Return the train rollouts of a generation with their verdicts."""
        return pairs_of(self._lab, self._state.evaluations[self._state.history[index].id])

    def ledger(self) -> Sequence[LedgerRow]:
        """Return the pulls that the experiment pinned at its first decision, and those of this arm."""
        own = {generation.id for generation in self._state.history}
        own -= {row.generation for row in self._rows}
        rows = [row for row in ledger_rows(self._lab.store) if row.generation in own]
        # Whose they are is known only when an arm has ended, and a talk must not change by that.
        return [*self._rows, *(row.model_copy(update={"experiment": None, "arm": None}) for row in rows)]


def pairs_of(lab: Lab, evaluation: Evaluation) -> Rollouts:
    """Return the rollouts of an evaluation with their verdicts, as agents may see them."""
    verdicts = [shown_verdict(verdict) for verdict in evaluation.verdicts(lab)]
    return list(zip(evaluation.trajectories(lab), verdicts, strict=True))
