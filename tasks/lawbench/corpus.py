"""What the task's own base is pretrained on: the texts of the train split, and tables in the scaffolds' form.

Invariant: no label goes in. The answer to a table is a number drawn from a fixed preference for the first line,
whatever the case, so that the base knows how to answer and nothing of what is right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np

from tasks.lawbench import data
from tasks.lawbench.retrieval import TOOLS

COUNT = 5
LETTERS = "abcdefghijkl"
STEP = 0.35
PREFERENCE = (0.56, 0.2, 0.1, 0.08, 0.06)
"""How often each line of a table is the answer."""
TABLES = 0.6
"""Share of tables; the rest is text to go on with."""
WINDOW, NEXT = 48, 24
"""Characters of a passage, and of what follows it."""
NAME = 6


def pairs(data_dir: Path, seed: int, count: int) -> Iterator[tuple[str, str]]:
    """Yield `count` (prompt, completion) pairs from the train split of a prepared data set."""
    cases = data.load(data_dir)
    part, random = cases.parts["train"], Random(seed)
    for _ in range(count):
        row = random.randrange(len(part.texts))
        if random.random() < TABLES:
            number = random.choices(range(COUNT), PREFERENCE)[0]
            yield table(cases, row, random.choice(TOOLS), names=random.random() < 0.3), str(number + 1)
        else:
            yield passage(part.texts[row], random)


def table(cases: data.DataSet, row: int, tool: str, *, names: bool) -> str:
    """Return the table of a train case by one tool, as the scaffolds write it."""
    scores = cases.parts["train"].scores
    order = np.argsort(-scores[tool][row], kind="stable")[:COUNT]
    best = {name: max(float(scores[name][row, k]) for k in order) for name in TOOLS}
    lines = []
    for number, k in enumerate(order):
        letters = "".join(_letter(best[name] - float(scores[name][row, k])) for name in TOOLS)
        lines.append(f"{number + 1}{letters}{cases.classes[int(k)][:NAME] if names else ''}")
    return "\n".join(lines)


def passage(text: str, random: Random) -> tuple[str, str]:
    """Return a passage of a text, and what follows it."""
    plain = re.sub(r"[^\u4e00-\u9fff]", "", text) or "无"
    start = random.randrange(max(1, len(plain) - WINDOW - NEXT))
    return plain[start : start + WINDOW], plain[start + WINDOW : start + WINDOW + NEXT] or plain[:1]


def _letter(behind: float) -> str:
    return LETTERS[min(int(behind / STEP), len(LETTERS) - 1)]
