"""Before anything is paid for: answers that must not pay, handed in to the task's own verifier in the sandbox.

Invariant: an experiment whose probe scores above the floor does not start.
"""

from __future__ import annotations

from sia_flow.lineage.records import Spend
from sia_flow.lineage.store import Step, StepOutput
from sia_flow.loop.lab import Lab
from sia_flow.loop.prepared import Prepared
from sia_flow.verify.probes import assert_probes


def prepare_probes(lab: Lab) -> Prepared:
    """Prepare the probes of the task on its first train instance."""
    step = Step("probes", 1, {"limits": lab.limits_digest}, {**lab.inputs, "base": None}, 0)
    return Prepared("verify", "probes", step, lambda: _probe(lab))


def _probe(lab: Lab) -> StepOutput:
    probes = lab.task.probes()
    (instance,) = lab.instances("train", 1)
    verdicts = assert_probes(lab.scorer, instance, probes)
    result = {name: {"reward": v.reward, "reason": v.reason} for name, v in verdicts.items()}
    return StepOutput(result=result, spend=Spend(verifications=len(probes)), isolation=lab.isolation)
