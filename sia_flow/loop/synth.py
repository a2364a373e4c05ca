"""The Meta-Agent's step: task description and reference scaffold in, first scaffold out."""

from __future__ import annotations

import dataclasses

from sia_flow.agents.builtin import meta_agent
from sia_flow.errors import TaskError
from sia_flow.lineage.store import Step, StepOutput
from sia_flow.loop.books import admit_models
from sia_flow.loop.lab import Lab
from sia_flow.loop.language import language_synth, speaks
from sia_flow.loop.prepared import Prepared
from sia_flow.scaffold.contract import check


def prepare_synth(lab: Lab, seed: int) -> Prepared:
    """Prepare the writing of generation 0's scaffold; the same step for all arms of a seed."""
    admit_models(lab.experiment)
    step = Step(
        name="scaffold synth",
        version=1,
        params={"agent": lab.spec.agents.meta.model_dump(mode="json")},
        # A model also reads what its tries in the sandbox came to.
        inputs=lab.inputs if speaks(lab, "meta") else {"task": lab.task.digest},
        seed=seed,
    )
    return Prepared("scaffold synth", f"seed {seed} gen 0", step, lambda: _synth(lab, seed))


def _synth(lab: Lab, seed: int) -> StepOutput:
    files, output = _written(lab, seed)
    problems = check(files)
    if problems:
        raise TaskError("the first scaffold breaks its contract: " + "; ".join(map(str, problems)))
    oid = lab.store.objects.put_tree({name: text.encode() for name, text in files.items()})
    return dataclasses.replace(output, outputs={**output.outputs, "scaffold": oid})


def _written(lab: Lab, seed: int) -> tuple[dict[str, str], StepOutput]:
    """Return the scaffold's files, and what the step keeps beside them."""
    if speaks(lab, "meta"):
        return language_synth(lab, seed)
    agent = meta_agent(lab.spec.agents.meta.type)
    return agent.write(lab.task.description(), lab.task.reference(), seed), StepOutput()
