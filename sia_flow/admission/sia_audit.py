"""What is wrong with a sia-agent task folder: answers that agents are shown, and an evaluator that pays for nothing.

The evaluator is run as it is, in the sandbox, on submissions that we make: a perfect one, and cheap ones.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sia_flow.admission.findings import Finding, ok
from sia_flow.foreign.runner import ForeignRunner
from sia_flow.importers.packages import imported_packages
from sia_flow.importers.sia_agent import SiaFolder, join, labelled_rows, open_folder

REPEATS = 20_000
SNIPPET = 40
LONG_ID = 12
"""Characters from which on an id is taken for a name that stands nowhere by chance."""
NEAR = 0.95
"""Share of a perfect score from which on a cheap submission has gamed the metric."""

Answers = Sequence[tuple[str, Any]]
Form = Callable[[Answers], dict[str, str]]


def audit_sia(path: Path) -> list[Finding]:
    """Return the findings about a task folder. Raises TaskError where it is none."""
    folder = open_folder(path)
    label, rows = join(folder, None)
    findings = [*_leaks(folder, rows), *_shared_texts(folder, rows)]
    if folder.evaluator is None:
        words = "there is no data/public/evaluate.py: nothing in the folder scores an answer"
        return [*findings, Finding("foreign", "fail", "no_evaluator", words)]
    direction = "no metric direction is declared; the first number of results.json is taken for the metric"
    findings.append(Finding("foreign", "warn", "no_direction", direction))
    files = {p.relative_to(path).as_posix(): p.read_bytes() for p in sorted((path / "data").rglob("*")) if p.is_file()}
    packages, _ = imported_packages({"evaluate.py": folder.evaluator.read_bytes()})
    with ForeignRunner(files, packages) as runner:
        findings += _games(runner, [(row["id"], _value(row["answer"])) for row in rows], label)
    return findings


def _games(runner: ForeignRunner, truth: Answers, label: str) -> Iterator[Finding]:
    """Yield what cheap submissions earn, in the first form that a perfect one is understood in."""
    scores = {name: _evaluate(runner, form(truth)) for name, form in _forms(label).items()}
    name = max(scores, key=lambda one: _metric(scores[one])[1])
    metric, best = _metric(scores[name])
    if best <= 0:
        yield Finding(
            "foreign", "fail", "not_understood", "the evaluator gives no number for any form of perfect answers"
        )
        return
    first = str((scores[name] or {}).get("first", ""))
    if first and first != metric:
        words = (
            f"the first number of results.json is {first!r}, not {metric!r}: who takes the first, takes the wrong one"
        )
        yield Finding("foreign", "warn", "first_number_is_no_metric", words)
    form, found = _forms(label)[name], {}
    for game, answers in _cheap(truth).items():
        earned = _evaluate(runner, form(answers))
        found[game] = 0.0 if earned is None else dict(earned.get("metrics", {})).get(metric, 0.0)
        if found[game] >= NEAR * best:
            words = f"{game} earns {metric} {found[game]:.4g}; all {len(truth)} right answers earn {best:.4g}"
            yield Finding("foreign", "fail", f"gameable_{game.split()[-1]}", words)
    told = ", ".join(f"{game} {value:.4g}" for game, value in found.items())
    yield ok("foreign", f"the evaluator runs ({name} form): perfect answers {metric} {best:.4g}; {told}")


def _cheap(truth: Answers) -> dict[str, Answers]:
    """Return submissions that know one answer, or none; the last word of a name is its code."""
    common = Counter(json.dumps(answer) for _, answer in truth).most_common(1)[0][0]
    return {
        "no answer at all: empty": [],
        "one known answer alone": truth[:1],
        f"one known answer {REPEATS} times: repeated": [truth[0]] * REPEATS,
        "the commonest answer everywhere: constant": [(name, json.loads(common)) for name, _ in truth],
    }


def _forms(label: str) -> dict[str, Form]:
    """Return the forms of submissions that sia-agent's tasks use, as files of a generation's folder."""

    def table(answers: Answers) -> dict[str, str]:
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerows([("id", label), *answers])
        return {"submission.csv": out.getvalue()}

    def details(answers: Answers) -> dict[str, str]:
        rows = [{"question_id": _number(name), "model_answer": answer} for name, answer in answers]
        return {"results/submission.json": json.dumps({"details": rows})}

    def responses(answers: Answers) -> dict[str, str]:
        rows = [{"question_id": name, "solution": answer} for name, answer in answers]
        return {"responses.json": json.dumps(rows)}

    return {"submission.csv": table, "submission.json": details, "responses.json": responses}


def _evaluate(runner: ForeignRunner, files: Mapping[str, str]) -> Mapping[str, Any] | None:
    return runner.call("sia", file="data/public/evaluate.py", files=dict(files)).value


def _metric(found: Mapping[str, Any] | None) -> tuple[str, float]:
    """Return the number that is meant: accuracy or score where it is there, else the first."""
    metrics = dict((found or {}).get("metrics", {}))
    name = next((n for n in ("accuracy", "score", "f1") if n in metrics), str((found or {}).get("first", "")))
    return name, float(metrics.get(name, 0.0))


def _leaks(folder: SiaFolder, rows: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Yield texts that agents are given and in which test questions stand, with whatever is told of them."""
    marks, found = _marks(rows), False
    named = {row["id"] for row in rows if len(row["id"]) >= LONG_ID}
    for path in _texts(folder.root):
        flat = " ".join(path.read_text(encoding="utf-8", errors="replace").split())
        tokens = named & set(re.findall(r"[\w.-]+", flat))
        shown = [row for row in rows if row["id"] in tokens or any(mark in flat for mark in marks[row["id"]])]
        told = [row for row in shown if len(row["answer"]) > 1 and all(p in flat for p in _parts(row["answer"]))]
        if shown:
            found = True
            words = f"{path.name} shows {len(shown)} of the {len(rows)} test questions ({shown[0]['id']!r} for one)"
            with_answer = f", {len(told)} of them with what the answer is made of" if told else ""
            yield Finding("leak", "fail", "test_rows_shown", f"{words}{with_answer}; agents are given this file")
    if not found:
        yield ok("leak", "no test question stands in the texts that agents are given")


def _marks(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return, for each row, pieces of its question that no other row has."""
    pieces = {row["id"]: [p for value in row["question"].values() for p in _pieces(str(value))] for row in rows}
    counts = Counter(piece for found in pieces.values() for piece in set(found))
    return {name: [p for p in found if counts[p] == 1] for name, found in pieces.items()}


def _pieces(text: str) -> list[str]:
    flat = " ".join(text.split())
    return [flat[start : start + SNIPPET] for start in range(0, len(flat) - SNIPPET + 1, SNIPPET)]


def _shared_texts(folder: SiaFolder, rows: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    known = {json.dumps(row["question"], sort_keys=True) for row in labelled_rows(folder)}
    shared = [row for row in rows if json.dumps(row["question"], sort_keys=True) in known]
    if shared:
        words = f"{len(shared)} of {len(rows)} test questions stand word for word among the labelled rows"
        yield Finding("leak", "fail", "test_in_train", words)


def _texts(root: Path) -> list[Path]:
    places = [root / "reference", root / "data" / "public", root / "data" / "training_data"]
    return sorted(
        p for place in places if place.is_dir() for p in place.iterdir() if p.suffix in {".md", ".py", ".txt"}
    )


def _parts(answer: str) -> set[str]:
    return {part.strip('"[], ') for part in answer.split(" ")}


def _value(answer: str) -> Any:
    """Return an answer as its file had it: a JSON list as one, text as it is."""
    return json.loads(answer) if answer.startswith("[") and answer.endswith("]") and '"' in answer else answer


def _number(name: str) -> int | str:
    return int(name) if name.isdigit() else name
