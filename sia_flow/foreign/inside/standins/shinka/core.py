"""`run_shinka_eval`: run a function of a program some times, validate each result, aggregate, write two JSON files."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Arguments = Callable[[int], dict[str, Any]]
Validate = Callable[[Any], tuple[bool, str | None]]


def run_shinka_eval(
    program_path: str,
    results_dir: str,
    experiment_fn_name: str,
    num_runs: int,
    get_experiment_kwargs: Arguments | None = None,
    aggregate_metrics_fn: Callable[[list[Any]], dict[str, Any]] | None = None,
    validate_fn: Validate | None = None,
    **_unused: Any,
) -> tuple[dict[str, Any], bool, str | None]:
    """Return metrics, whether every run was valid, and the first error; the same stands in `results_dir`."""
    metrics: dict[str, Any] = {"combined_score": 0.0}
    error: str | None = None
    try:
        function = getattr(load_program(program_path), experiment_fn_name)
        results = [function(**(get_experiment_kwargs(i) if get_experiment_kwargs else {})) for i in range(num_runs)]
        verdicts = [validate_fn(result) for result in results] if validate_fn else []
        error = next((f"Validation failed: {words}" for valid, words in verdicts if not valid), None)
        metrics = aggregate_metrics_fn(results) if aggregate_metrics_fn else {"num_valid_runs": len(results)}
    except Exception as failure:  # noqa: BLE001 - boundary: a program's failure is a result
        error = f"{type(failure).__name__}: {failure}"
    folder = Path(results_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "correct.json").write_text(json.dumps({"correct": error is None, "error": error}))
    (folder / "metrics.json").write_text(json.dumps(metrics, default=str))
    return metrics, error is None, error


def load_program(program_path: str) -> Any:
    """Import a program by its path."""
    spec = importlib.util.spec_from_file_location("program", program_path)
    if spec is None or spec.loader is None:
        raise ImportError(program_path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
