"""The agent loop's own time: a decision by a model that answers at once, so that all that is left is ours.

Evidence of 128 rollouts over several generations, reading and searching tools, the books and the stored answers on
disk; no sandbox, no network. `python benchmarks/agents.py [--turns 8] [--generations 12] [--folder DIR]`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sia_flow.agents.decision import Evidence
from sia_flow.agents.language.bench import Rollouts, Smoke
from sia_flow.agents.language.feedback import LanguageFeedbackAgent
from sia_flow.dialogue import Ask, Reply, Text, ToolUse, Usage
from sia_flow.lineage.records import Generation, Isolation, Score, Spend, Trajectory, Turn, Verdict
from sia_flow.providers.answers import Answers
from sia_flow.providers.caps import Caps
from sia_flow.providers.journal import Account, Journal
from sia_flow.providers.metering import Meter, MeteredTalker
from sia_flow.providers.settings import ModelSettings
from sia_flow.spec.loop import Budget

SCAFFOLD = {"scaffold.py": "def solve(job):\n    return job.generate([])[0]\n" + "# filler of the usual size\n" * 100}
STOP = {"analysis": "a" * 2000, "lever": "stop", "reason": "Nothing is left.", "forecast": 0.0}
READING: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("list_rollouts", {"generation": 0, "outcome": "all", "order": "worst", "page": 0}),
    ("read_rollout", {"generation": 0, "instance": "i1", "sample": 3, "offset": 0}),
    ("search_rollouts", {"generation": 0, "text": "line 7", "page": 0}),
    ("compare_generations", {"one": 0, "two": 1}),
)


class AtOnce:
    """A provider that answers at once: some turns of tools, then a decision."""

    def __init__(self, turns: int) -> None:
        self.settings = ModelSettings(type="anthropic", model="claude-sonnet-5-5", api_key_env="NONE")
        self.turns = turns

    def complete(self, ask: Ask) -> Reply:
        """Answer."""
        done = sum(message.role == "assistant" for message in ask.messages)
        usage = Usage(input=1000, output=100)
        if done >= self.turns:
            answer = json.dumps({**STOP, "algorithm": None, "rate": None, "edits": []})
            return Reply(blocks=(Text(text=answer),), stop="end", usage=usage)
        name, arguments = READING[done % len(READING)]
        return Reply(blocks=(ToolUse(id="t", name=name, arguments=arguments),), stop="tools", usage=usage)

    def count(self, ask: Ask) -> int | None:
        """Count nothing."""
        del ask
        return None

    def close(self) -> None:
        """Nothing is open."""


class Records:
    """A bench on records in memory."""

    def __init__(self, generations: int) -> None:
        self.history = [_generation(index) for index in range(generations)]
        self.pairs = [_rollout(number) for number in range(128)]

    def sources(self, index: int) -> Mapping[str, str]:
        """Return a scaffold."""
        return {**SCAFFOLD, "notes.md": f"{index}"}

    def rollouts(self, index: int) -> Rollouts:
        """Return the rollouts."""
        del index
        return self.pairs

    def ledger(self) -> Sequence[Any]:
        """Return nothing."""
        return []

    def smoke(self, files: Mapping[str, str]) -> Smoke:
        """Run nothing."""
        del files
        return Smoke(self.pairs[:1])

    def score(self, answer: str) -> Verdict:
        """Score nothing."""
        del answer
        return self.pairs[0][1]


def decide(folder: Path, bench: Records, turns: int, number: int) -> float:
    """Return the milliseconds of one decision."""
    caps = Caps(Budget.model_validate({"usd": 1000.0}))
    meter = Meter(Journal(folder / "spend.jsonl"), Answers(folder / "answers"), caps, lambda _: None)
    talker = MeteredTalker(meter, AtOnce(turns), Account("H", 0, "feedback"), number)
    agent = LanguageFeedbackAgent(talker, bench, "# A task\n" * 200)
    evidence = _evidence(bench)
    started = time.perf_counter()
    decision = agent.decide(evidence)
    elapsed = 1000 * (time.perf_counter() - started)
    assert decision.lever == "stop", decision.reason
    return elapsed


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--generations", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--folder", help="Where the books lie: /dev/shm takes the disk out of the figure.")
    asked = parser.parse_args()
    bench = Records(asked.generations)
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        found = [decide(Path(folder), bench, asked.turns, number) for number in range(asked.repeats)]
        syncs = [_sync(Path(folder) / "sync") for _ in range(20)]
    figures = {
        "calls": asked.turns + 1,
        "load": os.getloadavg()[0],
        "median_ms": round(statistics.median(found), 1),
        "best_ms": round(min(found), 1),
        "worst_ms": round(max(found), 1),
        "one_fsync_ms": round(statistics.median(syncs), 2),
    }
    print(json.dumps(figures))


def _sync(path: Path) -> float:
    started = time.perf_counter()
    with path.open("ab") as file:
        file.write(b"x" * 300)
        file.flush()
        os.fsync(file.fileno())
    return 1000 * (time.perf_counter() - started)


def _rollout(number: int) -> tuple[Trajectory, Verdict]:
    text = "\n".join(f"line {n}: the program of rollout {number}" for n in range(40))
    turn = Turn(
        messages=({"role": "user", "content": "Write it. " * 30},),
        text=text,
        prompt_ids=(),
        completion_ids=(),
        logprobs=(),
        temperature=1.0,
        finish="stop",
        policy="p",
    )
    rollout = Trajectory(instance=f"i{number % 4}", sample=number // 4, seed=0, turns=(turn,), answer=text)
    valid = number % 5 != 0
    reason, feedback = ("ok", "fine") if valid else ("exception", f"KeyError: 'g{number}' in line {number}")
    return rollout, Verdict(reward=number / 200 if valid else 0.0, valid=valid, reason=reason, feedback=feedback)


def _generation(index: int) -> Generation:
    score = Score(split="train", n=128, mean=0.1 + index / 100, se=0.01, best=0.3, valid=0.8)
    return Generation(
        id=f"g{index}",
        index=index,
        parent=f"g{index - 1}" if index else None,
        seed=0,
        scaffold="s",
        base="b",
        adapter=None,
        data="d",
        verifier="v",
        decision=None,
        train=score,
        select=score.model_copy(update={"split": "select"}),
        accepted=True,
        verdict="kept",
        spend=Spend(),
        isolation=Isolation(level=2, backend="none"),
        trajectories="t",
    )


def _evidence(bench: Records) -> Evidence:
    return Evidence(
        levers=("harness", "weights"),
        generation=bench.history[-1],
        incumbent=bench.history[-1],
        history=tuple(bench.history),
        scaffold=SCAFFOLD,
        trajectories=[t for t, _ in bench.pairs],
        verdicts=[v for _, v in bench.pairs],
        best_program=bench.pairs[-1][0].answer,
        menu=("grpo",),
        iterations=10,
        rates=lambda _: (1e-3, 0.0),
        trials=4,
        seed=0,
        choose=lambda *_: ("grpo", "it is alone"),
    )


if __name__ == "__main__":
    main()
