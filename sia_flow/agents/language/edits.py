"""A model's change of a scaffold: applied to its files, checked against the contract, tried in the sandbox.

Invariant: a change applies whole or not at all, and what is wrong with it is said in words that a model can act on.
"""

from __future__ import annotations

from sia_flow.agents.language.bench import Files, SandboxBench
from sia_flow.agents.language.faults import AgentFailedError
from sia_flow.agents.language.schema import Change
from sia_flow.scaffold.contract import check


def apply_change(files: Files, change: Change) -> dict[str, str]:
    """Return the files after a change. Raises AgentFailedError where a patch has no single place."""
    new = {**files, **{written.path: written.text for written in change.files}}
    for patch in change.patches:
        if patch.path not in new:
            there = ", ".join(sorted(new))
            raise AgentFailedError("edit", f"{change.name}: no file {patch.path!r} to patch; there is {there}")
        count = new[patch.path].count(patch.find)
        if count != 1:
            where = f"the text to find stands {count} times in {patch.path}; it must stand there exactly once"
            raise AgentFailedError("edit", f"{change.name}: {where}: {patch.find[:120]!r}")
        new[patch.path] = new[patch.path].replace(patch.find, patch.replace)
    return new


def checked_change(files: Files, change: Change, bench: SandboxBench) -> dict[str, str]:
    """Return the files after a change that honours the contract and runs. Raises AgentFailedError that says why not."""
    new = apply_change(files, change)
    if new == dict(files):
        raise AgentFailedError("edit", f"{change.name}: it changes nothing")
    problems = check(new)
    if problems:
        raise AgentFailedError("edit", f"{change.name}: " + "; ".join(problem.message for problem in problems))
    fault = bench.smoke(new).fault
    if fault:
        raise AgentFailedError("edit", f"{change.name}: on a smoke instance the scaffold ended with {fault}")
    return new
