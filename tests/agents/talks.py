"""A model that answers from a list, and a bench on the records of a grown arm, for the language agents' tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sia_flow.agents.language.bench import Rollouts, Smoke
from sia_flow.dialogue import Ask, Reply, Stop, Text, ToolResult, ToolUse, Usage
from sia_flow.lineage.records import Generation, Trajectory, Verdict
from tests.agents.world import FUNCTION, Arm, Job, rollouts, solve


def says(text: str = "", *calls: tuple[str, Mapping[str, Any]], stop: Stop | None = None) -> Reply:
    """Return a reply of words and tool calls."""
    uses = tuple(ToolUse(id=f"t{n}", name=name, arguments=arguments) for n, (name, arguments) in enumerate(calls))
    words = (Text(text=text),) if text else ()
    return Reply(blocks=(*words, *uses), stop=stop or ("tools" if calls else "end"), usage=Usage(input=1, output=1))


class Scripted:
    """Gives its replies in order and remembers what it was asked."""

    model = "scripted"

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.asked: list[Ask] = []

    def ask(self, ask: Ask) -> Reply:
        self.asked.append(ask)
        return self.replies.pop(0)

    @property
    def results(self) -> list[ToolResult]:
        """The newest tool results that it was shown."""
        return [block for block in self.asked[-1].messages[-1].blocks if isinstance(block, ToolResult)]

    @property
    def heard(self) -> str:
        """The newest words of ours, results included."""
        return json.dumps([b.model_dump() for b in self.asked[-1].messages[-1].blocks], ensure_ascii=False)

    @property
    def everything(self) -> str:
        """All that it was ever told."""
        return "".join(ask.model_dump_json() for ask in self.asked)


class PaperBench:
    """Records of an arm; scaffolds run in this process on a job whose policy always says the same."""

    def __init__(self, arm: Arm | None = None) -> None:
        self.arm = arm or Arm()
        self.runs = 0
        self.changed: dict[int, Rollouts] = {}

    @property
    def history(self) -> Sequence[Generation]:
        return self.arm.history

    def sources(self, index: int) -> Mapping[str, str]:
        return self.arm.files[self.arm.history[index].id]

    def rollouts(self, index: int) -> Rollouts:
        return self.changed.get(index) or list(zip(*rollouts(self.arm.rewards), strict=True))

    def ledger(self) -> Sequence[Any]:
        return []

    def smoke(self, files: Mapping[str, str]) -> Smoke:
        self.runs += 1
        found = Trajectory(instance="train-0", sample=0, seed=0)
        try:
            found = found.model_copy(update={"answer": solve(files["scaffold.py"], Job([FUNCTION] * 9))})
        except Exception as error:  # noqa: BLE001 - whatever a scaffold raises is its outcome
            fields = {"status": "EXCEPTION", "error": f"{type(error).__name__}: {error}"}
            found = found.model_copy(update=fields)
        return Smoke([(found, self.score(found.answer or ""))])

    def score(self, answer: str) -> Verdict:
        return Verdict(reward=0.1, valid=True) if answer else Verdict(reward=0.0, valid=False, reason="no_answer")
