"""Timed programs: what is counted, what they may do, and how they end, on every backend."""

from __future__ import annotations

import re

import numpy as np
import pytest

from sia_flow.errors import InfrastructureError
from sia_flow.protocols import ArraySpec, CallForm, Job, Limits, Outcome, TimedCall
from tests.sandbox.jobs import program

LIMITS = Limits(wall=5.0, cpu=4.0, memory=256 << 20)
FORMS = (
    CallForm({"x": ArraySpec((3, 4), "float32"), "k": ArraySpec((1,), "int64")}, ArraySpec((3, 4), "float32")),
    CallForm({"x": ArraySpec((2,), "float32"), "k": ArraySpec((1,), "int64")}, ArraySpec((2,), "float64")),
)
BURN = "while time.process_time() < start + 0.05: pass"


def source(body):
    return "import os, time\nimport numpy as np\ndef f(d):\n" + "".join(f"    {line}\n" for line in body.split("\n"))


def inputs(form, value=1.0, factor=2):
    return {"x": np.full(FORMS[form].arrays["x"].shape, value, np.float32), "k": np.array([factor])}


def calls(session, text, forms=(0, 0), limits=LIMITS):
    with session.bench(limits) as bench:
        number = bench.start(Job(text, "f"), FORMS)
        found = []
        for turn, form in enumerate(forms):
            found.append(bench.call(number, form, inputs(form, turn + 1)))
            if isinstance(found[-1], Outcome):
                break
        return found


def test_each_call_gets_its_own_inputs_and_form(session):
    found = calls(session, source("return d['x'] * d['k'][0]"), (0, 1, 0))
    assert [call.output.shape for call in found] == [(3, 4), (2,), (3, 4)]
    assert [call.output.flat[0] for call in found] == [2.0, 4.0, 6.0]
    assert found[1].output.dtype == np.float64
    assert all(call.helpers == 0 for call in found)


def test_a_program_keeps_its_state_between_calls(session):
    text = "N = []\n" + source("N.append(1)\nreturn d['x'] * 0 + len(N)")
    assert [call.output.flat[0] for call in calls(session, text, (0, 0, 0))] == [1.0, 2.0, 3.0]


def test_processor_time_is_counted_and_sleep_is_not(session):
    busy = calls(session, source(f"start = time.process_time()\n{BURN}\nreturn d['x']"))[1]
    asleep = calls(session, source("time.sleep(0.1)\nreturn d['x']"))[1]
    assert busy.cpu >= 0.05
    assert asleep.cpu < 0.05
    assert asleep.idle > 0.08


def test_work_that_is_put_off_counts_for_the_next_call(session):
    text = (
        "import time\n"
        "class Wire:\n"
        "    def __init__(self, true): self.true = true\n"
        "    def __getattr__(self, name): return getattr(self.true, name)\n"
        "    def send(self, tag, *parts):\n"
        "        self.true.send(tag, *parts)\n"
        f"        start = time.process_time()\n        {BURN}\n"
        "def f(d):\n"
        "    import sys\n"
        "    frame = sys._getframe(1)\n"
        "    if not isinstance(frame.f_locals['wire'], Wire):\n"
        "        import ctypes\n"
        "        frame.f_locals['wire'] = Wire(frame.f_locals['wire'])\n"
        "        ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))\n"
        "    return d['x']\n"
    )
    found = calls(session, text, (0, 0, 0, 0))
    assert all(isinstance(call, TimedCall) for call in found)
    assert sum(call.cpu for call in found[1:]) >= 0.1


def test_a_result_that_computes_itself_when_it_is_asked_for_is_counted(session):
    lazy = f"class Lazy:\n    def __array__(self, *_, **__):\n        start = time.process_time()\n        {BURN}\n"
    text = source("return Lazy()").replace("def f", lazy + "        return np.ones((3, 4))\ndef f")
    assert calls(session, text)[1].cpu >= 0.05


def test_done_before_it_is_done_hands_in_nothing(session):
    early = "import struct\nos.write(3, struct.pack('=IB', 1, ord('D')))\ntime.sleep(0.2)\nreturn d['x']"
    assert np.isnan(calls(session, source(early))[0].output).all()


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("return d['x'][1:]", "BAD_SHAPE", r"must have shape \(3, 4\), got \(2, 4\)"),
        ("return 'no'", "BAD_RESULT", "real numbers"),
        ("return d['x'] + 1j", "BAD_RESULT", "real numbers"),
        ("return 1 / 0", "EXCEPTION", r"ZeroDivisionError: .*line 4"),
        ("d['x'][:] = 0\nreturn d['x']", "EXCEPTION", "read-only"),
        ("import threading\nthreading.Thread(target=print).start()", "EXCEPTION", "can't start new thread"),
        ("os.fork()", "EXCEPTION", "BlockingIOError"),
        ("os._exit(0)", "BAD_RESULT", "ended without a result"),
        ("os._exit(7)", "NONZERO", "exit code 7"),
        ("os.kill(os.getpid(), 9) or os.abort()", "SIGNAL", "signal"),
        ("while True: os.write(1, b'y' * 65536)", "OUTPUT_FLOOD", "bytes of output"),
        ("os.write(3, b'\\0' * 64)\ntime.sleep(9)", "BAD_RESULT", "no frame"),
    ],
)
def test_how_a_timed_program_fails(session, body, status, words):
    (found,) = calls(session, source(body))
    assert isinstance(found, Outcome)
    assert found.status == status
    assert re.search(words, found.error)


@pytest.mark.parametrize(
    ("text", "status"),
    [("def f(d:", "SYNTAX"), ("1 / 0", "EXCEPTION"), ("g = 1", "BAD_RESULT")],
)
def test_a_program_that_does_not_load_fails_at_its_first_call(session, text, status):
    (found,) = calls(session, text)
    assert found.status == status


@pytest.mark.parametrize(
    ("body", "limits", "status"),
    [
        ("while True: pass", Limits(wall=30.0, cpu=1.0), "CPU"),
        ("time.sleep(60)", Limits(wall=0.5, cpu=4.0), "TIMEOUT"),
    ],
)
def test_a_call_that_does_not_end_is_ended(session, body, limits, status):
    (found,) = calls(session, source(body), limits=limits)
    assert found.status == status


def test_one_that_fails_leaves_the_others_alone(session):
    with session.bench(LIMITS) as bench:
        good, bad = (bench.start(Job(source(body), "f"), FORMS) for body in ("return d['x']", "os._exit(1)"))
        assert isinstance(bench.call(bad, 0, inputs(0)), Outcome)
        assert isinstance(bench.call(good, 0, inputs(0)), TimedCall)
        with pytest.raises(KeyError):
            bench.call(bad, 0, inputs(0))
    assert session.run([program("return x * 2")], LIMITS)[0].status == "OK"


def test_inputs_of_another_form_are_refused_by_the_host(session):
    with session.bench(LIMITS) as bench:
        number = bench.start(Job(source("return d['x']"), "f"), FORMS)
        with pytest.raises(ValueError, match="takes x, k, got x"):
            bench.call(number, 0, {"x": inputs(0)["x"]})
        with pytest.raises(TypeError, match="Cannot cast"):
            bench.call(number, 0, {**inputs(0), "x": np.ones((3, 4))})


def test_a_closed_session_has_no_bench(sandbox):
    from tests.sandbox.jobs import IMAGE

    session = sandbox.open(IMAGE)
    session.close()
    with pytest.raises(InfrastructureError, match="closed"), session.bench(LIMITS):
        pass
