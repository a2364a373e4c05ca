"""Experiments as they were recorded: the spec of a head, and the project that it is run in."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from sia_flow.errors import SpecError
from sia_flow.lineage.heads import Head
from sia_flow.plan.project import Project
from sia_flow.spec.models import Experiment


def use_project(project: Project) -> None:
    """Let the project's flows and tasks be imported."""
    if str(project.root) not in sys.path:
        sys.path.insert(0, str(project.root))


def experiment_of(head: Head, **changes: Any) -> Experiment:
    """Return the experiment of a head, with these fields of its spec changed.

    Raises SpecError where the head holds none, or one that this version does not read.
    """
    if not head.spec:
        raise SpecError(f"the spec of {head.name} is not recorded: apply its spec once more, which costs nothing")
    spec: Mapping[str, Any] = {**head.spec, "spec": {**head.spec["spec"], **changes}}
    try:
        return Experiment.model_validate_json(json.dumps(spec))
    except ValidationError as error:
        raise SpecError(f"the recorded spec of {head.name} is not one that this version reads: {error}") from error
