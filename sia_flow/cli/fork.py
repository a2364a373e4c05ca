"""`sia-flow fork`: a spec that starts where a generation of another experiment was."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sia_flow.cli.lookup import AsJson, Directory
from sia_flow.errors import SpecError

if TYPE_CHECKING:
    from sia_flow.lineage.heads import Head
    from sia_flow.plan.project import Project


def command(
    name: Annotated[str, typer.Argument(metavar="RUN@GEN", help="Where to start: denoise/SIA-H/seed-0@3, or @best.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Override a field: a.b=value.")] = None,
    *,
    called: Annotated[str | None, typer.Option("--name", help="Name of the new experiment.")] = None,
    as_json: AsJson = False,
    directory: Directory = None,
) -> None:
    """Write a spec whose generation 0 is the scaffold and adapter of a stored generation.

    It has the settings, the arm and the seed of the run that it is forked from, changed by --set, and is written to
    specs/NAME.yaml; `apply` runs it. The generation is measured again under the new settings; where nothing that it
    depends on has changed, its records are found and cost nothing.

    Example: sia-flow fork denoise/SIA-W+H@best --set training.algorithm=dpo --name denoise-dpo
    """
    from sia_flow.cli.lookup import open_store
    from sia_flow.lineage.references import find_generation

    project, store = open_store(directory)
    found = find_generation(store, name)
    assert found.generation is not None
    if found.head is None or not found.head.spec:
        raise SpecError(f"the spec of {found.label} is not in the store: apply it once more, then fork it")
    path = _write(project, found.head, found.generation.id, called, overrides or [])
    shown = str(path.relative_to(project.root))
    if as_json:
        typer.echo(json.dumps({"spec": shown, "name": path.stem, "start": found.generation.id}))
    else:
        typer.echo(f"wrote {shown}: {found.label} is its generation 0; next: sia-flow apply {shown}")


def _write(project: Project, head: Head, start: str, called: str | None, overrides: list[str]) -> Path:
    """Write the spec and check it. Raises SpecError, and then leaves no file behind."""
    import yaml

    from sia_flow.cli.workbench import applied_spec
    from sia_flow.files import write_atomic
    from sia_flow.spec.load import load_experiments
    from sia_flow.spec.places import whole_json, with_places

    folder = project.root / "specs"
    path = folder / f"{called or _free_name(folder, head.experiment)}.yaml"
    if path.exists():
        raise SpecError(f"{path} is there already: give another --name")
    draft, spec = path.with_name(f".{path.name}"), _forked(head, path.stem, start)
    if (applied := applied_spec(project, head.experiment)).is_file():
        # Records do not say where models and workers are; the last apply does.
        spec = with_places(spec, load_experiments(applied, [])[0])
    try:
        write_atomic(draft, _text(spec))
        (experiment,) = load_experiments(draft, overrides)
    finally:
        draft.unlink(missing_ok=True)
    title = f"# Forked from {head.name}, generation {start[:12]}.\n"
    text = yaml.safe_dump(whole_json(experiment), sort_keys=False, allow_unicode=True, width=110)
    write_atomic(path, (title + text).encode())
    return path


def _text(spec: Mapping[str, Any]) -> bytes:
    return json.dumps(spec).encode()


def _forked(head: Head, name: str, start: str) -> dict[str, Any]:
    arms = [_alone(arm) for arm in head.spec["spec"]["arms"] if arm["name"] == head.arm]
    own = {**head.spec["spec"], "arms": arms, "seeds": [head.seed], "start": start}
    return {**head.spec, "metadata": {**head.spec["metadata"], "name": name}, "spec": own}


def _alone(arm: Mapping[str, Any]) -> dict[str, Any]:
    """Return an arm with a budget of its own: in a fork there is no other whose spend it could match."""
    if arm.get("spend", "budget") == "budget":
        return dict(arm)
    return {"name": arm["name"].removesuffix("-equal"), "levers": arm["levers"], "control": arm.get("control")}


def _free_name(folder: Path, experiment: str) -> str:
    stem = re.sub(r"-fork-\d+$", "", experiment)
    number = 1
    while (folder / f"{stem}-fork-{number}.yaml").exists():
        number += 1
    return f"{stem}-fork-{number}"
