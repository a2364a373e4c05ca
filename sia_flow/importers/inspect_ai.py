"""Inspect AI tasks: the file is run in the sandbox with our stand-in for the framework, and its samples are taken.

Solvers are not taken over: how a question is solved is the scaffold's business. The scorer is, unless it asks a model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sia_flow.errors import TaskError
from sia_flow.foreign.runner import ForeignRunner, Reply
from sia_flow.importers import question_rows
from sia_flow.importers.evolve import read_files
from sia_flow.importers.layout import Imported, task_name
from sia_flow.importers.packages import imported_packages, missing_note


def read_inspect(path: Path, name: str | None) -> Imported:
    """Read `FILE.py` or `FILE.py@TASK`. Raises TaskError with what the file says where it cannot be run."""
    file, _, task = str(path).partition("@")
    source = Path(file)
    if not source.is_file() or source.suffix != ".py":
        raise TaskError(f"{source} is no Python file with an Inspect task; give FILE.py or FILE.py@TASK")
    files = {"task/" + inside: data for inside, data in read_files(source.parent).items()}
    packages, missing = imported_packages({inside: files[inside] for inside in files if inside.endswith(source.name)})
    with ForeignRunner(files, packages) as runner:
        reply = runner.call("inspect_load", file=f"task/{source.name}", task=task)
    if reply.value is None:
        raise TaskError(f"{source} cannot be taken over: {reply.error} [{reply.reason}]{_advice(reply, missing)}")
    rows = question_rows.divide([_row(index, line) for index, line in enumerate(reply.sent.splitlines())])
    scorers = [str(one) for one in reply.value.get("scorers", [])]
    _check_scorers(source, scorers)
    data, meta = question_rows.pack(rows)
    what = task_name(name, Path(str(reply.value.get("name") or source.stem)))
    return Imported(
        kind="inspect",
        name=what,
        title=what.replace("_", " "),
        description=_describe(what, rows, scorers[0]),
        verifier="sia_flow.foreign.rows:InspectVerifier",
        settings={"file": f"task/{source.name}", "packages": packages, "metric": "score"},
        meta={**meta, "labels": [], "task": task},
        shape="rows",
        foreign=files,
        data={"rows.jsonl": data},
        notes=(*missing_note(missing), "solvers of the task are not taken over; the scaffold asks the question"),
    )


def _describe(name: str, rows: list[dict[str, Any]], scorer: str) -> str:
    shown = next(row for row in rows if row["split"] == "train")
    question = json.dumps(shown["question"], ensure_ascii=False)
    how = f"It is scored by the task's own scorer ({scorer or 'a function of the file'}), alone in a sandbox."
    words = f"An Inspect AI task with {len(rows)} samples. The answer is a text. {how}"
    return f"# {name}\n\n{words}\n\n## One of its questions\n{question}\n"


def _row(index: int, line: str) -> dict[str, Any]:
    sample = json.loads(line)
    question: dict[str, Any] = {"input": sample["input"]}
    if sample.get("choices"):
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
        question["choices"] = dict(zip(letters, sample["choices"], strict=False))
    target = sample["target"]
    answer = target if isinstance(target, str) else json.dumps(target, ensure_ascii=False)
    return {"id": f"{index}-{sample['id']}", "index": index, "question": question, "answer": answer}


def _check_scorers(source: Path, scorers: list[str]) -> None:
    if not scorers:
        raise TaskError(f"{source}: the task has no scorer, so nothing says what a right answer is [no_scorer]")
    if scorers[0] == "model_graded":
        raise TaskError(
            f"{source}: its scorer asks a model; give the task a scorer that decides by itself [model_scorer]"
        )


def _advice(reply: Reply, missing: tuple[str, ...]) -> str:
    if missing and "No module named" in reply.error:
        return f"; install {', '.join(missing)}, or take what the file needs of it into the file"
    return ""
