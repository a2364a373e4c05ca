"""LawBench: what the features and the baseline cost, and what a finished run of the spec came to.

`python benchmarks/lawbench.py` times the TF-IDF with its SVC on the prepared cases; with the folder of a project whose
spec has run it prints the arms beside the baselines, and which neighbouring charges are taken for each other before and
after the first weight update, on select.
"""

from __future__ import annotations

import csv
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sia_flow.lineage.jsonl import load_lines  # noqa: E402
from sia_flow.lineage.records import Generation, Trajectory  # noqa: E402
from sia_flow.lineage.results import ArmResult  # noqa: E402
from sia_flow.lineage.store import Store  # noqa: E402
from tasks.lawbench import data, retrieval  # noqa: E402

FAMILIES = {
    "theft and robbery": ("盗窃", "抢劫", "抢夺", "故意毁坏财物", "侵占"),
    "assault": ("故意伤害", "故意杀人", "过失致人死亡", "过失致人重伤", "寻衅滋事", "聚众斗殴"),
    "fraud": ("诈骗", "合同诈骗", "贷款诈骗", "信用卡诈骗", "票据诈骗", "保险诈骗", "集资诈骗", "招摇撞骗"),
}


def timed(cases: data.DataSet) -> None:
    """Print the CPU seconds of the baseline: features of all published train cases and the SVC, sealed predicted."""
    train, select, sealed = (cases.parts[split] for split in data.SPLITS)
    texts = [text[: retrieval.LONGEST] for text in (*train.texts, *select.texts)]
    labels = np.concatenate([train.labels, select.labels])
    _, vectorizer = retrieval.vectorizers()
    start = time.process_time()
    known = vectorizer.fit_transform(texts)
    unknown = vectorizer.transform([text[: retrieval.LONGEST] for text in sealed.texts])
    features = time.process_time() - start
    retrieval.svc(known, labels, unknown, len(cases.classes))
    total = time.process_time() - start
    print(f"TF-IDF of {len(texts)} + {len(sealed.texts)} cases: {features:.1f} CPU s; with the SVC {total:.1f} CPU s")


def tools(cases: data.DataSet) -> None:
    """Print how often each tool's first charge is right on train (held out) and select; sealed is left alone."""
    for split in ("train", "select"):
        part = cases.parts[split]
        for name, scores in part.scores.items():
            order = np.argsort(-scores, axis=1)
            tops = [float((order[:, :k] == part.labels[:, None]).any(axis=1).mean()) for k in (1, 3, 5)]
            print(f"{split:7s} {name:9s} top-1 {tops[0]:.3f}  top-3 {tops[1]:.3f}  top-5 {tops[2]:.3f}")


def results(store: Store, cases: data.DataSet) -> None:
    """Print each arm beside the baselines, and the confusions of the arms that pulled the weights."""
    for arm in (found for found in store.arms() if found.experiment == "lawbench"):
        table = ", ".join(f"{name} {means['sealed']:.3f}" for name, means in arm.baselines.items())
        print(f"{arm.arm} seed {arm.seed}: select {arm.select.mean:.4f}, sealed {arm.sealed.mean:.4f} ({table})")
        confusions(store, cases, arm)


def confusions(store: Store, cases: data.DataSet, arm: ArmResult) -> None:
    """Print, before and after the first weight update of an arm, who is taken for whom within each family."""
    history = [store.generation(name) for name in arm.generations]
    for generation in history:
        if generation.decision is not None and generation.decision.lever == "weights":
            before = next(g for g in history if g.id == generation.parent)
            for when, shown in (("before", before), ("after", generation)):
                counts = Counter(pairs(store, cases, shown))
                for family, members in FAMILIES.items():
                    print(f"  {when:6s} gen {shown.index} {family}: {within(counts, members)}")
            return


def within(counts: Counter[tuple[str, str]], members: tuple[str, ...]) -> str:
    """Return the answers to a family's cases, and the confusions inside it in words."""
    asked = sum(count for (truth, _), count in counts.items() if truth in members)
    right = sum(count for (truth, said), count in counts.items() if truth in members and said == truth)
    wrong = {p: n for p, n in counts.items() if p[0] in members and p[1] in members and p[0] != p[1]}
    shown = ", ".join(
        f"{truth}->{said} {n}" for (truth, said), n in sorted(wrong.items(), key=lambda item: -item[1])[:6]
    )
    return f"{right} of {asked} answers right, {sum(wrong.values())} taken for a neighbour ({shown or 'none'})"


def pairs(store: Store, cases: data.DataSet, generation: Generation) -> Iterator[tuple[str, str]]:
    """Yield (charge, answered charge) of a generation's rollouts on select."""
    record = store.find(generation.steps["rollout select"])
    assert record is not None
    for trajectory in load_lines(store.objects.get_bytes(record.outputs["trajectories"]), Trajectory):
        if trajectory.answer is not None:
            name, said = next(csv.reader([trajectory.answer]))
            yield cases.classes[int(cases.parts["select"].labels[int(name.split("-")[1])])], said


def main() -> None:
    """Print the tables."""
    project = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    folder = project / "data/lawbench/cail"
    if not (folder / "meta.json").is_file():
        print(f"{folder} is not prepared: run `sia-flow prepare specs/lawbench.yaml` first")
        return
    cases = data.load(folder)
    tools(cases)
    if len(sys.argv) > 1:
        results(Store(project / ".sia-flow/store"), cases)
    else:
        timed(cases)


if __name__ == "__main__":
    main()
