"""The tools that scaffolds have on this task: the retrieval scores of the case at hand, answered by the host.

Invariant: a tool reads the scores that were made without the case's own label; it never reads a label.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sia_flow.protocols import Instance
from tasks.lawbench.retrieval import TOOLS
from tasks.lawbench.verifier import LawBenchVerifier

MOST = 20


class LawBenchTools:
    """The tools of one prepared data set; `names` are those that a scaffold may call."""

    names = ("candidates",)

    def __init__(self, verifier: LawBenchVerifier) -> None:
        self.verifier = verifier

    def call(self, name: str, instance: Instance, params: Mapping[str, Any]) -> Any:
        """Answer a call; ValueError says what the scaffold asked wrong."""
        if name != "candidates":
            raise ValueError(f"{name}: no such tool")
        tool, count = params.get("tool"), params.get("count")
        if set(params) != {"tool", "count"} or tool not in TOOLS or type(count) is not int or not 1 <= count <= MOST:
            raise ValueError(f"candidates takes tool, one of {', '.join(TOOLS)}, and count, from 1 to {MOST}")
        return self._candidates(instance, str(tool), count)

    def _candidates(self, instance: Instance, tool: str, count: int) -> list[dict[str, Any]]:
        part, row = self.verifier.data.parts[instance.split], self.verifier.row(instance)
        order = np.argsort(-part.scores[tool][row], kind="stable")[:count]
        return [
            {
                "label": self.verifier.data.classes[int(number)],
                "scores": {name: float(part.scores[name][row, number]) for name in TOOLS},
            }
            for number in order
        ]


def tools(verifier: LawBenchVerifier) -> LawBenchTools:
    """Return the tools on a verifier's data set."""
    return LawBenchTools(verifier)
