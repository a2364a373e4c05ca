"""`sia-flow export`: an arm's best agent as a folder that runs by itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sia_flow.cli.lookup import AsJson, Directory
from sia_flow.errors import SpecError, StoreError

if TYPE_CHECKING:
    from sia_flow.lineage.heads import Head
    from sia_flow.lineage.records import Generation
    from sia_flow.lineage.store import Store
    from sia_flow.plan.project import Project


def command(
    name: Annotated[str, typer.Argument(metavar="NAME|RUN[@GEN]", help="An experiment (its best run), or one run.")],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that does not exist yet.")],
    *,
    base: Annotated[bool, typer.Option(help="Copy the base model too.")] = True,
    merged: Annotated[bool, typer.Option("--merged", help="Also write base and adapter merged as one model.")] = False,
    as_json: AsJson = False,
    directory: Directory = None,
) -> None:
    """Write scaffold, adapter, base, model card with the sealed score, and run.py, which needs nothing of sia-flow.

    Of an experiment, the run whose incumbent is best on select is taken; of a run its incumbent, unless @GEN names
    another generation. Then: python DIR/run.py. The scaffold was written by a model: read it before you run it.

    Examples: sia-flow export denoise best-agent; sia-flow export denoise/SIA-W+H/seed-0 agent --merged
    """
    from sia_flow.cli.lookup import open_store

    project, store = open_store(directory)
    head, generation = _chosen(store, name)
    if out.exists():
        raise SpecError(f"{out} is there already: name a folder that does not exist")
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _write(project, store, head, generation, partial)
        if base:
            _copy_base(project, head, generation, partial / "base")
        if merged:
            _merge(project, head, generation, partial)
        partial.rename(out)
    except OSError as error:
        raise StoreError(f"cannot write {out}: {error.strerror}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    label = f"{head.name}@{generation.index}"
    if as_json:
        typer.echo(json.dumps({"folder": str(out), "agent": label, "generation": generation.id}))
    else:
        typer.echo(f"wrote {label} to {out}: read {out}/README.md and {out}/scaffold/, then python {out}/run.py")


def _chosen(store: Store, name: str) -> tuple[Head, Generation]:
    from sia_flow.lineage.references import find_generation, find_runs, incumbent
    from sia_flow.spec.arms import IDLE

    if "@" not in name:
        # A control that pulls no lever has no agent that the experiment made.
        runs = [head for head in find_runs(store, name) if head.generations and head.control not in IDLE]
        if not runs:
            raise SpecError(f"{name} has no generation to export yet")
        found = [(head, incumbent(store, head)) for head in runs]
        return max(found, key=lambda pair: pair[1].select.mean)
    one = find_generation(store, name)
    if one.head is None or one.generation is None:
        raise SpecError(f"{name}: name a generation of a run, see sia-flow status")
    return one.head, one.generation


def _write(project: Project, store: Store, head: Head, generation: Generation, folder: Path) -> None:
    from sia_flow.files import write_atomic
    from sia_flow.report.card import model_card

    store.objects.checkout(generation.scaffold, folder / "scaffold")
    if generation.adapter is not None:
        store.objects.checkout(generation.adapter, folder / "adapter")
        config = folder / "adapter" / "adapter_config.json"
        filled = {**json.loads(config.read_text(encoding="utf-8")), "base_model_name_or_path": "base"}
        write_atomic(config, json.dumps(filled, indent=2).encode())
    result = store.arm(head.result) if head.result else None
    card = model_card(head, generation, result, _base_name(head))
    script = Path(__file__).parents[1] / "report" / "standalone.py"
    texts = {"README.md": card, "lock.json": _json(head), "instance.json": _json(_instance(project, head))}
    for name, text in {**texts, "run.py": script.read_text(encoding="utf-8")}.items():
        write_atomic(folder / name, text.encode())


def _json(value: Any) -> str:
    plain = value if isinstance(value, dict) else value.model_dump(mode="json")
    return json.dumps(plain, indent=2) + "\n"


def _base_name(head: Head) -> str:
    return str(head.spec["spec"]["policy"]["base"]) if head.spec else "tiny-gpt-oss"


def _instance(project: Project, head: Head) -> dict[str, Any]:
    """Return what an agent sees of the first train instance, as an example; nothing where the data is not here."""
    from sia_flow.cli.recorded import experiment_of, use_project
    from sia_flow.errors import TaskError
    from sia_flow.lineage.store import Store
    from sia_flow.loop.lab import Lab

    if not head.spec:
        return {}
    use_project(project)
    try:
        with Lab(experiment_of(head), project.root, Store(project.store)) as lab:
            return dict(lab.instances("train", 1)[0].public)
    except TaskError:
        return {}


def _base_dir(project: Project, head: Head, generation: Generation) -> Path:
    from sia_flow.policy.bases import base_digest, resolve_base

    folder = resolve_base(_base_name(head), project.models)
    if base_digest(folder) != generation.base:
        raise SpecError(f"{folder} is not the base that this agent ran on ({generation.base[:12]}); or use --no-base")
    return folder


def _copy_base(project: Project, head: Head, generation: Generation, target: Path) -> None:
    shutil.copytree(_base_dir(project, head, generation), target, copy_function=shutil.copyfile)


def _merge(project: Project, head: Head, generation: Generation, folder: Path) -> None:
    """Write base and adapter as one checkpoint, for servers that cannot load the adapter."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if generation.adapter is None:
        raise SpecError(f"generation {generation.index} of {head.name} has no adapter to merge: drop --merged")
    source = _base_dir(project, head, generation)
    base = AutoModelForCausalLM.from_pretrained(source, use_safetensors=True, trust_remote_code=False)
    model = PeftModel.from_pretrained(base, str(folder / "adapter"))
    model.merge_and_unload().save_pretrained(folder / "merged")
    AutoTokenizer.from_pretrained(source).save_pretrained(folder / "merged")
