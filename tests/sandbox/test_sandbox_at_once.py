"""Calls answered each as it comes: nobody waits for others, nothing is asked twice, and ends are as in rounds."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from tests.sandbox.jobs import LIMITS, scaffold

LOOP = "texts = []\nfor n in range(3):\n    texts += job.generate([{'role': 'user', 'content': str(n)}])\n"


def answer_of(call):
    return [f"{call.job}: {call.params['messages'][0]['content']}"]


def test_nobody_waits_for_a_slow_answer(session):
    others = threading.Event()
    counted = []

    def serve(calls):
        (call,) = calls
        if call.job == 0:
            assert others.wait(60)
        counted.append(call.job)
        if counted.count(1) == 3:
            others.set()
        return [answer_of(call)]

    outcomes = session.run([scaffold(LOOP + "return '; '.join(texts)")] * 2, LIMITS, serve, 2)
    assert [o.value for o in outcomes] == ["0: 0; 0: 1; 0: 2", "1: 0; 1: 1; 1: 2"]
    assert counted == [1, 1, 1, 0, 0, 0]


def test_no_more_at_once_than_asked_for_and_outcomes_as_in_rounds(session):
    inside, most, lock = 0, 0, threading.Lock()

    def serve(calls):
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.005)
        with lock:
            inside -= 1
        return [answer_of(call) for call in calls]

    jobs = [scaffold(LOOP + f"return texts[{n % 3}]") for n in range(40)]
    streamed = session.run(jobs, LIMITS, serve, 8)
    assert 1 < most <= 8
    assert [(o.status, o.value) for o in streamed] == [(o.status, o.value) for o in session.run(jobs, LIMITS, serve)]


def test_what_the_host_raises_ends_the_batch_and_spares_the_session(session):
    begun = []

    def serve(calls):
        begun.append(calls[0].job)
        if len(begun) == 3:
            raise ZeroDivisionError
        time.sleep(0.01)
        return [["x"]]

    jobs = [scaffold("return job.generate([])[0]")] * 30
    with pytest.raises(ZeroDivisionError):
        session.run(jobs, LIMITS, serve, 2)
    assert len(begun) < 30
    assert [o.value for o in session.run(jobs[:2], LIMITS, lambda calls: [["y"]] * len(calls), 2)] == ["y", "y"]


def test_a_job_that_ends_before_its_answer_is_told_nothing(session):
    gone = threading.Event()

    def serve(calls):
        if calls[0].job == 0:
            assert gone.wait(60)
        else:
            time.sleep(0.3)
            gone.set()
        return [["late"]]

    frame = 'import struct\nbody = b\'{"method": "generate", "params": {}}\'\n'
    leaves = frame + "os.write(3, struct.pack('=I', len(body) + 1) + b'C' + body)\nos._exit(3)"
    outcomes = session.run([scaffold(leaves), scaffold("return job.generate([])[0]")], LIMITS, serve, 2)
    assert [o.status for o in outcomes] == ["NONZERO", "OK"]


def test_a_sandbox_that_dies_asks_for_nothing_twice(session):
    asked, lock = [], threading.Lock()

    def serve(calls):
        (call,) = calls
        with lock:
            asked.append((call.job, call.params["messages"][0]["content"]))
            if len(asked) == 5:
                os.kill(session.pid, signal.SIGKILL)
        time.sleep(0.2)
        return [answer_of(call)]

    outcomes = session.run([scaffold(LOOP + "return '; '.join(texts)")] * 4, LIMITS, serve, 4)
    assert [o.value for o in outcomes] == [f"{n}: 0; {n}: 1; {n}: 2" for n in range(4)]
    assert sorted(asked) == [(n, str(k)) for n in range(4) for k in range(3)]
