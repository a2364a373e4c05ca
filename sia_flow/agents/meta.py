"""The builtin Meta-Agent: the reference scaffold, with the settings that the task description names.

Invariant: the scaffold differs from the reference in constants and docstring alone, honours the contract, and
is the same for every seed, so that all arms and seeds start from one scaffold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sia_flow.canonical import digest_bytes
from sia_flow.errors import ScaffoldError
from sia_flow.scaffold.constants import Value, parse_constants, set_constants
from sia_flow.scaffold.contract import MAIN, check
from sia_flow.scaffold.docstring import append_docstring

NAMES = r"[A-Z][A-Z0-9_]*(?:, [A-Z][A-Z0-9_]*)*"
NUMBERS = r"-?\d+(?:\.\d+)?(?:, -?\d+(?:\.\d+)?)*"
SETTING = re.compile(rf"(?<![\w.])({NAMES}) = ({NUMBERS})(?!\w|\.\d)")


class BuiltinMetaAgent:
    """Writes the first scaffold without a model."""

    def write(self, task_description: str, reference: Mapping[str, str], seed: int) -> dict[str, str]:
        """Return the files of the first scaffold.

        A constant that the description sets, by `KNN = 15` or `KNN, T = 15, 3`, takes that value where it is
        within the stated range. Raises ScaffoldError where the reference breaks the contract.
        """
        del seed  # nothing is drawn
        problems = check(reference)
        if problems:
            raise ScaffoldError("the reference breaks the contract: " + "; ".join(p.message for p in problems))
        settings = _settings(task_description, reference[MAIN])
        source = set_constants(reference[MAIN], settings)
        return {**reference, MAIN: append_docstring(source, _note(task_description, settings))}


def _settings(description: str, source: str) -> dict[str, Value]:
    constants = {constant.name: constant for constant in parse_constants(source)}
    settings: dict[str, Value] = {}
    for name, text in _assignments(description):
        constant = constants.get(name)
        if constant is None or constant.kind == "str" or (constant.kind == "int" and "." in text):
            continue
        if constant.low <= float(text) <= constant.high:
            settings[name] = int(text) if constant.kind == "int" else float(text)
    return settings


def _assignments(description: str) -> list[tuple[str, str]]:
    """Return the names and numbers that are set in the text; where their counts differ, it was no setting."""
    found = [(names.split(", "), numbers.split(", ")) for names, numbers in SETTING.findall(description)]
    return [pair for names, numbers in found if len(names) == len(numbers) for pair in zip(names, numbers, strict=True)]


def _note(description: str, settings: Mapping[str, Value]) -> str:
    title = next((line.strip("# ") for line in description.splitlines() if line.strip("# ")), "untitled")
    title = re.sub(r"[^\w .,:()/-]", "", title)[:60]
    read = f"Read: {title} ({len(description.split())} words, {digest_bytes(description.encode())[:12]})."
    named = ", ".join(f"{name} {value}" for name, value in settings.items()) or "none; the reference's stand"
    return f"{read}\nSettings that it names: {named}."
