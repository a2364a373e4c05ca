"""Tools on train rollouts of any generation: list them by outcome, read one whole, search them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from sia_flow.agents.language.bench import ArmBench, generation_of
from sia_flow.agents.language.pages import Page, cut_from, paged
from sia_flow.agents.language.render import headline, rollout_text, texts_of
from sia_flow.agents.language.toolbox import Arguments, Handle, UnusableError
from sia_flow.lineage.records import Verdict


class Listing(Arguments):
    """Rollouts of a generation."""

    generation: int
    """Index of the generation."""
    outcome: str
    """all, valid, invalid, or a reason such as exception."""
    order: Literal["best", "worst"]
    """Which rewards come first."""
    page: Page
    """From 0."""


class One(Arguments):
    """One rollout."""

    generation: int
    """Index of the generation."""
    instance: str
    """The instance's id."""
    sample: int
    """The sample's number."""
    offset: Page
    """First character to show."""


class Find(Arguments):
    """A search in rollouts."""

    generation: int
    """Index of the generation."""
    text: Annotated[str, Field(min_length=1, max_length=200)]
    """Text that a rollout must hold; letter case does not count."""
    page: Page
    """From 0."""


def rollout_tools(bench: ArmBench) -> Iterator[Handle]:
    """Yield tools that page through, read and search the train rollouts of any generation."""

    def listed(asked: Listing) -> str:
        found = [p for p in bench.rollouts(generation_of(bench, asked.generation).index) if _is(p[1], asked.outcome)]
        found.sort(key=lambda pair: pair[1].reward, reverse=asked.order == "best")
        return paged([headline(*pair) for pair in found], asked.page)

    def read(asked: One) -> str:
        for trajectory, verdict in bench.rollouts(generation_of(bench, asked.generation).index):
            if (trajectory.instance, trajectory.sample) == (asked.instance, asked.sample):
                return cut_from(rollout_text(trajectory, verdict), asked.offset)
        raise UnusableError(f"no rollout of {asked.instance[:80]!r}, sample {asked.sample}; list_rollouts has them")

    def search(asked: Find) -> str:
        wanted = asked.text.casefold()
        pairs = bench.rollouts(generation_of(bench, asked.generation).index)
        found = [pair for pair in pairs if any(wanted in text.casefold() for text in texts_of(*pair))]
        return paged([headline(*pair) for pair in found], asked.page)

    yield Handle("list_rollouts", "List the train rollouts of a generation by outcome.", Listing, listed)
    yield Handle("read_rollout", "Read one rollout: prompts, completions, tools, answer, verdict.", One, read)
    yield Handle("search_rollouts", "Find the rollouts of a generation that hold a text.", Find, search)


def _is(verdict: Verdict, outcome: str) -> bool:
    if verdict.valid:
        return outcome in ("all", "valid")
    return outcome in ("all", "invalid", verdict.reason)
