"""Who does what next: the order of one process, with the seeds spread."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sia_flow.spec.models import Arm
from sia_flow.spread.jobs import Job, Jobs

ARMS = (
    Arm(name="N", levers=(), control="best-of-n"),
    Arm(name="H", levers=("harness",)),
    Arm(name="W", levers=("weights",)),
)


def test_seeds_that_nobody_works_on_come_first() -> None:
    jobs = Jobs(ARMS, (0, 1))
    assert [jobs.next() for _ in range(5)] == [Job("H", 0), Job("H", 1), Job("W", 0), Job("W", 1), None]


def test_one_worker_gets_the_order_of_one_process() -> None:
    jobs = Jobs(ARMS, (0, 1))
    found = []
    while (job := jobs.next()) is not None:
        found.append(job)
        jobs.done(job, str(job))
    assert found == jobs.order
    assert jobs.over


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60), st.integers(1, 5))
def test_whatever_is_lost_everything_is_done_once_and_controls_last(moves: list[tuple[bool, int]], size: int) -> None:
    jobs = Jobs(ARMS, (3, 1))
    running: list[Job] = []
    done: list[Job] = []
    for dies, which in [*moves, *[(False, 0)] * 20]:
        while len(running) < size and (job := jobs.next()) is not None:
            assert job not in running
            assert job not in done
            assert job.arm != "N" or {Job("H", job.seed), Job("W", job.seed)} <= set(done)
            running.append(job)
        if not running:
            break
        job = running.pop(which % len(running))
        if dies:
            jobs.back(job)
        else:
            done.append(job)
            jobs.done(job, f"key of {job}")
    assert jobs.over
    assert sorted(done) == sorted(jobs.order)
    assert jobs.others(Job("N", 1)) == ["key of H seed 1", "key of W seed 1"]
