from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sia_flow.errors import InfrastructureError
from sia_flow.protocols import Image, Job, Limits, Sandbox, Verifier
from sia_flow.verify import programs
from sia_flow.verify.probes import Probe, assert_probes, run_probes
from sia_flow.verify.programs import ProgramScorer, normalize, program_seed
from sia_flow.verify.task import Task, array_name, load_task

ROOT = Path(__file__).resolve().parents[2]

HEAD = "import numpy as np\nimport denoise_kit as kit\n\ndef denoise(counts, seed):\n"
MEAN = HEAD + "    return counts * 0 + counts.mean(axis=0)\n"
SHARP = HEAD + "    return kit.power(counts * 0 + counts.mean(axis=0), 2.0)\n"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "no_answer"),
        ("def denoise(", "syntax"),
        ("x = 1\0", "syntax"),
        ("x = " + "(" * 5000 + ")" * 5000, "syntax"),
        ("x = 0\n" * 20_000, "too_long"),
        (HEAD + "    return counts / None\n", "exception"),
        ("import nowhere\n", "exception"),
        (HEAD + "    return counts[:3]\n", "bad_result"),
        (HEAD + "    return 'counts'\n", "bad_result"),
        (HEAD + "    return counts - 1e6\n", "negative"),
        (HEAD + "    return counts * np.nan\n", "non_finite"),
        (HEAD + "    return counts * 0\n", "all_zero"),
        (HEAD + "    return counts * 1e9\n", "too_large"),
        (HEAD + "    import os\n    os._exit(3)\n", "crash"),
        (HEAD + "    return np.ones((1 << 34,))\n", "memory"),
    ],
)
def test_a_failure_is_a_verdict_with_a_reason(
    shared_scorer: ProgramScorer, verifier: Verifier, answer: str | None, reason: str
) -> None:
    (verdict,) = shared_scorer.score([(verifier.instances("train", 1, 0)[0], answer)])
    assert (verdict.reason, verdict.valid, verdict.reward) == (reason, False, verifier.floor)
    assert verdict.feedback


def test_a_loop_runs_into_its_limit(task: Task, verifier: Verifier, sandbox: Sandbox) -> None:
    (instance,) = verifier.instances("train", 1, 0)
    with ProgramScorer(task, verifier, sandbox, Limits(wall=3, cpu=1)) as scorer:
        (verdict,) = scorer.score([(instance, HEAD + "    while True:\n        pass\n")])
    assert verdict.reason in ("cpu", "timeout")


def test_a_program_scores_as_its_array_would_on_the_host(shared_scorer: ProgramScorer, verifier: Verifier) -> None:
    (instance,) = verifier.instances("train", 1, 0)
    counts = instance.arrays["counts"]
    expected = verifier.score(instance, np.repeat(counts.mean(axis=0, keepdims=True), len(counts), axis=0))
    assert shared_scorer.score([(instance, MEAN)]) == [expected]


def test_each_distinct_program_runs_once_an_instance(scorer: ProgramScorer, verifier: Verifier) -> None:
    first, second = verifier.instances("train", 2, 0)
    relaid = "# a remark\n" + MEAN.replace(" * 0 + ", "*0+")
    verdicts = scorer.score([(first, MEAN), (first, relaid), (second, MEAN), (first, MEAN), (first, None)])
    assert verdicts[0] == verdicts[1] == verdicts[3]
    assert verdicts[0] != verdicts[2]
    assert scorer.verifications == 2
    scorer.score([(first, relaid), (second, relaid)])
    assert scorer.verifications == 2


def test_a_memo_is_worth_a_run(scorer: ProgramScorer, task: Task, verifier: Verifier, sandbox: Sandbox) -> None:
    (instance,) = verifier.instances("train", 1, 0)
    before = scorer.score([(instance, MEAN), (instance, "def")])
    with ProgramScorer(task, verifier, sandbox, memo=scorer.memo) as resumed:
        assert resumed.score([(instance, MEAN), (instance, "def")]) == before
        assert resumed.verifications == 0


def test_verdicts_do_not_depend_on_the_batch(
    scorer: ProgramScorer, task: Task, verifier: Verifier, sandbox: Sandbox
) -> None:
    (instance,) = verifier.instances("train", 1, 0)
    noisy = HEAD + "    return np.abs(counts + np.random.default_rng(seed).normal(size=counts.shape))\n"
    unseeded = HEAD + "    return np.random.uniform(size=counts.shape)\n"
    together = scorer.score([(instance, p) for p in (MEAN, noisy, HEAD + "    1 / 0\n", unseeded, SHARP)])
    for program, verdict in ((unseeded, together[3]), (noisy, together[1]), (SHARP, together[4])):
        with ProgramScorer(task, verifier, sandbox) as alone:
            assert alone.score([(instance, program)]) == [verdict]


def test_few_sessions_are_kept_and_none_is_missed(
    scorer: ProgramScorer, verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "MAX_SESSIONS", 1)
    first, second = verifier.instances("train", 2, 0)
    one = scorer.score([(first, MEAN), (second, MEAN)])
    two = scorer.score([(second, SHARP), (first, SHARP)])
    assert len({v.metrics["mse"] for v in one + two}) == 4
    assert scorer.verifications == 4


def neighbours(task: Task) -> Probe:
    return next(p for p in task.probes() if p.name == "reads other instances")


def test_a_program_never_shares_memory_with_another_instance(
    scorer: ProgramScorer, task: Task, verifier: Verifier, sandbox: Sandbox
) -> None:
    first, second = verifier.instances("train", 2, 0)
    probe = neighbours(task)
    scorer.score([(second, MEAN), (first, MEAN)])
    assert run_probes(scorer, first, [probe])[probe.name].reason == "exception"
    image = task.image([first, second])
    shared = sandbox.open(Image(image.modules, image.preload, image.warm, image.arrays))
    try:
        (outcome,) = shared.run(
            [
                Job(
                    source=str(probe.answer),
                    entry="denoise",
                    arrays=(array_name(first, "counts"),),
                    arguments=(program_seed(first),),
                    returns=first.returns,
                )
            ],
            Limits(),
        )
    finally:
        shared.close()
    assert outcome.status == "OK", "the probe finds the other counts where both are in one session"


@pytest.mark.parametrize("probe", load_task(ROOT, "denoise").probes(), ids=lambda probe: probe.name)
def test_probes_do_not_pay(shared_scorer: ProgramScorer, verifier: Verifier, probe: Probe) -> None:
    (instance,) = verifier.instances("train", 1, 0)
    verdicts = assert_probes(shared_scorer, instance, [probe])
    assert verdicts[probe.name].reward == verifier.floor


def test_a_session_that_broke_is_replaced(scorer: ProgramScorer, verifier: Verifier) -> None:
    (instance,) = verifier.instances("train", 1, 0)
    scorer.score([(instance, MEAN)])
    scorer._sessions[instance.id].close()
    with pytest.raises(InfrastructureError):
        scorer.score([(instance, SHARP)])
    assert scorer.score([(instance, SHARP)])[0].valid


def test_a_probe_that_pays_stops_everything(shared_scorer: ProgramScorer, verifier: Verifier) -> None:
    (instance,) = verifier.instances("train", 1, 0)
    leak = Probe("sharpens", SHARP)
    assert shared_scorer.score([(instance, SHARP)])[0].reward > verifier.floor
    idle = Probe("runs at all", HEAD + "    return np.ones_like(counts)\n", fails=True)
    with pytest.raises(Exception, match=r"sharpens \(reward 0\.\d+\), runs at all"):
        assert_probes(shared_scorer, instance, [leak, idle, Probe("null", None)])


def test_normal_form() -> None:
    assert normalize("x=1 # one\n\n\ny =(2)") == normalize("x = 1\ny = 2\n")
    assert normalize("x = 1") != normalize("x = 2")
    assert normalize("def f(:") == "def f(:"
