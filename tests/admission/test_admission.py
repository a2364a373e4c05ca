from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sia_flow.admission.check import check_folder
from sia_flow.admission.findings import Finding, admitted
from sia_flow.admission.repeat import check_repeat
from sia_flow.errors import TaskError
from sia_flow.lineage.records import Verdict
from sia_flow.spec.load import load_experiments
from sia_flow.verify.task import load_task


def codes(findings: Iterator[Finding] | list[Finding], level: str = "fail") -> set[str]:
    return {finding.code for finding in findings if finding.level == level}


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_new_task_is_admitted_and_can_be_run(task: Path, project: Path) -> None:
    findings = check_folder(task)
    assert admitted(findings)
    assert {finding.check for finding in findings} >= {
        "manifest",
        "scaffold",
        "splits",
        "leak",
        "probes",
        "determinism",
    }
    assert not (project / "data").exists()
    (experiment,) = load_experiments(project / "specs" / "curves.yaml", [])
    found = load_task(project, experiment.spec.task.name)
    assert found.manifest.base is not None
    assert experiment.spec.policy.base == found.manifest.base.name
    found.prepare("waves", project / "data")
    (instance,) = found.verifier(None, project / "data").instances("select", 1, 0)
    assert 0.6 < found.verifier(None, project / "data").baselines(instance)["running mean"].reward < 0.9


FAULTS = {
    "echo_pays": ("verifier.py", "1.0 - after / before", "1.1 - after / before"),
    "zeros_pays": ("verifier.py", "min(max(1.0 - after / before, 0.0), 1.0)", "1.0"),
    "not_refused": ("verifier.py", "if not np.isfinite(output).all():", "if False:"),
    "split_overlap": ("data.py", "range(48, 60)", "range(44, 60)"),
    "missing_split": ("verifier.py", "sets[:count]", "sets[: count if split == 'train' else 0]"),
    "duplicate_ids": ("verifier.py", 'f"{split}/{index}"', 'f"{split}"'),
    "instances_change": ("verifier.py", "PCG64(seed)", "PCG64()"),
    "private_is_public": ("verifier.py", '{"y": noisy}', '{"y": noisy, "t": truth}'),
    "score_changes": ("verifier.py", "0.0), 1.0)", "0.0), 1.0) * (1.0 + np.random.default_rng().random())"),
    "verdict_changes": (
        "verifier.py",
        "valid=True, metrics",
        'valid=True, reason=f"n{np.random.default_rng().integers(1 << 60)}", metrics',
    ),
    "verifier_breaks": (
        "verifier.py",
        "if not np.isfinite(output).all():",
        "if not np.isfinite(output).all() and 1 / 0:",
    ),
    "probe_pays": ("probes.py", "np.full_like(y, y.mean())", "y * 0.95"),
    "missing_direction": ("task.yaml", ", direction: maximize", ""),
    "missing_metric": ("task.yaml", "metric: {name: removed, direction: maximize, floor: 0.0}", ""),
    "bad_manifest": ("task.yaml", "prepare: data.py:prepare", "prepare: nothing"),
    "no_data": ("task.yaml", "waves", "tides"),
    "solve": ("scaffold/scaffold.py", "def solve(job", "def answer(job"),
}


@pytest.mark.parametrize("code", FAULTS)
def test_every_fault_is_found_by_its_name(code: str, task: Path) -> None:
    file, old, new = FAULTS[code]
    change(task / file, old, new)
    findings = check_folder(task)
    assert code in codes(findings), [(f.code, f.message) for f in findings]
    assert not admitted(findings)


def test_missing_files_and_strangers_are_said(task: Path, tmp_path: Path) -> None:
    (task / "task.md").unlink()
    assert "missing_file" in codes(check_folder(task))
    with pytest.raises(TaskError, match=r"is no task: it has neither task\.yaml nor data/public"):
        check_folder(tmp_path)


def verdicts(*rewards: float) -> list[list[Verdict]]:
    return [[Verdict(reward=reward, valid=True)] for reward in rewards]


@pytest.mark.parametrize(("rewards", "level"), [((1.0, 1.02, 1.01), "ok"), ((1.0, 1.05), "warn"), ((1.0, 1.3), "fail")])
def test_the_noise_of_timed_rewards_has_two_bounds(rewards: tuple[float, ...], level: str) -> None:
    (finding,) = check_repeat(verdicts(*rewards), ["a program"], timed=True)
    assert (finding.check, finding.level) == ("noise", level)


def test_findings_are_json(task: Path) -> None:
    told = json.loads(json.dumps([finding.to_json() for finding in check_folder(task)]))
    assert set(told[0]) == {"check", "level", "code", "message"}
