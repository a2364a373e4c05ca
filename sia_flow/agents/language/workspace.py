"""Tools on texts and in the sandbox: list and read files, try a change of the scaffold, score an answer.

Invariant: paths name entries of a mapping, never of a file system; what is tried is not kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field

from sia_flow.agents.language.bench import Files, SandboxBench
from sia_flow.agents.language.edits import apply_change
from sia_flow.agents.language.faults import AgentFailedError
from sia_flow.agents.language.pages import Page, cut_from
from sia_flow.agents.language.render import rollout_text
from sia_flow.agents.language.schema import Change
from sia_flow.agents.language.toolbox import Arguments, Handle, UnusableError
from sia_flow.agents.report import inline, quoted
from sia_flow.scaffold.contract import check

SHOWN = 1500
"""Characters of each piece of a smoke rollout."""


class Nothing(Arguments):
    """No arguments."""


class File(Arguments):
    """A file, from some character on."""

    path: str
    """A name that list_files gives."""
    offset: Page = 0
    """First character to show."""


class Answer(Arguments):
    """An answer to a task's instance."""

    answer: Annotated[str, Field(max_length=1 << 16)]
    """What a scaffold would return."""


class _TryChange(Arguments):
    """A change to try."""

    change: Change
    """The change."""


def file_tools(files: Mapping[str, str]) -> Iterator[Handle]:
    """Yield tools that list and read texts by name."""

    def listed(_: Nothing) -> str:
        return "\n".join(f"{name} ({len(text)} characters)" for name, text in sorted(files.items()))

    def read(asked: File) -> str:
        if asked.path not in files:
            raise UnusableError(f"there is no file {asked.path[:80]!r}; there are {', '.join(sorted(files))}")
        return cut_from(files[asked.path], asked.offset)

    yield Handle("list_files", "List the files that can be read.", Nothing, listed)
    yield Handle("read_file", "Read a file.", File, read)


def run_tools(files: Files, bench: SandboxBench) -> Iterator[Handle]:
    """Yield tools that try a change of `files`, or an answer, in the sandbox."""

    def tried(change: Change) -> str:
        try:
            new = apply_change(files, change)
        except AgentFailedError as error:
            raise UnusableError(str(error)) from error
        problems = check(new)
        if problems:
            raise UnusableError("; ".join(problem.message for problem in problems))
        smoke = bench.smoke(new)
        return "\n\n".join(rollout_text(t, v, SHOWN) for t, v in smoke.rollouts)

    def scored(asked: Answer) -> str:
        verdict = bench.score(asked.answer)
        outcome = "valid" if verdict.valid else inline(verdict.reason)
        return f"reward {verdict.reward:.4f}, {outcome}\n{quoted(verdict.feedback)}"

    trying = "Apply a change to the scaffold (nothing is kept), check it, and roll it out on a train instance."
    yield Handle("try_change", trying, _TryChange, lambda asked: tried(asked.change))
    yield Handle("score_answer", "Score an answer of your own on a train instance.", Answer, scored)
