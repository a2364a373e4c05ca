"""Hostile jobs end with a reason, leave nothing behind, and harm nobody else."""

from __future__ import annotations

import json
import os
import struct
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sia_flow.protocols import Limits
from tests.sandbox.jobs import IMAGE, LIMITS, one, program, scaffold

QUICK = replace(LIMITS, wall=1.0)


def below(pid):
    """Return all descendants of a process, by /proc, zombies included."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    found, left = set(), {pid}
    while left:
        left = {child for child, parent in parents.items() if parent in left}
        found |= left
    return found


def alive(pid):
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def until(condition, seconds=5.0):
    """Wait for a condition, with a deadline."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("import time\ntime.sleep(60)", "TIMEOUT"),
        (
            "import signal\nfor n in {*range(1, 32)} - {9, 19}: signal.signal(n, 1)\nwhile True: pass",
            "TIMEOUT",
        ),
        ("import time\nos.fork()\nos.fork()\ntime.sleep(60)", "TIMEOUT"),
        ("while True: os.write(1, b'y' * 65536)", "OUTPUT_FLOOD"),
        ("while True: os.write(2, b'y' * 65536)", "OUTPUT_FLOOD"),
    ],
)
def test_a_job_that_does_not_end_is_ended(session, body, status):
    assert one(session, program(body), QUICK).status == status
    assert one(session, program("return x")).status == "OK"


def test_processor_time_is_limited(session):
    outcome = one(session, program("while True: pass"), replace(LIMITS, wall=30.0, cpu=1.0))
    assert outcome.status == "CPU"
    assert outcome.cpu_seconds >= 0.5


@pytest.mark.parametrize(
    "body", ["return np.ones(1 << 27)", "found = []\nwhile True: found.append(bytearray(1 << 20))"]
)
def test_memory_of_one_process_is_limited(session, body):
    outcome = one(session, program(body))
    assert outcome.status in ("MEMORY", "EXCEPTION")
    assert "memory" in outcome.error.lower()


def test_the_limit_counts_from_the_warm_image(session):
    assert one(session, program("np.ones(1 << 24)\nreturn x")).status == "OK"


def test_memory_of_many_processes_together_is_limited(session):
    body = (
        "import time\nfor _ in range(8):\n    if os.fork() == 0:\n"
        "        block = bytearray(100 << 20)\n        time.sleep(60)\ntime.sleep(60)"
    )
    assert one(session, program(body), replace(LIMITS, wall=20.0)).status == "MEMORY"


def test_a_fork_bomb_is_bounded_and_swept(session):
    before = below(session.pid)
    body = "import time\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        time.sleep(0.01)"
    assert one(session, program(body), replace(QUICK, processes=32)).status in ("TIMEOUT", "MEMORY")
    until(lambda: below(session.pid) <= before)


def test_a_daemon_dies_with_its_job(session):
    before = below(session.pid)
    body = (
        "import time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        os.closerange(0, 100)\n        time.sleep(600)\n    os._exit(0)\nos.wait()\nreturn x"
    )
    assert one(session, program(body)).status == "OK"
    until(lambda: below(session.pid) <= before)


def test_a_daemon_that_holds_the_output_does_not_hold_the_host(session):
    body = "import time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(600)\nreturn x"
    assert one(session, program(body)).status == "OK"


def test_files_are_bounded(session):
    if session.isolation.level < 2:
        pytest.skip("no writable folder without namespaces")
    body = "with open('/tmp/a', 'wb') as file:\n    file.write(bytes(1 << 21))\nreturn x"
    assert "File too large" in one(session, program(body), replace(LIMITS, file_size=1 << 20)).error
    fill = "for n in range(100):\n    open(f'/tmp/{n}', 'wb').write(bytes(1 << 20))\nreturn x"
    assert "No space left" in one(session, program(fill)).error


def test_a_request_that_is_never_read_does_not_block_the_host(session):
    """A megabyte waits for a scaffold that asked and then stopped reading."""
    call = json.dumps({"method": "generate", "params": {}}).encode()
    frame = struct.pack("=I", 1 + len(call)) + b"C" + call
    body = f"os.write(3, {frame!r})\nimport time\ntime.sleep(60)"
    outcome = session.run([scaffold(body)], QUICK, lambda calls: [["y" * (1 << 20)]])[0]
    assert outcome.status == "TIMEOUT"


def test_a_batch_of_hostile_and_honest_jobs(session):
    hostile = [
        "os._exit(0)",
        "import time\ntime.sleep(60)",
        "os.kill(0, 9)",
        "os.closerange(0, 99)\nwhile True: pass",
    ]
    bodies = [body for bad in hostile for body in (bad, "return x")]
    outcomes = session.run([program(body) for body in bodies], QUICK)
    assert [outcome.status for outcome in outcomes[1::2]] == ["OK"] * 4
    assert "OK" not in [outcome.status for outcome in outcomes[::2]]


def test_a_killed_zygote_is_restarted_and_no_job_is_blamed(sandbox):
    with sandbox.open(IMAGE) as session:
        first = session.pid
        rounds = []

        def serve(calls):
            rounds.append([call.job for call in calls])
            if len(rounds) == 2:
                inside = below(session.pid) | {session.pid}
                os.kill(session.pid, 9)
                until(lambda: not any(alive(pid) for pid in inside))
            return [[f"answer {len(rounds)}"]] * len(calls)

        body = "return job.generate([])[0] + job.generate([])[0] + job.generate([])[0]"
        outcomes = session.run([scaffold(body)] * 2, LIMITS, serve)
        assert session.pid != first
    # The answers of before are given again; only what is new is asked.
    assert [outcome.value for outcome in outcomes] == ["answer 1answer 2answer 3"] * 2
    assert rounds == [[0, 1]] * 3


def test_close_leaves_no_process(sandbox):
    session = sandbox.open(IMAGE)
    before = below(os.getpid())
    assert session.pid in before
    session.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in before & {session.pid or 0})
    assert len(below(os.getpid())) < len(before)


def descriptors():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_many_jobs_leave_no_descriptor_and_no_process(session):
    session.run([program("return x")] * 4, LIMITS)
    handles, processes = descriptors(), len(below(os.getpid()))
    session.run([program("return x")] * 60, Limits())
    assert descriptors() == handles
    assert len(below(os.getpid())) == processes


def test_endless_rounds_share_one_wall_budget(session):
    """Each round stays below the limit; together they may take ten times as much."""
    body = (
        "import time\nwhile True:\n    end = time.monotonic() + 0.15\n"
        "    while time.monotonic() < end: pass\n    job.generate([])"
    )
    rounds = []

    def serve(calls):
        rounds.append(len(calls))
        return [["x"]] * len(calls)

    assert session.run([scaffold(body)], replace(LIMITS, wall=0.3), serve)[0].status == "TIMEOUT"
    assert 2 <= len(rounds) <= 20
