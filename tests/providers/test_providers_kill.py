"""kill -9 at random points of a paid talk: no cap is passed, and no answer that was stored is paid for again.

`SIA_FLOW_KILLS=200` runs the long form.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sia_flow.canonical import digest_bytes
from sia_flow.providers.answers import Answers
from sia_flow.providers.journal import Journal, totals
from sia_flow.providers.metering import call_bytes
from sia_flow.providers.prices import TABLE
from tests.flows.world import ROOT, until
from tests.providers.books import MODEL, ask, model
from tests.providers.wire import Request, Say, Wire

KILLS = int(os.environ.get("SIA_FLOW_KILLS", "12"))
CALLS, CAP = 12, 0.12
WARM = """
import os, sys
import anthropic
from pathlib import Path
from sia_flow.errors import BudgetSpentError
from tests.providers.books import ME, ask, meter, model
class Place:
    def __init__(self, url): self.url = url
anthropic.Anthropic(api_key="k").messages
for line in sys.stdin:
    root, url, calls, cap = line.split()
    child = os.fork()
    if child == 0:
        books, claude = meter(Path(root), usd=float(cap)), model(Place(url))
        try:
            for number in range(int(calls)):
                books.ask(claude, ME, ask(f"call {number}"), 0)
        except BudgetSpentError:
            os._exit(7)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture
def talks() -> Iterator[subprocess.Popen[str]]:
    """Talks, each a process of its own, forked from one that has its imports done."""
    process = subprocess.Popen(
        [sys.executable, "-c", WARM],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def talk(talks: subprocess.Popen[str], root: Path, wire: Wire, moment: Callable[[], bool] | None) -> int:
    """Run a talk, killed at a moment; return its exit code."""
    assert talks.stdin is not None
    assert talks.stdout is not None
    talks.stdin.write(f"{root} {wire.url} {CALLS} {CAP}\n")
    talks.stdin.flush()
    pid = int(talks.stdout.readline())
    if moment is not None:
        until(lambda: not Path(f"/proc/{pid}/root").exists() or moment())
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return int(talks.stdout.readline())


def usage(number: int) -> tuple[int, int, int, int]:
    return 500, 300 + 50 * (number % 7), 0, 0


@pytest.mark.slow
def test_kills_neither_pass_a_cap_nor_pay_twice(tmp_path: Path, talks: subprocess.Popen[str]) -> None:
    draw, kills, round_, capped, lost = random.Random(1), 0, 0, 0, 0
    while kills < KILLS:
        root, folder = tmp_path / str(round_), Answers(tmp_path / str(round_) / "answers")
        again, digests = list[str](), list[str]()

        def script(
            request: Request, folder: Answers = folder, again: list[str] = again, digests: list[str] = digests
        ) -> Say:
            number = int(request.text.split("call ")[1].split('"')[0])
            if folder.find(digests[number]) is not None:
                again.append(f"call {number}")
            return Say("x" * 400, usage=usage(number))

        wire = Wire(script)
        wire.start()
        asks = [call_bytes(model(wire), ask(f"call {number}"), 0) for number in range(CALLS)]
        digests.extend(digest_bytes(data) for data in asks)
        code, here = -signal.SIGKILL, 0
        while code == -signal.SIGKILL:
            code = talk(talks, root, wire, moment(wire, draw) if kills < KILLS else None)
            assert code in (0, 7, -signal.SIGKILL)
            here += code == -signal.SIGKILL
            kills += code == -signal.SIGKILL
        wire.close()
        capped += code == 7
        entries = Journal(root / "spend.jsonl").entries()
        lost += sum(e.state == "lost" for e in entries)
        billed = sum(TABLE[MODEL].bound(r.billed[0], 0) / 1.25 + r.billed[1] * 10 / 1e6 for r in wire.said if r.billed)
        assert billed <= totals(entries)[0] + 1e-9
        assert totals(entries)[0] <= CAP
        assert again == []
        asked = Counter(request.text for request in wire.requests)
        assert sum(asked.values()) - len(asked) <= here
        assert code == 7 or len(asked) == CALLS
        round_ += 1
    assert kills >= KILLS
    if KILLS >= 100:
        sys.stderr.write(f"{kills} kills, {round_} talks, {capped} capped, {lost} calls lost and counted\n")
        assert capped > 0
        assert lost > 0


def moment(wire: Wire, draw: random.Random) -> Callable[[], bool]:
    """Return a moment: some milliseconds after the server has heard some more requests."""
    wanted, delay, since = len(wire.requests) + draw.randint(0, 3), draw.random() * 0.04, list[float]()

    def reached() -> bool:
        if len(wire.requests) >= wanted and not since:
            since.append(time.monotonic())
        return bool(since) and time.monotonic() - since[0] >= delay

    return reached
