"""Ask the policy once for `denoise`, put the knobs in front of it, answer with the whole program.

The policy owns the structure of the program, this scaffold its knobs. Whatever the policy says, `solve`
returns a string: judging it is the verifier's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

# tune: begin
KNN: int = 5  # 2..30
T: int = 3  # 1..12
N_PCA: int = 100  # 10..200 log
DECAY: float = 1.0  # 0.5..20 log
TEMPERATURE: float = 1.0  # 0.5..1.5
# tune: end

ASK = "Write denoise(counts, seed)."
HEADER = "import numpy as np\nimport denoise_kit as kit\n"
START = "def denoise("


class Tools(Protocol):
    """The task's tools, answered by the host."""

    def score_visible(self, *, program: str) -> dict[str, Any]:
        """Score a program on a twin of the instance made from the visible counts: reward, valid, reason."""


class Job(Protocol):
    """What a scaffold is given: one instance, the policy, the tools."""

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


def prompt(job: Job) -> str:  # noqa: ARG001 - an edit may read the instance
    """Return what the policy is asked."""
    return ASK


def extract(text: str) -> str:
    """Return the function in `text`: all from its first line on, or the text itself where there is none."""
    return text[max(text.find(START), 0) :]


def assemble(function: str) -> str:
    """Return the whole program: imports, knobs, function."""
    return f"{HEADER}KNN, T, N_PCA, DECAY = {KNN}, {T}, {N_PCA}, {DECAY}\n\n{function}"


def propose(job: Job, question: str) -> str:
    """Ask once and return the program."""
    (text,) = job.generate([{"role": "user", "content": question}], temperature=TEMPERATURE)
    return assemble(extract(text))


def solve(job: Job) -> str:
    """Return a program for the instance of the job."""
    return propose(job, prompt(job))
