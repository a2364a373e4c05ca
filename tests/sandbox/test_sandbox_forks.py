"""What a fork of the zygote costs and what it keeps: few page faults for large arrays, threads and random numbers."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sia_flow.protocols import ArraySpec
from sia_flow.sandbox import backends
from tests.sandbox.jobs import IMAGE, LIMITS, one, program

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
COUNT, SIZE = 8, 230_000
SMALL_PAGES = COUNT * SIZE * 8 // resource.getpagesize()
FILL = (
    "import resource\n"
    "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
    f"parts = [np.full({SIZE}, 1.0) for _ in range({COUNT})]\n"
    "return np.full((2, 3), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
)
MAKE = f"[numpy.ones({SIZE}) for _ in range({2 * COUNT})]"
LEAVES_HOLES = f"import numpy\ndef warm(arrays):\n    parts = {MAKE}\n    del parts[::2]\n"

huge_pages = pytest.mark.skipif(
    not HUGE_PAGES.exists() or "[never]" in HUGE_PAGES.read_text(), reason="this kernel hands out no huge pages"
)


@huge_pages
def test_large_arrays_of_a_job_come_in_huge_pages(session):
    assert one(session, program(FILL)).value[0, 0] < SMALL_PAGES / 4


@huge_pages
def test_what_warming_left_free_is_not_copied_page_by_page(sandbox):
    image = replace(IMAGE, modules={"toolkit": LEAVES_HOLES})
    with sandbox.open(image) as opened:
        assert one(opened, program(FILL)).value[0, 0] < SMALL_PAGES / 4


def test_the_reserve_at_the_heaps_end_is_no_memory_beyond_the_limit(session):
    outcome = one(session, program("np.ones(33 << 20)\nreturn x"))
    assert outcome.status == "MEMORY"


def test_a_jobs_threads_run_and_end(session):
    body = (
        "import threading\n"
        "found = []\n"
        "threads = [threading.Thread(target=found.append, args=(n,)) for n in range(6)]\n"
        "[thread.start() for thread in threads], [thread.join() for thread in threads]\n"
        "assert threading.current_thread() is threading.main_thread()\n"
        "assert threading.active_count() == 1\n"
        "return np.sort(np.array(found, dtype=float)).reshape(2, 3)"
    )
    np.testing.assert_array_equal(one(session, program(body)).value, np.arange(6.0).reshape(2, 3))


def test_random_numbers_of_a_job_are_its_seeds(session):
    job = program("import random\nreturn np.array([[random.random()]])", returns=ArraySpec((1, 1)))
    first, again, other = session.run([replace(job, seed=1), replace(job, seed=1), replace(job, seed=2)], LIMITS)
    assert first.value == again.value != other.value


def test_only_the_two_modules_hooks_are_left_out():
    code = (
        "from inside import forks, zygote\n"
        "import os, threading\n"
        "lock = threading._active_limbo_lock\n"
        "os.register_at_fork(after_in_child=lambda: print('tidied', flush=True))\n"
        "if not os.fork():\n"
        "    print('kept' if threading._active_limbo_lock is lock else 'made anew', flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(backends.HERE)}
    found = subprocess.run([sys.executable, "-S", "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["tidied", "kept"]
