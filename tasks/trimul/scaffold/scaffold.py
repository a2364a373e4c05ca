"""Ask the policy once for `custom_kernel`, put the knobs in front of it, answer with the whole program.

The policy owns the structure of the program, this scaffold its knobs. Whatever the policy says, `solve`
returns a string: judging it is the verifier's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

# tune: begin
DTYPE: str = "float64"  # float64 | float32 | float16
ROWS: int = 16  # 4..96 log
TEMPERATURE: float = 1.0  # 0.5..1.5
# tune: end

ASK = "Write custom_kernel(data)."
HEADER = "import numpy as np\nfrom numba import njit\n"
START = "def "


class Tools(Protocol):
    """The task's tools, answered by the host."""

    def score_visible(self, *, program: str) -> dict[str, Any]:
        """Check and time a program on a twin of the instance: reward, valid, reason."""


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
    """Return the functions in `text`: all from the first line of one on, or the text itself where there is none."""
    return text[max(text.find(START), 0) :]


def assemble(function: str) -> str:
    """Return the whole program: imports, knobs, functions."""
    return f'{HEADER}DTYPE, ROWS = "{DTYPE}", {ROWS}\n\n{function}'


def propose(job: Job, question: str) -> str:
    """Ask once and return the program."""
    (text,) = job.generate([{"role": "user", "content": question}], temperature=TEMPERATURE)
    return assemble(extract(text))


def solve(job: Job) -> str:
    """Return a program for the instance of the job."""
    return propose(job, prompt(job))
