"""Ask a retrieval tool for the likeliest charges of a case and let the policy name the right one by its number.

Whatever the policy says, `solve` returns one line `id,label`: judging it is the verifier's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

# tune: begin
TEMPERATURE: float = 1.0  # 0.5..1.5
# tune: end

COUNT = 5
TOOLS = ("kernel", "svc", "centroid", "nearest")
LETTERS = "abcdefghijkl"
STEP = 0.35
Candidate = Mapping[str, Any]


class Tools(Protocol):
    """The task's tools, answered by the host."""

    def candidates(self, *, tool: str, count: int) -> list[dict[str, Any]]:
        """The likeliest charges by one tool, best first: `label`, and `scores` of all tools."""


class Job(Protocol):
    """What a scaffold is given: one case, the policy, the tools."""

    instance: Mapping[str, Any]
    seed: int
    tools: Tools

    def generate(
        self,
        messages: Sequence[Mapping[str, str]],
        n: int = 1,
        temperature: float = 1.0,
        max_tokens: int | None = None,
    ) -> list[str]:
        """Return `n` completions of the policy."""


def find(job: Job) -> Sequence[Candidate]:
    """Return the candidates, likeliest first."""
    return job.tools.candidates(tool="kernel", count=COUNT)


def letter(found: Sequence[Candidate], candidate: Candidate, tool: str) -> str:
    """Return how far a candidate is behind the tool's best of them, in steps: `a` is the best itself."""
    best = max(other["scores"][tool] for other in found)
    return LETTERS[min(int((best - candidate["scores"][tool]) / STEP), len(LETTERS) - 1)]


def row(found: Sequence[Candidate], number: int) -> str:
    """Return a candidate's line of the table."""
    return f"{number + 1}" + "".join(letter(found, found[number], tool) for tool in TOOLS)


def prompt(job: Job, found: Sequence[Candidate]) -> str:  # noqa: ARG001 - an edit may read the case
    """Return what the policy is asked: a table of the candidates."""
    return "\n".join(row(found, number) for number in range(len(found)))


def ask(job: Job, question: str, n: int = 1) -> list[str]:
    """Ask the policy for a number, `n` times."""
    return job.generate([{"role": "user", "content": question}], n=n, temperature=TEMPERATURE, max_tokens=1)


def pick(found: Sequence[Candidate], text: str) -> Candidate:
    """Return the candidate that a completion names, the first where it names none."""
    number = text.strip()
    return found[int(number) - 1] if number in {str(i + 1) for i in range(len(found))} else found[0]


def choose(job: Job, found: Sequence[Candidate]) -> Candidate:
    """Return the candidate that the policy names."""
    return pick(found, ask(job, prompt(job, found))[0])


def solve(job: Job) -> str:
    """Return the line `id,label` of the case."""
    label = choose(job, find(job))["label"].replace('"', '""')
    return f'{job.instance["id"]},"{label}"'
