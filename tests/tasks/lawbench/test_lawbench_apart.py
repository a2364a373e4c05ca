"""The verifier in a process of its own: the same verdicts, and the same answers of its tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from sia_flow.verify.task import Task
from tasks.lawbench.verifier import LawBenchVerifier


def test_a_verifier_apart_scores_and_its_tools_answer_alike(task: Task, folder: Path) -> None:
    here = LawBenchVerifier("exact", folder)
    tools = task.tools(here)
    with task.verifier("exact", folder) as there:
        assert (there.digest, there.data_digest) == (here.digest, here.data_digest)
        ours, theirs = here.instances("train", 40, 0), there.instances("train", 40, 0)
        lines = [here.line(one, number % 12) for number, one in enumerate(ours)]
        expected = [here.score_text(*item) for item in zip(ours, lines, strict=True)]
        assert {verdict.reward for verdict in expected} == {0.0, 1.0}
        assert there.score_texts(list(zip(theirs, lines, strict=True))) == expected
        assert there.score_text(there.visible(theirs[0]), lines[0]) == here.score_text(here.visible(ours[0]), lines[0])
        assert there.baselines(theirs[0]) == here.baselines(ours[0])
        asked = {"tool": "svc", "count": 3}
        assert there.tools().names == tools.names
        assert there.tools().call("candidates", theirs[1], asked) == tools.call("candidates", ours[1], asked)
        with pytest.raises(ValueError, match=r"^candidates takes tool, one of .*, and count, from 1 to 20$"):
            there.tools().call("candidates", theirs[1], {"tool": "svc", "count": 0})
