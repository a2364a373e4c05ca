"""The Meta-Agent as a language model: it reads the task, tries scaffolds in the sandbox, and writes the first one.

Invariant: what it hands over honours the contract and ran on a smoke instance; it has one repair round.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sia_flow.agents.language.bench import SandboxBench
from sia_flow.agents.language.edits import checked_change
from sia_flow.agents.language.faults import AgentFailedError
from sia_flow.agents.language.prompts import META, system_of
from sia_flow.agents.language.schema import Package
from sia_flow.agents.language.talk import Talk
from sia_flow.agents.language.toolbox import Toolbox
from sia_flow.agents.language.workspace import file_tools, run_tools
from sia_flow.agents.report import quoted
from sia_flow.dialogue import Talker


class LanguageMetaAgent:
    """Writes the first scaffold by a model. `notes` and `transcript` tell of the last one that it wrote."""

    def __init__(
        self,
        talker: Talker,
        bench: SandboxBench,
        sample: Sequence[Mapping[str, Any]],
        turns: int = 24,
        services: Sequence[str] = (),
    ) -> None:
        """Write nothing yet; `services` are the addresses that scaffolds may read."""
        self.notes = ""
        self.transcript = b""
        self._talker = talker
        self._bench = bench
        self._sample = sample
        self._turns = turns
        self._services = services

    def write(self, task_description: str, reference: Mapping[str, str], seed: int) -> dict[str, str]:
        """Return the files of a scaffold that runs.

        Raises AgentFailedError that says why there is none, and what the model's `ask` raises.
        """
        del seed  # the talker's stream of answers hangs on it
        shown = {**reference, "data_sample.json": json.dumps(list(self._sample), indent=1, sort_keys=True)}
        tools = Toolbox([*file_tools(shown), *run_tools(reference, self._bench)])
        system = system_of(META, task_description, self._services)
        talk = Talk(self._talker, system, tools, Package, self._turns)
        try:
            return self._written(talk, reference, _opening(shown))
        finally:
            self.transcript = talk.transcript()

    def _written(self, talk: Talk[Package], reference: Mapping[str, str], words: str) -> dict[str, str]:
        package = talk.answer(words)
        for repaired in (False, True):
            self.notes = package.notes
            if not package.scaffold.files and not package.scaffold.patches:
                return dict(reference)
            try:
                return checked_change(reference, package.scaffold, self._bench)
            except AgentFailedError as error:
                if repaired:
                    raise
                package = talk.answer(f"{error}. Mend it and answer once more, with the whole change.")
        raise AssertionError("the loop returns or raises")


def _opening(shown: Mapping[str, str]) -> str:
    files = "\n\n".join(f"### {name}\n{quoted(text, len(text))}" for name, text in sorted(shown.items()))
    return (
        f"The reference scaffold, and public fields of train instances:\n\n{files}\n\n"
        "Write the first scaffold. Empty files and patches mean: the reference as it is."
    )
