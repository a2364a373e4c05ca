"""The task's data set: a secret that every input is drawn by, and the digest that names it.

Invariant: the secret is the same wherever the data set is made, so that runs can be compared; it lies on the host, and
no program or scaffold is ever shown it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sia_flow.canonical import Json, canonical_json, digest
from sia_flow.errors import TaskError
from sia_flow.files import write_atomic
from tasks.trimul.cases import CHECKS, TIMED

NAME = "shapes"
META = "meta.json"


def prepare(name: str, out: Path) -> Mapping[str, Any]:
    """Write the data set's meta file to the folder `out` and return it. Raises TaskError for another name."""
    if name != NAME:
        raise TaskError(f"trimul has no data set {name!r}; it has {NAME}")
    shapes: dict[str, Json] = {split: [case.name for case in cases] for split, cases in TIMED.items()}
    meta: dict[str, Json] = {"name": name, "checks": [case.name for case in CHECKS], "shapes": shapes}
    meta["digest"] = digest(["trimul inputs", meta])
    write_atomic(out / META, canonical_json(meta))
    return meta


def load(folder: Path) -> str:
    """Return the digest of a prepared data set. Raises TaskError where it is not there or of other shapes."""
    try:
        meta = json.loads((folder / META).read_bytes())
        found, shapes = str(meta["digest"]), meta["shapes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TaskError(f"{folder} holds no prepared data set of trimul; run `sia-flow prepare data trimul`") from error
    if shapes != {split: [case.name for case in cases] for split, cases in TIMED.items()}:
        raise TaskError(f"{folder} was prepared for other shapes; remove it and run `sia-flow prepare data trimul`")
    return found
