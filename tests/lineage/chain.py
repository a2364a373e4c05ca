"""A small store with a whole chain in it: steps, two generations, an arm's result, its head. No engine runs."""

from __future__ import annotations

from pathlib import Path

from sia_flow.lineage.heads import Head, write_head
from sia_flow.lineage.jsonl import dump_lines
from sia_flow.lineage.records import Generation, Isolation, Score, Trajectory
from sia_flow.lineage.results import ArmResult, BestProgram
from sia_flow.lineage.store import Step, StepOutput, Store

HELD = Isolation(level=2, backend="bubblewrap")


def score(split: str, mean: float) -> Score:
    return Score(split=split, n=2, mean=mean, se=0.1, best=mean, valid=1.0, rewards={"a": (mean - 0.1, mean + 0.1)})


def measured(store: Store, scaffold: str, split: str, mean: float) -> tuple[dict[str, str], str]:
    """Store a rollout and its verification; return their keys by name, and the trajectories."""
    inputs = {"scaffold": scaffold, "adapter": None, "task": "t", "data": "d", "verifier": "v", "base": "b"}
    lines = dump_lines([Trajectory(instance="a", sample=0, seed=int(mean * 100), answer=split)])
    rollout = store.run(
        Step("rollout", 1, {"split": split}, inputs, 0),
        lambda: StepOutput({"trajectories": store.objects.put_bytes(lines)}),
    )
    verify = store.run(
        Step("verify", 1, {"split": split}, {"trajectories": rollout.outputs["trajectories"]}, 0),
        lambda: StepOutput(
            {"verdicts": store.objects.put_bytes(split.encode())}, score(split, mean).model_dump(mode="json")
        ),
    )
    return {f"rollout {split}": rollout.key, f"verify {split}": verify.key}, rollout.outputs["trajectories"]


def grow(store: Store, index: int, parent: str | None) -> Generation:
    """Store a generation with all that it rests on."""
    scaffold = store.objects.put_tree({"scaffold.py": f"N = {index}\n".encode()})
    train, trajectories = measured(store, scaffold, "train", 0.3 + 0.1 * index)
    select, _ = measured(store, scaffold, "select", 0.2 + 0.1 * index)
    generation = Generation(
        id=f"{index:064x}",
        index=index,
        parent=parent,
        seed=0,
        scaffold=scaffold,
        base="b",
        adapter=store.objects.put_tree({"adapter_model.safetensors": b"weights"}) if index else None,
        data="d",
        verifier="v",
        decision=None,
        train=score("train", 0.3 + 0.1 * index),
        select=score("select", 0.2 + 0.1 * index),
        accepted=True,
        verdict="first generation",
        isolation=HELD,
        trajectories=trajectories,
        steps={**train, **select},
    )
    store.put_generation(generation)
    return generation


def make_chain(root: Path) -> Store:
    """Make the store in a folder and return it."""
    store = Store(root)
    first = grow(store, 0, None)
    second = grow(store, 1, first.id)
    best = BestProgram(
        answer=store.objects.put_bytes(b"def f(): pass\n"),
        train=0.5,
        select=score("select", 0.4),
        sealed=score("sealed", 0.4),
    )
    result = ArmResult(
        key="a" * 64,
        experiment="small",
        arm="SIA-H",
        seed=0,
        generations=(first.id, second.id),
        incumbent=second.id,
        stopped="budget.generations",
        select=second.select,
        sealed=score("sealed", 0.3),
        best=best,
    )
    store.put_arm(result)
    head = Head(
        experiment="small", arm="SIA-H", seed=0, generations=result.generations, result=result.key, inputs={"base": "b"}
    )
    write_head(store, head)
    return store
