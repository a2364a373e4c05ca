"""MLE-bench competitions: grade.py with the answers, and the public files that a program may read.

The test rows are divided by id into train, select and sealed; a submission is graded on the rows of one split.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import yaml

from sia_flow.canonical import derive_seed, digest_bytes
from sia_flow.errors import TaskError
from sia_flow.importers.layout import Imported, task_name
from sia_flow.importers.packages import imported_packages, missing_note
from sia_flow.importers.question_rows import SHARES
from sia_flow.importers.table_files import id_column, read_rows

Direction = Literal["maximize", "minimize"]
HELPERS = "mlebench/competitions/utils.py"
SAMPLE = ("sample_submission.csv", "sampleSubmission.csv")


def read_mle(
    path: Path, name: str | None, public: Path | None, answers: Path | None, direction: Direction | None
) -> Imported:
    """Read a competition's folder. `public` and `answers` are its prepared data. Raises TaskError."""
    grader = path / "grade.py" if path.is_dir() else path
    if not grader.is_file() or "def grade(" not in grader.read_text(encoding="utf-8"):
        raise TaskError(f"{grader} is no grader: it has no `def grade(submission, answers)`")
    public = public or path / "prepared" / "public"
    answers = answers or _configured(path) or path / "prepared" / "private" / "test.csv"
    for there, option in ((public.is_dir(), "--public FOLDER"), (answers.is_file(), "--answers FILE.csv")):
        if not there:
            raise TaskError(f"{path}: its prepared data are not there; download them and give {option} [missing_data]")
    chosen = direction or _direction(path / "leaderboard.csv")
    if chosen is None:
        words = "nothing says whether more is better (no leaderboard.csv with scores)"
        raise TaskError(f"{path}: {words}; give --direction maximize or minimize [missing_direction]")
    sample = next((public / one for one in SAMPLE if (public / one).is_file()), None)
    column = id_column(read_rows(sample or answers), sample or answers)
    foreign = {"grade.py": grader.read_bytes(), **_helpers(grader)}
    packages, missing = imported_packages({**foreign, "harness.py": b"import pandas, numpy"})
    files = {
        f"public/{p.relative_to(public).as_posix()}": p.read_bytes() for p in sorted(public.rglob("*")) if p.is_file()
    }
    what = task_name(name, path if path.is_dir() else path.parent)
    text = path / "description.md"
    return Imported(
        kind="mle-bench",
        name=what,
        title=what.replace("_", " "),
        description=text.read_text(encoding="utf-8") if text.is_file() else f"# {what}\n",
        verifier="sia_flow.foreign.tables:TableVerifier",
        settings={
            "file": "grade.py",
            "packages": packages,
            "metric": "score",
            "lower_is_better": chosen == "minimize",
        },
        meta={
            "splits": _divide(answers, column),
            "id_column": column,
            "public": sorted(name.removeprefix("public/") for name in files),
            "sample": "" if sample is None else sample.read_text(encoding="utf-8")[:400],
            "files": {
                name: digest_bytes(data) for name, data in {**files, "answers.csv": answers.read_bytes()}.items()
            },
            "labels": [],
        },
        shape="table",
        foreign=foreign,
        data={**files, "answers.csv": answers.read_bytes()},
        notes=(
            *missing_note(missing),
            f"direction: {chosen}" + (", reward = 1 / (1 + score)" * (chosen == "minimize")),
        ),
    )


def _configured(path: Path) -> Path | None:
    """Return the answers that config.yaml names, where they lie below the competition's folder."""
    config = path / "config.yaml"
    if not config.is_file():
        return None
    named: Any = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
    answers = str((named.get("dataset") or {}).get("answers", ""))
    found = path / answers.partition("/")[2]
    return found if answers and found.is_file() else None


def _direction(leaderboard: Path) -> Direction | None:
    """Return the direction that a leaderboard shows, best first; None where it is not there."""
    if not leaderboard.is_file() or leaderboard.read_bytes().startswith(b"version https://git-lfs"):
        return None
    scores = [float(row["score"]) for row in read_rows(leaderboard) if row.get("score")]
    if not scores or scores[0] == scores[-1]:
        return None
    return "minimize" if scores[0] < scores[-1] else "maximize"


def _helpers(grader: Path) -> dict[str, bytes]:
    """Return the checkout's helper functions that graders share, to stand beside our stand-ins."""
    for parent in grader.resolve().parents:
        if (parent / HELPERS).is_file():
            return {
                f"standins/{HELPERS}": (parent / HELPERS).read_bytes(),
                "standins/mlebench/competitions/__init__.py": b"\n",
            }
    return {}


def _divide(answers: Path, column: str) -> dict[str, list[str]]:
    rows = read_rows(answers)
    if column not in rows[0]:
        raise TaskError(f"{answers} has no column {column!r}, by which the sample submission names its rows [bad_ids]")
    names = [name for name, share in SHARES.items() for _ in range(share)]
    splits: dict[str, list[str]] = {name: [] for name in SHARES}
    for row in rows:
        splits[names[derive_seed("split", json.dumps(row[column])) % len(names)]].append(str(row[column]))
    empty = [name for name, ids in splits.items() if not ids]
    if empty:
        raise TaskError(f"{answers}: {len(rows)} rows are too few, none falls into {empty[0]} [missing_split]")
    return splits
