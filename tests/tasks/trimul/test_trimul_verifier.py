"""The verifier and its data set, and real programs raced in the sandbox."""

from __future__ import annotations

import numpy as np
import pytest

from sia_flow.errors import TaskError
from sia_flow.verify.probes import assert_probes
from sia_flow.verify.timed import Timing
from tests.tasks.trimul.kernels import LADDER

FIRST_CALL_ONLY = """
import numpy as np
CALLS = []
{right}
def custom_kernel(data):
    CALLS.append(1)
    return update(data) if len(CALLS) == 1 else np.zeros_like(data["x"])
"""


def source(name):
    return (LADDER / f"{name}.py").read_text()


def test_instances_take_turns_through_the_shapes_of_their_split(verifier):
    found = verifier.instances("train", 3, 0)
    shapes = [instance.public["shapes"] for instance in found]
    assert len({instance.id for instance in found}) == 3
    assert shapes[0] == shapes[2] != shapes[1]
    sealed = {name for instance in verifier.instances("sealed", 2, 0) for name in instance.public["shapes"]}
    assert not sealed & {name for names in shapes for name in names}
    twin = verifier.visible(found[0])
    assert (twin.public["shapes"], twin.id != found[0].id) == (shapes[0], True)


def test_what_is_reported_is_measured_longest(verifier):
    plans = [verifier.plan(verifier.instances(split, 1, 0)[0]) for split in ("train", "select", "sealed")]
    effort = [plan.repeats * plan.sessions for plan in plans]
    assert effort == sorted(set(effort))
    assert all(len(plan.checks) == 3 and len(plan.timed) == 2 for plan in plans)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda y: y, None),
        (lambda y: y + 9e-4, None),
        (lambda y: y + 3e-3 * np.abs(y).max(), "wrong"),
        (lambda y: y * np.float32(np.nan), "non_finite"),
        (lambda y: np.where(y == y.max(), np.inf, y), "non_finite"),
        (np.zeros_like, "wrong"),
    ],
)
def test_outputs_are_judged_by_their_distance(verifier, change, reason):
    expected = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    fault = verifier.fault(change(expected), expected)
    assert (None if fault is None else fault.reason) == reason


def test_the_reward_is_on_the_papers_scale(verifier):
    verdict = verifier.verdict([Timing("a", 1e-3, 2.0), Timing("b", 4e-3, 8.0)])
    assert verdict.metrics["speedup"] == pytest.approx(4.0)
    assert verdict.metrics["us"] == pytest.approx(2000.0)
    assert verdict.reward == pytest.approx(0.42)
    assert verifier.baselines(verifier.instances("train", 1, 0)[0])["reference"].reward == 0.105


def test_an_array_is_no_answer(verifier):
    with pytest.raises(TaskError, match="has to be timed"):
        verifier.score(verifier.instances("train", 1, 0)[0], np.zeros(3))


def test_modes_and_data_that_are_not_there_are_refused(task, tmp_path):
    with pytest.raises(TaskError, match="no mode 'tpu'"):
        task.verifier("tpu", tmp_path)
    with pytest.raises(TaskError, match=r"CUDA device|benchmarks/trimul\.py gpu"):
        task.verifier("gpu", tmp_path)
    with pytest.raises(TaskError, match="no prepared data set"):
        task.verifier(None, tmp_path)
    with pytest.raises(TaskError, match="it has shapes"):
        task.prepare("pbmc", tmp_path)
    meta = task.prepare("shapes", tmp_path)
    changed = (tmp_path / "meta.json").read_text().replace(meta["shapes"]["train"][0], "1x2x3x4")
    (tmp_path / "meta.json").write_text(changed)
    with pytest.raises(TaskError, match="prepared for other shapes"):
        task.verifier(None, tmp_path)


def test_probes_do_not_pay(scorer, task, verifier):
    verdicts = assert_probes(scorer, verifier.instances("train", 1, 0)[0], task.probes())
    assert verdicts["not a number"].reason == "non_finite"
    assert verdicts["wrong shape"].reason == "bad_shape"
    assert verdicts["reads the host's data"].reason == "exception"


@pytest.mark.slow
def test_the_ladder_climbs_and_the_reference_is_one(scorer, verifier):
    instance = verifier.instances("train", 1, 0)[0]
    names = ("reference", "matmul", "channels", "fused")
    verdicts = scorer.score([(instance, source(name)) for name in names])
    gains = [verdict.metrics["speedup"] for verdict in verdicts]
    assert all(verdict.valid for verdict in verdicts)
    assert 0.8 < gains[0] < 1.25
    assert gains[0] * 2 < gains[1] < gains[2]
    assert gains[1] * 1.3 < gains[3]


def test_one_that_is_right_on_the_first_call_only_earns_nothing(scorer, verifier):
    right = source("channels").replace("def custom_kernel", "def update").replace("from __future__", "#")
    right = right.replace(source("channels").split("\n", 1)[0], "")
    (verdict,) = scorer.score([(verifier.instances("train", 1, 0)[0], FIRST_CALL_ONLY.format(right=right))])
    assert verdict.reason == "wrong_later"
    assert verdict.feedback.startswith("right on 1 calls, wrong on call 2")
