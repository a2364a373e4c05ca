"""Tools on what was tried before: compare two generations, read an earlier scaffold, look at the lever ledger."""

from __future__ import annotations

from collections.abc import Iterator

from sia_flow.agents.language.bench import ArmBench, Rollouts, generation_of
from sia_flow.agents.language.pages import PAGE, Page, cut_from, paged
from sia_flow.agents.language.render import generation_line
from sia_flow.agents.language.toolbox import Arguments, Handle, UnusableError
from sia_flow.agents.report import inline
from sia_flow.scaffold.diff import unified_diff


class Two(Arguments):
    """Two generations."""

    one: int
    """Index of the earlier one."""
    two: int
    """Index of the later one."""


class Pages(Arguments):
    """A page."""

    page: Page
    """From 0."""


class Source(Arguments):
    """A file of a generation's scaffold."""

    generation: int
    """Index of the generation."""
    path: str
    """Its name, such as scaffold.py."""
    offset: Page
    """First character to show."""


def history_tools(bench: ArmBench) -> Iterator[Handle]:
    """Yield tools that look at earlier generations and earlier pulls."""

    def compared(asked: Two) -> str:
        one, two = (generation_of(bench, index) for index in (asked.one, asked.two))
        lines = [generation_line(one), generation_line(two)]
        flips = flipped(bench.rollouts(one.index), bench.rollouts(two.index))
        diff = unified_diff(bench.sources(one.index), bench.sources(two.index))
        return "\n".join([*lines, "", *flips, "", diff or "the scaffolds are the same"])

    def source(asked: Source) -> str:
        files = bench.sources(generation_of(bench, asked.generation).index)
        if asked.path not in files:
            raise UnusableError(f"there is no file {asked.path[:80]!r}; there are {', '.join(sorted(files))}")
        return cut_from(files[asked.path], asked.offset)

    def ledger(asked: Pages) -> str:
        rows = [
            f"{row.experiment or 'this experiment'} {row.arm or ''} seed {row.seed} gen {row.index}: {row.action} "
            f"({inline(', '.join(row.edits), 120)}): forecast {row.forecast:+.4f}, gain {row.gain:+.4f} +- "
            f"{row.gain_se:.4f}, {'kept' if row.accepted else 'refused'}"
            for row in bench.ledger()
        ]
        return paged(rows, asked.page)

    comparing = "Compare two generations: scores, guards, flipped rollouts, diff of the scaffolds."
    yield Handle("compare_generations", comparing, Two, compared)
    yield Handle("read_scaffold", "Read a file of the scaffold of a generation.", Source, source)
    yield Handle("lever_ledger", "List earlier pulls of levers in this project with what they gained.", Pages, ledger)


def flipped(one: Rollouts, two: Rollouts, limit: int = PAGE) -> list[str]:
    """Return lines on the rollouts whose validity differs between two generations, and on the largest moves.

    Rollouts of two generations share their seeds, so that the same instance and sample compare.
    """
    earlier = {(t.instance, t.sample): v for t, v in one}
    both = [(t, earlier[t.instance, t.sample], v) for t, v in two if (t.instance, t.sample) in earlier]
    both.sort(key=lambda item: (item[1].valid == item[2].valid, -abs(item[2].reward - item[1].reward)))
    moved = [item for item in both if item[1].valid != item[2].valid or item[1].reward != item[2].reward]
    broken = sum(old.valid and not new.valid for _, old, new in both)
    mended = sum(new.valid and not old.valid for _, old, new in both)
    head = f"{len(both)} rollouts compare: {mended} became valid, {broken} invalid, {len(moved)} changed reward"
    lines = [
        f"instance {t.instance} sample {t.sample}: {old.reward:.4f} ({inline(old.reason)}) -> "
        f"{new.reward:.4f} ({inline(new.reason)})"
        for t, old, new in moved[:limit]
    ]
    return [head, *lines]
