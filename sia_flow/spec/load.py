"""From a spec file to experiments: read, extend, vary, override, validate.

Invariant: either every experiment of the file is valid and returned, or all problems are raised together.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sia_flow.spec.diff import SpecChange, diff_specs
from sia_flow.spec.extends import read_spec
from sia_flow.spec.identity import experiment_digest, resolved_json
from sia_flow.spec.include import lay_layers, split_include
from sia_flow.spec.matrix import expand_matrix, split_matrix
from sia_flow.spec.models import Experiment
from sia_flow.spec.overrides import apply_overrides, parse_overrides
from sia_flow.spec.problems import InvalidSpecError, Problem
from sia_flow.spec.validate import build_experiment

__all__ = ["SpecChange", "diff_specs", "experiment_digest", "load_experiments", "resolved_json"]


def load_experiments(path: Path, overrides: Sequence[str] = ()) -> list[Experiment]:
    """Return the experiments of a file: one, or one for each combination of its matrix and each entry of its include.

    `overrides` are `--set` options, `budget.generations=10`. Raises InvalidSpecError (a SpecError) that names
    the file, line and column of every problem.
    """
    settings = parse_overrides(overrides)
    root, found = read_spec(path)
    root, layers, further = split_include(root)
    problems: list[Problem] = [*found, *further]
    root, axes = split_matrix(root)
    experiments = []
    for tree in (tree for laid in lay_layers(root, layers) for tree in expand_matrix(laid, axes, settings)):
        try:
            experiments.append(build_experiment(apply_overrides(tree, settings)))
        except InvalidSpecError as error:
            problems.extend(error.problems)
    if problems:
        raise InvalidSpecError(problems)
    return experiments
