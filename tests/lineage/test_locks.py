"""One writer an experiment; the kernel frees the lock of a dead holder."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sia_flow.errors import LockedError
from sia_flow.lineage.locks import experiment_lock

HOLD = """
import sys, time
from pathlib import Path
from sia_flow.lineage.locks import experiment_lock
with experiment_lock(Path(sys.argv[1]), "denoise"):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_holder_is_refused_by_name(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        named = f"'denoise' is being applied by process {process.pid}"
        with pytest.raises(LockedError, match=named), experiment_lock(tmp_path, "denoise"):
            pass
        with experiment_lock(tmp_path, "other"):
            pass
    finally:
        process.kill()
        process.wait()


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    process = holder(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with experiment_lock(tmp_path, "denoise"):
        pass


def test_waiting_gets_the_lock_in_the_end(tmp_path: Path) -> None:
    process = holder(tmp_path)
    process.kill()
    with experiment_lock(tmp_path, "denoise", wait=True):
        assert process.wait() != 0
