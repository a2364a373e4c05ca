"""Seats that are forked ahead of their jobs, and code that is compiled ahead of them."""

from __future__ import annotations

import os
import signal
import warnings
from pathlib import Path

import pytest

from sia_flow.protocols import Image, Job, Limits
from sia_flow.sandbox import open_sandbox
from sia_flow.sandbox.compiled import LARGEST, compiled
from sia_flow.sandbox.inside import tree

ECHO = Job("def solve(job):\n    return job.generate([])[0] + str(job.seed)", "solve", instance={})
FILE_LIMIT = Job(
    "import resource\ndef solve(job):\n    job.generate([])\n"
    "    return str(resource.getrlimit(resource.RLIMIT_FSIZE)[0])",
    "solve",
    instance={},
)


def answer(calls):
    return [["seed "] for _ in calls]


def below(pid):
    """Return the processes below one, by number."""
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        return tree.descendants(proc, pid)
    finally:
        os.close(proc)


@pytest.fixture
def session(tmp_path):
    opened = open_sandbox(2, tmp_path).open(Image(), 2)
    if not opened._seats.link.nested:
        opened.close()
        pytest.skip("nothing is forked ahead where jobs get no namespaces of their own")
    with opened:
        yield opened


def test_a_batch_leaves_seats_for_the_next_one_which_uses_them(session):
    before = len(below(session.pid))
    jobs = [Job(ECHO.source, "solve", instance={}, seed=seed) for seed in range(6)]
    first = session.run(jobs, Limits(), answer)
    waiting = [seat.number for seat in session._seats._waiting]
    second = session.run(jobs, Limits(), answer)
    assert [outcome.value for outcome in first] == [f"seed {seed}" for seed in range(6)]
    assert [outcome.value for outcome in second] == [outcome.value for outcome in first]
    assert len(waiting) == 6
    assert not set(waiting) & {seat.number for seat in session._seats._waiting}
    session.run([ECHO], Limits(), answer)
    assert len(below(session.pid)) <= before + 6


def test_a_waiting_seat_that_dies_costs_no_job_its_result(session):
    assert session.run([ECHO, ECHO], Limits(), answer)[1].value == "seed 0"
    session.run([FILE_LIMIT], Limits(), answer)
    victims = below(session.pid)[-2:]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    outcomes = session.run([ECHO] * 4, Limits(), answer)
    assert [outcome.value for outcome in outcomes] == ["seed 0"] * 4


def test_seats_that_wait_under_other_limits_are_not_used(session):
    assert session.run([FILE_LIMIT] * 3, Limits(file_size=1 << 20), answer)[0].value == str(1 << 20)
    assert [o.value for o in session.run([FILE_LIMIT] * 3, Limits(file_size=2 << 20), answer)] == [str(2 << 20)] * 3


def test_waiting_costs_a_job_no_wall_time(session):
    limits = Limits(wall=0.5)
    session.run([ECHO] * 2, limits, answer)
    since = session._seats._waiting[0]
    signal.sigtimedwait([], 0.7)
    assert session._seats._waiting[0] is since
    assert [outcome.status for outcome in session.run([ECHO] * 2, limits, answer)] == ["OK", "OK"]


def test_close_ends_what_waits(tmp_path):
    opened = open_sandbox(2, tmp_path).open(Image(), 2)
    opened.run([ECHO] * 4, Limits(), answer)
    everything = [opened.pid, *below(opened.pid)]
    opened.close()
    assert not [pid for pid in everything if Path(f"/proc/{pid}/root").exists()]


def test_a_text_that_does_not_compile_is_left_to_the_job(session):
    assert compiled("candidate", "def solve(job:\n") is None
    assert compiled("candidate", "x = " + "-" * 5000 + "1") is None
    assert compiled("candidate", "#" * (LARGEST + 1)) is None
    broken = session.run([Job("def solve(job:\n", "solve", instance={})], Limits(), answer)[0]
    assert broken.status == "SYNTAX"
    assert "line 1" in broken.error


def test_compiled_code_reports_the_candidate_s_own_lines_and_the_host_stays_silent(session):
    source = "A = 1\n\ndef solve(job):\n    if job is 1:\n        return 2\n    raise ValueError('here')\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compiled("candidate", source)
    failed = session.run([Job(source, "solve", instance={})], Limits(), answer)[0]
    assert (failed.status, failed.error) == ("EXCEPTION", "ValueError: here (line 6)")


def test_further_files_are_compiled_ahead_too(session):
    job = Job(
        "import part\ndef solve(job):\n    return part.NAME", "solve", instance={}, files={"part.py": "NAME = 'x'"}
    )
    assert session.run([job], Limits(), answer)[0].value == "x"
