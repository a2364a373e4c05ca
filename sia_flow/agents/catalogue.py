"""The structural edits that the builtin agent knows, each a rewrite of the scaffold's source.

Invariant: an edit is offered only where it gives another source that honours the contract; the rest of the
source stays byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sia_flow.agents import snippets
from sia_flow.agents.evidence import Statistics
from sia_flow.canonical import digest_bytes
from sia_flow.errors import ScaffoldError
from sia_flow.lineage.records import Edit
from sia_flow.scaffold.constants import add_constant
from sia_flow.scaffold.contract import MAIN, check
from sia_flow.scaffold.functions import add_function, function_names, replace_function, wrap_return
from sia_flow.scaffold.texts import defined_names, read_text, set_text

TWIN_TRUST = 0.5
"""Share of a gain on the visible twin that is expected to arrive."""
EXAMPLE_TRUST = 0.1
"""Share of an example's lead over the mean that is expected to arrive."""
MAX_EXEMPLAR = 4000
START = "def denoise("
"""Where a program's own part begins, in scaffolds that have no text `START` that says so."""


@dataclass(frozen=True, slots=True)
class Context:
    """What an edit may use besides the source."""

    best_program: str | None


@dataclass(frozen=True, slots=True)
class Structural:
    """One entry of the catalogue."""

    name: str
    summary: str
    cost: str
    """What it costs, in words."""
    samples: float
    """Completions of a rollout, as a multiple of what they were."""
    needs: tuple[str, ...]
    """Top-level names that the source must define."""
    rewrite: Callable[[str, Context], str]
    gain: Callable[[Statistics], float]
    """Expected gain of the mean reward on train."""

    def applies(self, source: str, context: Context) -> bool:
        """Whether the edit gives another source that honours the contract."""
        try:
            edited = self.apply(source, context)
        except ScaffoldError:
            return False
        return edited != source and not check({MAIN: edited})

    def apply(self, source: str, context: Context) -> str:
        """Return the edited source. Raises ScaffoldError where the source lacks what the edit needs."""
        missing = set(self.needs) - defined_names(source)
        if missing:
            raise ScaffoldError(f"{MAIN}: {self.name} needs {', '.join(sorted(missing))}")
        return self.rewrite(source, context)

    def edit(self, files: Mapping[str, str], context: Context) -> Edit:
        """Return the edit of a scaffold's files. Raises ScaffoldError as `apply` does."""
        source = self.apply(files[MAIN], context)
        name = f"{self.name} {exemplar_digest(context, files[MAIN])}" if self.name == "exemplar" else self.name
        summary = f"{self.summary} Cost: {self.cost}."
        return Edit(kind="structure", name=name, summary=summary, files={MAIN: source})


def exemplar_of(context: Context, source: str) -> str | None:
    """Return the function of the best program, as a later prompt of the scaffold may quote it, or None."""
    program = context.best_program or ""
    start = program.find(read_text(source, "START") or START)
    return program[start:] if start >= 0 and len(program) - start <= MAX_EXEMPLAR else None


def exemplar_digest(context: Context, source: str) -> str:
    """Return six digits that tell one exemplar from another."""
    return digest_bytes((exemplar_of(context, source) or "").encode())[:6]


def _with_judge(source: str) -> str:
    if "judge" in function_names(source):
        return source
    return add_function(source, snippets.JUDGE, before="propose")


def _best_of_n(source: str, _: Context) -> str:
    source = add_constant(_with_judge(source), snippets.CANDIDATES)
    return replace_function(source, "propose", snippets.PROPOSE_BEST)


def _retry(source: str, _: Context) -> str:
    source = add_constant(_with_judge(source), snippets.RETRIES)
    source = add_function(source, snippets.RETRY, before="solve")
    return wrap_return(source, "solve", "retry(job, {})")


def _refine(source: str, _: Context) -> str:
    source = add_constant(_with_judge(source), snippets.ROUNDS)
    source = add_function(source, snippets.REFINE, before="solve")
    return wrap_return(source, "solve", "refine(job, {})")


def _exemplar(source: str, context: Context) -> str:
    function = exemplar_of(context, source)
    if function is None:
        raise ScaffoldError(f"{MAIN}: there is no earlier program to quote")
    source = set_text(source, "EXEMPLAR", function, before="prompt")
    return replace_function(source, "prompt", snippets.PROMPT_EXEMPLAR)


def _start_states(source: str, _: Context) -> str:
    source = add_function(source, snippets.BEGIN, before="prompt")
    return wrap_return(source, "prompt", "begin(job, {})")


ASKS = ("ASK", "Job", "TEMPERATURE", "propose")

CATALOGUE: tuple[Structural, ...] = (
    Structural(
        name="exemplar",
        summary="Show the best program found on train so far as an example in the prompt.",
        cost="a longer prompt",
        samples=1.0,
        needs=("ASK", "Job", "prompt"),
        rewrite=_exemplar,
        gain=lambda s: EXAMPLE_TRUST * (s.best - s.mean),
    ),
    Structural(
        name="retry",
        summary="Ask again, naming the reason, where a program fails on the visible counts.",
        cost="one visible scoring a rollout, and a second completion where the first fails",
        samples=1.5,
        needs=(*ASKS, "solve"),
        rewrite=_retry,
        gain=lambda s: TWIN_TRUST * s.valid * (s.valid_mean - s.mean),
    ),
    Structural(
        name="best-of-n",
        summary="Ask for several programs at once and answer with the best on the visible counts.",
        cost="three completions and up to three visible scorings a rollout",
        samples=3.0,
        needs=(*ASKS, "extract", "assemble"),
        rewrite=_best_of_n,
        gain=lambda s: TWIN_TRUST * (s.expected_best(3) - s.mean),
    ),
    Structural(
        name="refine",
        summary="Show the policy its own program as an example, and keep what does better.",
        cost="twice the completions, each scored on the visible counts",
        samples=2.0,
        needs=(*ASKS, "extract", "solve"),
        rewrite=_refine,
        gain=lambda s: TWIN_TRUST * (s.expected_best(2) - s.mean),
    ),
)

START_STATES = Structural(
    name="start-states",
    summary="Show the program that a rollout starts from as an example in the prompt.",
    cost="a longer prompt in rollouts that start from a program",
    samples=1.0,
    needs=("ASK", "Job", "extract", "prompt"),
    rewrite=_start_states,
    gain=lambda _: 0.0,
)
"""Not in the catalogue: only rollouts of a weight update start from programs, so that by itself it gains nothing and no
gate would take it. The weight lever makes it, where the spec has `reuse`.
"""
