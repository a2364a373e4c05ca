"""Before anything is paid for: answers that must not pay, handed in to the task's own verifier in the sandbox.

Invariant: an experiment whose probe scores above the floor does not start; what held at one isolation level says
nothing of another, so each level is probed for itself.
"""

from __future__ import annotations

from sia_flow.lineage.records import Spend
from sia_flow.lineage.store import Step, StepOutput
from sia_flow.loop.lab import Lab
from sia_flow.loop.prepared import Prepared
from sia_flow.protocols import Instance
from sia_flow.verify.cheats import cheats
from sia_flow.verify.probes import Probe, assert_probes


def prepare_probes(lab: Lab) -> Prepared:
    """Prepare the probes of the task on its first train instance, at the level that candidates run under.

    A rehearsal starts no sandbox: it takes the level of a record that is there, the strongest one first.
    """
    if not lab.store.rehearsal:
        return _prepared(lab, lab.isolation.backend, lab.isolation.level)
    from sia_flow.sandbox.backends import CHARGEABLE, CHARGED_LEVEL, KNOWN

    levels = [(backend.name, CHARGED_LEVEL) for backend in CHARGEABLE]
    levels += [(backend.name, backend.level) for backend in KNOWN]
    named = lab.spec.sandbox.backend
    planned = [_prepared(lab, name, level) for name, level in levels if named in ("auto", name)]
    return next((one for one in planned if lab.store.find(one.step.key)), planned[0])


def _prepared(lab: Lab, backend: str, level: int) -> Prepared:
    params = {"limits": lab.limits_digest, "backend": backend, "level": level}
    step = Step("probes", 2, params, {**lab.inputs, "base": None}, 0)
    return Prepared("verify", "probes", step, lambda: _probe(lab))


def _probe(lab: Lab) -> StepOutput:
    (instance,) = lab.instances("train", 1)
    probes = (*lab.task.probes(), *_general(lab, instance))
    verdicts = assert_probes(lab.scorer, instance, probes)
    result = {name: {"reward": v.reward, "reason": v.reason} for name, v in verdicts.items()}
    return StepOutput(result=result, spend=Spend(verifications=len(probes)), isolation=lab.isolation)


def _general(lab: Lab, instance: Instance) -> tuple[Probe, ...]:
    answer = lab.task.manifest.answer
    return cheats(answer.entry, instance) if answer.type == "program" else ()
