"""Calls a foreign evaluator inside the sandbox and says in JSON what it found.

Invariant: the evaluator's folder is laid out anew for every job, in a scratch folder that dies with it. Nothing of the
host is imported here but the standard library and what the image names.
"""

from __future__ import annotations

import importlib.util
import io
import json
import math
import os
import runpy
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

WORK = Path("/tmp/work")  # noqa: S108 - the job's own mount
CHUNK = 100_000
_folder = b""


def warm(arrays: Mapping[str, Any]) -> None:
    """Keep the packed folder, once, before the sandbox forks."""
    globals()["_folder"] = arrays["folder"].tobytes()


def main(job: Any) -> str:
    """Lay the folder out, run what the job asks for, and return its result as JSON."""
    with tarfile.open(fileobj=io.BytesIO(_folder)) as archive:
        archive.extractall(WORK, filter="data")
    os.chdir(WORK)
    sys.path[:0] = [str(WORK)]
    sys.path.append(str(WORK / "standins"))
    _show_packages()
    return json.dumps(KINDS[job.instance["kind"]](job), allow_nan=False)


def openevolve(job: Any) -> dict[str, Any]:
    """Run `evaluate(program_path)`."""
    folder = WORK / Path(job.instance["file"]).parent
    sys.path.insert(0, str(folder))
    os.chdir(folder)
    evaluator = _load(WORK / job.instance["file"], "evaluator")
    found = evaluator.evaluate(str(_program(job)))
    metrics = getattr(found, "metrics", found)
    return {"metrics": _numbers(metrics), "feedback": _feedback(metrics, getattr(found, "artifacts", {}))}


def shinka(job: Any) -> dict[str, Any]:
    """Run `evaluate.py --program_path P --results_dir D` and read metrics.json and correct.json."""
    results, file = WORK / "results", WORK / job.instance["file"]
    results.mkdir(exist_ok=True)
    sys.path.insert(0, str(file.parent))
    os.chdir(file.parent)
    _run_script(file, ["--program_path", str(_program(job)), "--results_dir", str(results)])
    metrics = json.loads((results / "metrics.json").read_text())
    correct = json.loads((results / "correct.json").read_text())
    public = metrics.get("public")
    found = {**_numbers(public if isinstance(public, dict) else {}), **_numbers(metrics)}
    words = correct.get("error") or metrics.get("text_feedback") or ""
    return {"metrics": found, "correct": bool(correct.get("correct")), "feedback": str(words)[:2000]}


def mlebench(job: Any) -> dict[str, Any]:
    """Run `grade(submission, answers)` on the rows of a split."""
    import pandas as pd  # type: ignore[import-untyped]

    grader = _load(WORK / job.instance["file"], "grader")
    (WORK / "submission.csv").write_text(job.instance["submission"])
    try:
        submission = pd.read_csv(WORK / "submission.csv")
        answers = pd.read_csv(WORK / "answers.csv")
        wanted, column = set(job.instance["ids"]), job.instance["id_column"]
        if column not in submission.columns:
            return {"invalid": f"the submission has no column {column}"}
        if submission[column].astype(str).duplicated().any():
            return {"invalid": f"an id stands in column {column} twice"}
        parts = [table[table[column].astype(str).isin(wanted)] for table in (submission, answers)]
        score = grader.grade(*(part.reset_index(drop=True) for part in parts))
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        return {"invalid": f"{type(error).__name__}: {error}"[:1000]}
    except Exception as error:
        # The grader may bring its own class of this name.
        if type(error).__name__ != "InvalidSubmissionError":
            raise
        return {"invalid": str(error)[:1000]}
    return {"metrics": _numbers({"score": score})}


def candidate(job: Any) -> dict[str, Any]:
    """Run a program in a folder with the public files; what it writes to submission.csv goes to the host."""
    program = _program(job)
    os.chdir(WORK / "public")
    sys.modules.pop("__main__", None)
    runpy.run_path(str(program), run_name="__main__")
    path = next((p for p in (Path("submission.csv"), WORK / "submission.csv") if p.is_file()), None)
    if path is None:
        return {"invalid": "the program wrote no submission.csv"}
    _send(job, path.read_text())
    return {}


def sia(job: Any) -> dict[str, Any]:
    """Run `evaluate.py --gen-dir G` on a generation's folder and read G/results.json."""
    generation, file = WORK / "generation", WORK / job.instance["file"]
    for name, text in job.instance["files"].items():
        (generation / name).parent.mkdir(parents=True, exist_ok=True)
        (generation / name).write_text(text)
    _run_script(file, ["--gen-dir", str(generation)])
    results = json.loads((generation / "results.json").read_text())
    nested = [value for value in results.values() if isinstance(value, dict) and len(value) < 30]
    found: dict[str, float] = {}
    for part in (*nested, results):
        found |= _numbers(part)
    first = next((name for name, value in results.items() if _is_number(value)), None)
    return {"metrics": found, "first": first or next(iter(found), "")}


def inspect_load(job: Any) -> dict[str, Any]:
    """Make an Inspect task and send its samples to the host, one JSON object a line."""
    task = _inspect_task(job)
    rows = [sample.row(index) for index, sample in enumerate(task.dataset)]
    _send(job, "\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    return {"scorers": [getattr(one, "scorer_name", "") for one in task.scorers], "name": task.name}


def inspect_score(job: Any) -> dict[str, Any]:
    """Score one completion of one sample by the task's own first scorer."""
    import inspect_ai  # type: ignore[import-not-found]

    task = _inspect_task(job)
    if not task.scorers:
        return {"invalid": "the task has no scorer"}
    sample = list(task.dataset)[job.instance["sample"]]
    state = inspect_ai.TaskState(sample, job.instance["completion"])
    score = inspect_ai.run(task.scorers[0](state, inspect_ai.Target(sample.target)))
    return {"metrics": {"score": inspect_ai.as_number(score.value)}, "feedback": str(score.explanation or "")[:2000]}


KINDS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "openevolve": openevolve,
    "shinka": shinka,
    "mlebench": mlebench,
    "candidate": candidate,
    "sia": sia,
    "inspect_load": inspect_load,
    "inspect_score": inspect_score,
}


def _inspect_task(job: Any) -> Any:
    import inspect_ai

    file = WORK / job.instance["file"]
    sys.path.insert(0, str(file.parent))
    os.chdir(file.parent)
    return inspect_ai.make_task(_load(file, "inspect_task_file"), job.instance["task"])


def _program(job: Any) -> Path:
    folder = WORK / "candidate"
    folder.mkdir(exist_ok=True)
    path = folder / "program.py"
    path.write_text(job.instance["program"])
    return path


def _load(path: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _run_script(path: Path, arguments: list[str]) -> None:
    sys.argv = [str(path), *arguments]
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as end:
        if end.code not in (None, 0):
            raise RuntimeError(f"{path.name} ended with exit code {end.code}") from end


def _send(job: Any, text: str) -> None:
    for start in range(0, len(text), CHUNK // 4):
        job.tools.write(text=text[start : start + CHUNK // 4])


def _is_number(value: object) -> bool:
    try:
        return not isinstance(value, str | bytes) and value is not None and math.isfinite(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False


def _numbers(found: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite numbers of a mapping, at most a hundred of them."""
    return {str(name)[:80]: float(value) for name, value in list(found.items())[:100] if _is_number(value)}


def _feedback(metrics: Mapping[str, Any], artifacts: Mapping[str, Any]) -> str:
    words = [str(metrics["error"])] if metrics.get("error") else []
    words += [f"{name}: {value}" for name, value in artifacts.items() if isinstance(value, str)]
    return "; ".join(words)[:2000]


def _show_packages() -> None:
    """Let Python processes that the evaluator starts import the image's packages too."""
    specs = [spec for finder in sys.meta_path for spec in getattr(finder, "_specs", {}).values()]
    folders = {str(Path(s.origin).parent.parent) for s in specs if s.origin and s.origin.endswith("__init__.py")}
    os.environ["PYTHONPATH"] = os.pathsep.join([*sorted(folders), str(WORK / "standins")])
