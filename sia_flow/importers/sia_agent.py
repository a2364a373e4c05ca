"""sia-agent task folders: data/public and data/private, joined by id into rows with a question and an answer.

Its evaluator is kept beside the task for `sia-flow task check`; what scores an answer here is equality with the row's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from sia_flow.errors import TaskError
from sia_flow.importers import question_rows
from sia_flow.importers.layout import Imported, task_name
from sia_flow.importers.packages import imported_packages, missing_note
from sia_flow.importers.table_files import Row, id_column, read_rows, spell

TABLES = (".csv", ".json", ".jsonl")
WHOLE = 4000
"""Characters of a question's field that are kept."""


@dataclass(frozen=True, slots=True)
class SiaFolder:
    """The parts of a sia-agent task folder."""

    root: Path
    questions: Path
    answers: Path
    labelled: Path | None
    """Further rows with answers that agents are shown (train.csv)."""
    evaluator: Path | None
    description: str


def is_sia_folder(path: Path) -> bool:
    """Say whether a folder is laid out as sia-agent's tasks are."""
    return (path / "data" / "public").is_dir()


def open_folder(path: Path) -> SiaFolder:
    """Find the parts of a task folder. Raises TaskError that says what is missing."""
    public, private = path / "data" / "public", path / "data" / "private"
    for folder in (public, private):
        if not folder.is_dir():
            raise TaskError(f"{path} is no sia-agent task: it has no {folder.relative_to(path)}")
    answers = next((p for p in sorted(private.iterdir()) if p.suffix in TABLES), None)
    if answers is None:
        raise TaskError(f"{private} holds no table of answers ({', '.join(TABLES)})")
    tables = [p for p in sorted(public.iterdir()) if p.suffix in TABLES]
    rows = read_rows(answers)
    column = id_column(rows, answers)
    shared = {_key(row, column) for row in rows}
    questions = next((p for p in tables if _joins(p, shared) and "sample" not in p.name), None)
    if questions is None:
        raise TaskError(f"{public} holds no table whose ids are those of {answers}")
    labelled = next((p for p in (public / "train.csv", path / "data/training_data/train.csv") if p.is_file()), None)
    evaluator = public / "evaluate.py"
    task = public / "task.md"
    words = task.read_text(encoding="utf-8") if task.is_file() else f"# {path.name}\n"
    return SiaFolder(path, questions, answers, labelled, evaluator if evaluator.is_file() else None, words)


def read_sia(path: Path, name: str | None, label: str | None) -> Imported:
    """Read a sia-agent task folder. Raises TaskError."""
    folder = open_folder(path)
    column, sealed = join(folder, label)
    rows = [] if folder.labelled is None else _labelled(folder.labelled, column)
    known = bool(rows)
    placed = question_rows.divide(rows, sealed) if known else question_rows.divide(sealed)
    data, meta = question_rows.pack(placed)
    foreign = {} if folder.evaluator is None else {"data/public/evaluate.py": folder.evaluator.read_bytes()}
    packages, missing = imported_packages(foreign)
    what = task_name(name, path)
    dropped = len(rows) + len(sealed) - len(placed)
    notes = [*missing_note(missing)]
    notes += ["the folder declares no metric direction: accuracy is taken, more is better"]
    notes += ["it has no evaluator of its own; answers are compared as they are"] * (folder.evaluator is None)
    notes += [f"{dropped} labelled rows have the text of a test row and were left out"] * (dropped > 0)
    notes += ["it has no labelled rows beside the test set, which was divided 3 : 1 : 1"] * (not known)
    return Imported(
        kind="sia-agent",
        name=what,
        title=what.replace("_", " "),
        description=folder.description,
        verifier="sia_flow.foreign.rows:RowsVerifier",
        settings={"packages": packages},
        meta={**meta, "labels": question_rows.label_set(placed), "label": column},
        shape="rows",
        foreign=foreign,
        data={"rows.jsonl": data},
        notes=tuple(notes),
    )


def join(folder: SiaFolder, label: str | None) -> tuple[str, list[Row]]:
    """Return the name of the label column, and the test rows with question and answer. Raises TaskError."""
    questions, answers = read_rows(folder.questions), read_rows(folder.answers)
    id_q, id_a = id_column(questions, folder.questions), id_column(answers, folder.answers)
    column = label or _label_column(answers, {name for row in questions for name in row}, folder.answers)
    if column not in answers[0]:
        there = ", ".join(answers[0])
        raise TaskError(f"{folder.answers} has no column {column!r}; it has {there}: give --label")
    known = {str(row[id_a]): row[column] for row in answers if row.get(column) is not None}
    rows = [_row(row, id_q, known[str(row[id_q])]) for row in questions if str(row[id_q]) in known]
    if not rows:
        raise TaskError(f"no id of {folder.questions} stands in {folder.answers}")
    return column, rows


def labelled_rows(folder: SiaFolder) -> list[Row]:
    """Return the labelled rows that agents are shown, with question and answer. Raises TaskError."""
    return [] if folder.labelled is None else _labelled(folder.labelled, join(folder, None)[0])


def _labelled(path: Path, column: str) -> list[Row]:
    rows = read_rows(path)
    if column not in rows[0]:
        return []
    name = id_column(rows, path)
    return [
        _row({k: v for k, v in row.items() if k != column}, name, row[column], "train-") for row in rows if row[column]
    ]


def _row(row: Row, id_name: str, answer: object, prefix: str = "") -> Row:
    question = {key: spell(value)[:WHOLE] for key, value in row.items() if key != id_name}
    return {"id": f"{prefix}{row[id_name]}", "question": question, "answer": spell(answer)}


def _label_column(answers: Sequence[Row], public: set[str], path: Path) -> str:
    """Return the private column that is the answer: the shortest one, for others explain it."""
    private = [name for name in answers[0] if name not in public and all(row.get(name) is not None for row in answers)]
    named = id_column(list(answers), path)
    private = [name for name in private if name != named]
    if not private:
        raise TaskError(f"{path} has no column that the public data lack; name the answer with --label")
    return min(private, key=lambda name: fmean(len(spell(row[name])) for row in answers))


def _key(row: Row, name: str) -> str:
    return str(row.get(name))


def _joins(path: Path, ids: set[str]) -> bool:
    try:
        rows = read_rows(path)
        name = id_column(rows, path)
    except TaskError:
        return False
    return len({_key(row, name) for row in rows} & ids) > len(ids) // 2
