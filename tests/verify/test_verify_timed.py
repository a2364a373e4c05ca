"""Timed programs from source to verdict: what pays, what is refused and with which reason, what is kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sia_flow.errors import InfrastructureError
from sia_flow.protocols import ArraySpec, CallForm, Limits, Sandbox
from sia_flow.verify.race import Runner, _timings
from sia_flow.verify.scorers import open_scorer
from sia_flow.verify.task import Task
from sia_flow.verify.timed import TimedCase
from sia_flow.verify.timed_programs import TimedScorer
from tests.verify.timed_world import kernel, make_task

LIMITS = Limits(wall=5.0, cpu=4.0)
RIGHT = kernel("return 2 * np.cumsum(d['x'])")
ONLY_FIRST = kernel("SEEN.append(1)", "return 2 * np.cumsum(d['x']) if len(SEEN) == 1 else d['x']", before="SEEN = []")
LATER = kernel("SEEN.append(1)", "return 2 * np.cumsum(d['x']) if len(SEEN) < 6 else d['x']", before="SEEN = []")
REPLAYS = kernel(
    "key = d['x'].shape",
    "if key not in SEEN: SEEN[key] = 2 * np.cumsum(d['x'])",
    "return SEEN[key]",
    before="SEEN = {}",
)
NAPS_UNTIMED = kernel(
    "SEEN.append(1)", "if len(SEEN) < 4: time.sleep(0.3)", "return 2 * np.cumsum(d['x'])", before="SEEN = []"
)
STOPPED_CLOCK = kernel(
    "return 2 * np.cumsum(d['x'])",
    before="for n in ('perf_counter', 'process_time', 'time', 'clock_gettime_ns'): setattr(time, n, lambda *_: 0)",
)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return make_task(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def scorer(task: Task, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TimedScorer]:
    with make(task, sandbox, tmp_path_factory.mktemp("kept")) as opened:
        yield opened


def make(task, sandbox, kept):
    opened = open_scorer(task, task.verifier(None, Path()), sandbox, LIMITS, 2, kept)
    assert isinstance(opened, TimedScorer)
    return opened


def instance(scorer, split="train"):
    return scorer.verifier.instances(split, 1, 0)[0]


def test_the_faster_program_earns_more(scorer):
    slow = kernel("for _ in range(25): y = 2 * np.cumsum(d['x'])", "return y")
    fast, slower, missing = scorer.score([(instance(scorer), program) for program in (RIGHT, slow, None)])
    assert fast.valid
    assert slower.valid
    assert fast.reward > 3 * slower.reward > 6
    assert set(fast.metrics) == {"n20000", "n30000"}
    assert (missing.reason, missing.reward) == ("no_answer", 0.0)


@pytest.mark.parametrize(
    ("program", "reason", "words"),
    [
        (ONLY_FIRST, "wrong_later", "right on 1 calls, wrong on call 2"),
        (LATER, "wrong_later", "right on 5 calls, wrong on call 6"),
        (REPLAYS, "wrong_later", "wrong on call"),
        (kernel("return d['x']"), "wrong", "another sum"),
        (kernel("time.sleep(0.3)", "return 2 * np.cumsum(d['x'])"), "sleeps", "slept in 2 of 3 calls"),
        (NAPS_UNTIMED, "sleeps", "slept in 2 of 3 calls"),
        (kernel("return d['x'][1:]"), "bad_shape", "must have shape"),
        (kernel("return d['x'] * np.nan"), "non_finite", "not finite"),
        (kernel("return 'fast'"), "bad_result", "real numbers"),
        (kernel("import threading", "threading.Thread(target=print).start()"), "exception", "new thread"),
        (kernel("while True: print('x' * 99999)"), "output_flood", "bytes of output"),
        (kernel("while True: pass"), "cpu", "seconds of processor time"),
        ("def f(d:", "syntax", "never closed"),
        (kernel("os._exit(0)"), "bad_result", "without a result"),
    ],
)
def test_what_does_not_pay_has_its_reason(scorer, program, reason, words):
    (verdict,) = scorer.score([(instance(scorer), program)])
    assert (verdict.reason, verdict.valid, verdict.reward) == (reason, False, 0.0)
    assert words in verdict.feedback


def test_a_clock_that_the_program_stopped_changes_nothing(scorer):
    honest, stopped = scorer.score([(instance(scorer), program) for program in (RIGHT, STOPPED_CLOCK)])
    assert stopped.valid
    assert 0.5 < stopped.reward / honest.reward < 2


def test_a_verdict_is_measured_once_and_kept_across_scorers(task, sandbox, tmp_path):
    with make(task, sandbox, tmp_path) as first:
        items = [(instance(first), RIGHT), (instance(first), f"# the same\n{RIGHT}"), (instance(first), ONLY_FIRST)]
        verdicts = first.score(items)
        assert first.verifications == 2
        assert first.score(items) == verdicts
    with make(task, sandbox, tmp_path) as second:
        assert second.score(items) == verdicts
        assert second.verifications == 0


def test_sealed_speed_is_the_median_of_three_sessions(scorer):
    sealed = instance(scorer, "sealed")
    (verdict,) = scorer.score([(sealed, RIGHT)])
    runs = scorer._timed.plan(sealed).sessions
    assert runs == 3
    assert verdict.valid
    assert scorer.score([(sealed, LATER)])[0].reason == "wrong_later"


def test_a_failure_in_one_session_is_not_made_good_by_the_next(scorer, monkeypatch):
    true, sessions = scorer._race, []

    def race(instance, plan, programs, seed):
        sessions.append(sorted(programs))
        broken = {key: ONLY_FIRST if len(sessions) == 1 else text for key, text in programs.items()}
        return true(instance, plan, broken, seed)

    monkeypatch.setattr(scorer, "_race", race)
    (verdict,) = scorer.score([(instance(scorer, "sealed"), kernel("return np.cumsum(2 * d['x'])"))])
    assert verdict.reason == "wrong_later"
    assert sessions[1:] == [[], []]


def test_a_reference_that_fails_is_nobodys_verdict(task, sandbox, tmp_path, monkeypatch):
    with make(task, sandbox, tmp_path) as scorer:
        monkeypatch.setattr(scorer.verifier, "reference", lambda: "def f(d): return 1 / 0")
        with pytest.raises(InfrastructureError, match="reference program failed: EXCEPTION: ZeroDivisionError"):
            scorer.score([(instance(scorer), RIGHT)])
        monkeypatch.undo()
        assert scorer.score([(instance(scorer), RIGHT)])[0].valid


def test_rounds_that_the_kernel_did_not_charge_count_for_nothing():
    long = TimedCase("long", CallForm({"x": ArraySpec((9,))}, ArraySpec((9,))))
    leader = Runner(0, seconds={long.name: [4.0, 4.0, 4.0, 4.0]})
    (timing,) = _timings((long,), leader, Runner(1, seconds={long.name: [0.0, 2.0, 2.0, 2.0]}))
    assert timing.speedup == 2.0
    with pytest.raises(InfrastructureError, match="charged nothing for half"):
        _timings((long,), leader, Runner(1, seconds={long.name: [0.0, 0.0, 0.0, 2.0]}))


def test_two_processes_measure_a_program_once(task, sandbox, tmp_path):
    """Locks are held by open files, so that threads with scorers of their own stand for processes here."""
    found = []
    scorers = [make(task, sandbox, tmp_path) for _ in range(2)]
    ready = threading.Barrier(2)

    def score(scorer):
        ready.wait()
        found.append(scorer.score([(instance(scorer), RIGHT)])[0])

    threads = [threading.Thread(target=score, args=(scorer,)) for scorer in scorers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for scorer in scorers:
        scorer.close()
    assert found[0] == found[1]
    assert sum(scorer.verifications for scorer in scorers) == 1
