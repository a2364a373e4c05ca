"""Answers that need no work: none, empty, constant, an echo of the input. What they earn is the floor, or a warning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean

from sia_flow.admission.findings import Finding, ok
from sia_flow.lineage.records import Verdict
from sia_flow.protocols import Instance

Score = Callable[[Sequence[tuple[Instance, str | None]]], Sequence[Verdict]]
"""Scores answers: programs through the sandbox, texts by the verifier."""


def lazy_programs(instance: Instance, entry: str) -> dict[str, str | None]:
    """Return programs that do no work, by name."""
    shape = instance.returns.shape
    head = f"import numpy as np\n\ndef {entry}(*given):\n    return "
    return {
        "null": None,
        "empty": "",
        "no function": "x = 1\n",
        "returns nothing": f"{head}None\n",
        "zeros": f"{head}np.zeros({shape})\n",
        "ones": f"{head}np.ones({shape})\n",
        "echo": f"{head}given[0]\n",
        "not a number": f"{head}np.full({shape}, np.nan)\n",
        "infinite": f"{head}np.full({shape}, np.inf)\n",
        "wrong shape": f"{head}np.zeros({(*shape, 2)})\n",
    }


def lazy_texts(instance: Instance, labels: Sequence[str]) -> dict[str, str | None]:
    """Return texts that know nothing, by name; every label is one of them, up to forty."""
    told = instance.public.get("question", instance.public)
    echo = "\n".join(map(str, told.values())) if isinstance(told, Mapping) else str(told)
    texts: dict[str, str | None] = {"null": None, "empty": "", "spaces": "  \n", "echo": echo[:4000]}
    if labels:
        texts["all labels"] = "\n".join(labels)[:4000]
    return texts | {f"constant {label!r}": label for label in list(labels)[:40]}


def check_lazy_programs(score: Score, instance: Instance, entry: str, floor: float) -> Iterator[Finding]:
    """Yield the lazy programs that earn more than the floor on an instance."""
    answers = lazy_programs(instance, entry)
    verdicts = dict(zip(answers, score([(instance, text) for text in answers.values()]), strict=True))
    paid = {name: verdict.reward for name, verdict in verdicts.items() if verdict.reward > floor}
    for name, reward in paid.items():
        words = f"the program that hands in {name} earns {reward:.4f}, above the floor {floor:g}"
        yield Finding("probes", "fail", f"{name.replace(' ', '_')}_pays", f"{words}; make the score worth work")
    unrefused = [n for n in ("null", "empty", "no function", "not a number", "wrong shape") if verdicts[n].valid]
    for name in unrefused:
        words = f"the program that hands in {name} is called valid; refuse it with a reason"
        yield Finding("probes", "fail", "not_refused", words)
    if not paid and not unrefused:
        yield ok("probes", f"{len(answers)} lazy programs stay at the floor {floor:g}")


def check_lazy_texts(
    score: Score, instances: Sequence[Instance], labels: Sequence[str], floor: float
) -> Iterator[Finding]:
    """Yield the lazy texts that earn more than the floor, as means over instances."""
    named = {name: [(i, lazy_texts(i, labels)[name]) for i in instances] for name in lazy_texts(instances[0], labels)}
    means = {name: fmean(v.reward for v in score(items)) for name, items in named.items()}
    constants = {name: mean for name, mean in means.items() if name.startswith("constant")}
    # A scorer that hears one label of many is no worse than that label alone.
    allowed = {"all labels": max(constants.values(), default=floor)}
    others = {n: mean for n, mean in means.items() if n not in constants and mean > max(floor, allowed.get(n, floor))}
    for name, mean in others.items():
        words = f"the answer {name} earns {mean:.4f} on the average, above the floor {floor:g}"
        yield Finding(
            "probes", "fail", f"{name.replace(' ', '_')}_pays", f"{words}; refuse answers that hold no answer"
        )
    best = max(constants, key=lambda name: constants[name], default=None)
    if best is not None and constants[best] > floor:
        words = f"the {best} earns {constants[best]:.4f} over {len(instances)} instances; state it beside every result"
        yield Finding("probes", "warn", "constant_baseline", words)
    if not others:
        yield ok("probes", f"{len(means) - len(constants)} answers that hold no answer stay at the floor {floor:g}")
