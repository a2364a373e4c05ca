"""The model card of an exported agent: what it is, what it scores on the sealed split, how to run it.

Invariant: the score that stands first is the sealed one; where it was not read, the card says so and gives none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sia_flow.lineage.heads import Head
from sia_flow.lineage.records import Generation, Score
from sia_flow.lineage.results import ArmResult
from sia_flow.report.table import Estimate
from sia_flow.report.text import plain

CARD = """---
library_name: peft
base_model: {base}
tags: [sia-flow, {task}]
---
# {title}

An agent of the experiment `{experiment}`: a scaffold (`scaffold/`, a program that asks the policy and returns an
answer) and {weights}. Arm {arm}, seed {seed}, generation {index} of {count}.

| split | mean reward | valid | rollouts |
|:---|---:|---:|---:|
{scores}

{sealed} Task `{task}`{mode}; `select` chose this agent, so its figure there is the more favourable one.
{guards}
## Run it
```sh
pip install torch transformers{peft}
python run.py                      # prints the agent's answer; python run.py --help
```
{loading}
`run.py` needs nothing of sia-flow. Tools that score a candidate on visible data answer there that nothing was scored,
so a scaffold that picks among candidates by such a score takes the first valid one, and does worse than the table.

## Provenance
{provenance}

`lock.json` holds the resolved spec and every digest: `sia-flow reproduce lock.json` makes the run again.
"""


def model_card(head: Head, generation: Generation, result: ArmResult | None, base: str) -> str:
    """Return the card, in Markdown with the header that model hubs read."""
    task = head.spec.get("spec", {}).get("task", {}) if head.spec else {}
    sealed = result.sealed if result is not None and result.incumbent == generation.id else None
    scores = [generation.select, *([sealed] if sealed else [])]
    guards = result.guards if sealed and result else generation.guards
    margins = ", ".join(f"{plain(name)} {margin:+.4f}" for name, margin in guards.items())
    return CARD.format(
        base=base,
        task=task.get("name", "unknown"),
        mode=f", mode `{task['mode']}`" if task.get("mode") else "",
        title=f"{head.name}@{generation.index}",
        experiment=head.experiment,
        weights="a LoRA adapter (`adapter/`)" if generation.adapter else "the base model as it is",
        arm=head.arm,
        seed=head.seed,
        index=generation.index,
        count=len(head.generations) - 1,
        scores="\n".join(_row(score) for score in reversed(scores)),
        sealed=_sealed(sealed),
        guards=f"\nGuard margins{' on sealed' if sealed else ' on select'}: {margins}.\n" if margins else "",
        peft=" peft" if generation.adapter else "",
        loading=_loading(generation),
        provenance="\n".join(f"- {name}: `{value}`" for name, value in _digests(head, generation).items()),
    )


def _row(score: Score) -> str:
    return f"| {score.split} | {Estimate(score.mean, score.error)} | {score.valid:.0%} | {score.n} |"


def _sealed(sealed: Score | None) -> str:
    if sealed is None:
        return "**The sealed split was not read for this generation**, so no unbiased score is known."
    known = " (standard error over rollouts)" if sealed.error is not None else ""
    return f"**Sealed: {Estimate(sealed.mean, sealed.error)}**{known}, read once, after the search."


def _loading(generation: Generation) -> str:
    if generation.adapter is None:
        return ""
    return (
        "\nThe adapter is a normal PEFT folder:\n```python\nfrom peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM\n"
        'model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")\n```\n'
        "For vLLM: `vllm serve base --enable-lora --lora-modules agent=adapter`, or, where its version has no LoRA on\n"
        "the base's experts, the merged checkpoint of `sia-flow export --merged`: `vllm serve merged`.\n"
    )


def _digests(head: Head, generation: Generation) -> Mapping[str, Any]:
    own = {"generation": generation.id, "scaffold": generation.scaffold, "adapter": generation.adapter or "none"}
    inputs = dict(head.inputs) or {name: getattr(generation, name) for name in ("base", "data", "verifier")}
    isolation = generation.isolation.words
    return {**own, **inputs, **dict(head.versions), "isolation while training": isolation}
