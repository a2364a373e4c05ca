"""Several processes on one store: a step is computed once, and no line of a shared file is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from sia_flow.errors import Interrupted, StoreError
from sia_flow.lineage.claims import claimed, is_claimed
from sia_flow.lineage.seals import read_seals
from sia_flow.lineage.store import Step, StepOutput, Store
from sia_flow.loop.stopping import Stop
from tests.flows.world import until

HOLD = """
import sys, time
from pathlib import Path
from sia_flow.lineage.claims import claimed
with claimed(Path(sys.argv[1]), "key"):
    print("held", flush=True)
    time.sleep(600)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


COMPETE = """
import json, sys
from pathlib import Path
from sia_flow.files import append
from sia_flow.lineage.store import Step, StepOutput, Store
root, number = Path(sys.argv[1]), int(sys.argv[2])
store = Store(root)
print("ready", flush=True)
sys.stdin.readline()
for n in range(20):
    step = Step("rollout", 1, {"n": n}, {}, 0)
    store.run(step, lambda: StepOutput({"out": store.objects.put_bytes(b"%d" % n)}, {"n": n}))
    append(root / "lines", json.dumps({"who": number, "n": n, "text": "x" * 20_000}).encode() + b"\\n")
"""


def test_processes_share_the_steps_of_one_store(tmp_path: Path) -> None:
    Store(tmp_path)
    command = [sys.executable, "-c", COMPETE, str(tmp_path)]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen([*command, str(n)], stdin=pipe, stdout=pipe, text=True) for n in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=120)
    assert [process.returncode for process in processes] == [0] * 4
    store = Store(tmp_path)
    done = Counter(entry["key"] for entry in store.journal() if entry["event"] == "done")
    assert (len(done), set(done.values())) == (20, {1})
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    assert Counter(line["who"] for line in lines) == dict.fromkeys(range(4), 20)
    assert len(read_seals(tmp_path)) == 20
    assert not list(store.claims.glob("*"))


def test_a_claim_is_waited_for_and_ends_with_its_process(tmp_path: Path) -> None:
    process = holder(tmp_path)
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        if len(looks) == 3:
            os.kill(process.pid, signal.SIGKILL)

    try:
        assert is_claimed(tmp_path, "key")
        with claimed(tmp_path, "key", look):
            assert process.wait() == -signal.SIGKILL
            assert len(looks) >= 3
        assert not is_claimed(tmp_path, "key")
    finally:
        process.kill()
        process.wait()


def test_a_stop_ends_the_wait_for_somebody_elses_step(tmp_path: Path) -> None:
    store, stop = Store(tmp_path), Stop()
    step = Step("rollout", 1, {}, {}, 0)
    begun, go = threading.Event(), threading.Event()

    def body() -> StepOutput:
        begun.set()
        assert go.wait(60)
        return StepOutput(result="first")

    thread = threading.Thread(target=store.run, args=(step, body))
    thread.start()
    assert begun.wait(60)
    stop.ask()
    with pytest.raises(Interrupted):
        store.run(step, lambda: StepOutput(result="second"), stop.obey)
    go.set()
    thread.join()
    assert store.run(step, lambda: StepOutput(result="second"), stop.obey).result == "first"


def test_a_claim_is_free_again_where_the_work_failed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), claimed(tmp_path, "key"):
        _ = 1 // 0
    assert not is_claimed(tmp_path, "key")
    with claimed(tmp_path, "key"):
        assert is_claimed(tmp_path, "key")


def test_a_file_that_a_killed_process_left_is_no_claim(tmp_path: Path) -> None:
    process = holder(tmp_path)
    process.kill()
    process.wait()
    until(lambda: not is_claimed(tmp_path, "key"))
    assert (tmp_path / "key.claim").exists()
    with claimed(tmp_path, "key"):
        pass
    assert not (tmp_path / "key.claim").exists()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "claims").write_text("")
    with pytest.raises(StoreError, match="cannot write"), claimed(tmp_path / "claims", "key"):
        pass
