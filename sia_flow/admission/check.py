"""The admission probes of a task folder, from its manifest to what its verifier pays.

Invariant: nothing of the project is changed; a data set that is not prepared is made in a folder that is thrown away.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sia_flow.admission import answers, repeat, splits
from sia_flow.admission.findings import Finding, ok
from sia_flow.admission.forgery import check_forgery
from sia_flow.admission.sia_audit import audit_sia
from sia_flow.errors import SiaFlowError, TaskError, VerifierError
from sia_flow.foreign.rows import read_rows
from sia_flow.importers.sia_agent import is_sia_folder
from sia_flow.protocols import Instance, Limits
from sia_flow.sandbox.open import open_sandbox
from sia_flow.scaffold.contract import check as check_scaffold
from sia_flow.verify.apart.client import ApartVerifier
from sia_flow.verify.manifest import read_manifest
from sia_flow.verify.programs import ProgramScorer
from sia_flow.verify.scorers import open_scorer
from sia_flow.verify.task import Task

ROUNDS, TIMED_ROUNDS = 2, 4
"""How often the same answers are scored, each time by a fresh verifier."""
TEXTS = 12
"""Instances on which answers that are texts are tried."""
LIMITS = Limits(wall=30.0, cpu=30.0)


def check_folder(folder: Path, data: str | None = None) -> list[Finding]:
    """Return the findings about a folder: a task of ours, or a sia-agent one. Raises TaskError where it is neither."""
    if (folder / "task.yaml").is_file():
        return list(_check_task(folder.resolve(), data))
    if is_sia_folder(folder):
        return audit_sia(folder)
    raise TaskError(f"{folder} is no task: it has neither task.yaml nor data/public; see `sia-flow task new`")


def _check_task(folder: Path, data: str | None) -> Iterator[Finding]:
    try:
        task = Task(folder.parents[1], read_manifest(folder / "task.yaml"))
    except TaskError as error:
        yield Finding("manifest", "fail", _manifest_code(str(error)), str(error))
        return
    yield ok("manifest", f"task.yaml is complete: {task.manifest.metric.name}, {task.manifest.metric.direction}")
    yield from _texts(task)
    with ExitStack() as stack:
        try:
            folder = _data(task, data, stack)
            rounds = TIMED_ROUNDS if task.manifest.answer.timed else ROUNDS
            verifiers = _verifiers(task, folder, rounds, stack)
        except SiaFlowError as error:
            yield Finding("data", "fail", getattr(error, "reason", "no_data"), str(error))
            return
        try:
            yield from _verified(task, verifiers, stack)
        except VerifierError as error:
            yield Finding("verifier", "fail", "verifier_breaks", str(error))


def _verifiers(task: Task, folder: Path, count: int, stack: ExitStack) -> list[ApartVerifier]:
    """Return fresh verifiers, which start at the same time."""
    found = [stack.enter_context(task.verifier(None, folder, wait=False)) for _ in range(count)]
    return [verifier.ready() for verifier in found]


def _verified(task: Task, verifiers: Sequence[ApartVerifier], stack: ExitStack) -> Iterator[Finding]:
    count = splits.DRAWN if task.manifest.answer.type == "program" else splits.DRAWN_TEXTS
    drawn, again = splits.draw(verifiers[0], count), splits.draw(verifiers[1], count)
    yield from splits.check_splits(drawn, again)
    yield from splits.check_leaks(drawn)
    if drawn["train"]:
        yield from _answers(task, verifiers, [one.instance for one in drawn["train"]], stack)
    failed = [fault for verifier in verifiers for fault in verifier.faults]
    if failed:
        words = f"the verifier failed on {len(failed)} answers, the last time so: {failed[-1]}"
        yield Finding("verifier", "fail", "verifier_breaks", f"{words}; give such an answer a reason instead")


def _texts(task: Task) -> Iterator[Finding]:
    """Yield what is wrong with what agents read."""
    try:
        words, scaffold = task.description(), task.reference()
    except TaskError as error:
        yield Finding("description", "fail", "missing_file", str(error))
        return
    if len(words.split()) < 20:
        yield Finding("description", "warn", "too_short", f"{task.manifest.description} tells agents next to nothing")
    problems = check_scaffold(scaffold)
    for problem in problems:
        yield Finding("scaffold", "fail", problem.code, f"{problem.path}: {problem.message}")
    if not problems:
        yield ok("scaffold", "the reference scaffold keeps the contract")


def _data(task: Task, data: str | None, stack: ExitStack) -> Path:
    """Return a prepared data set: the project's, or one made for the length of the check."""
    folder = task.data_dir(task.root, data)
    if (folder / "meta.json").is_file():
        return folder
    made = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "data"
    task.prepare(task.data_source(task.root, data), made)
    return made


def _answers(
    task: Task, verifiers: Sequence[ApartVerifier], instances: Sequence[Instance], stack: ExitStack
) -> Iterator[Finding]:
    """Yield what answers that need no work earn, and whether a verdict can be had twice."""
    floor = task.manifest.metric.floor
    scorers = [_scorer(task, verifier, stack) for verifier in verifiers]
    if task.manifest.answer.type == "program":
        entry = task.manifest.answer.entry
        yield from answers.check_lazy_programs(scorers[0].score, instances[0], entry, floor)
        yield from _own_probes(task, scorers[0], instances[0])
        lazy = {name: text for name, text in answers.lazy_programs(instances[0], entry).items() if text}
        known = [verifier.baselines(verifier.instances("train", 1, 0)[0]) for verifier in verifiers]
        items = [(instances[0], text) for text in lazy.values()]
        rounds = [[*s.score(items), *base.values()] for s, base in zip(scorers, known, strict=True)]
        yield from repeat.check_repeat(rounds, [*lazy, *known[0]], timed=task.manifest.answer.timed)
        return
    yield from _text_answers(verifiers, instances, floor, scorers)


def _text_answers(
    verifiers: Sequence[ApartVerifier], instances: Sequence[Instance], floor: float, scorers: Sequence[ProgramScorer]
) -> Iterator[Finding]:
    foreign = verifiers[0].foreign or {}
    rows = list(read_rows(verifiers[0].place.data).values()) if foreign.get("family") == "rows" else []
    shown = instances[:TEXTS] if rows or not foreign else instances[:1]
    labels = sorted({str(row["answer"]) for row in rows})
    yield from answers.check_lazy_texts(scorers[0].score, shown, labels if len(labels) <= 40 else (), floor)
    if len(labels) > 40:
        yield from splits.check_answers_in_questions(rows)
    tried = {"a known answer": _known(shown[0], rows), "a word": "word"}
    rounds = [one.score([(shown[0], text) for text in tried.values()]) for one in scorers]
    yield from repeat.check_repeat(rounds, list(tried), timed=False)
    if foreign.get("family") in {"evaluator", "table"}:
        yield from check_forgery(verifiers[0], shown[0], foreign["metric"])


def _known(instance: Instance, rows: Sequence[Any]) -> str:
    """Return an answer that is worth something: the row's own, or the program that the task begins with."""
    found = next((str(row["answer"]) for row in rows if instance.id.endswith(f"/{row['id']}")), None)
    return found or str(instance.public.get("program", "word"))


def _own_probes(task: Task, scorer: ProgramScorer, instance: Instance) -> Iterator[Finding]:
    from sia_flow.verify.probes import run_probes

    probes = task.probes()
    verdicts = run_probes(scorer, instance, probes)
    broken = [p.name for p in probes if p.breached(verdicts[p.name], scorer.verifier.floor)]
    for name in broken:
        yield Finding(
            "probes", "fail", "probe_pays", f"the task's own probe {name!r} earns {verdicts[name].reward:.4f}"
        )
    if not probes:
        yield Finding("probes", "warn", "no_probes", "the task names no probes of its own; name some in task.yaml")
    elif not broken:
        yield ok("probes", f"the task's own {len(probes)} probes do not pay")


def _scorer(task: Task, verifier: ApartVerifier, stack: ExitStack) -> ProgramScorer:
    """Return the scorer that the task's kind of answer takes; what it measures is not kept."""
    kept = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    return stack.enter_context(open_scorer(task, verifier, open_sandbox(1), LIMITS, 1, kept))


def _manifest_code(message: str) -> str:
    """Return the reason code of a manifest's fault: the key that is missing, or that it is wrong."""
    missing = re.search(r"([a-z_.]+): Field required", message)
    return f"missing_{missing.group(1).rpartition('.')[2]}" if missing else "bad_manifest"
