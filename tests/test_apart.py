"""Ctrl-C and the processes that are just being started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FLOOD = """
import os, signal, sys, threading, time
from sia_flow.apart import start_apart

signal.signal(signal.SIGINT, lambda *_: None)
over = threading.Event()


def flood():
    while not over.wait(0.0002):
        os.killpg(0, signal.SIGINT)


threading.Thread(target=flood).start()
program = f"import sys; sys.path.insert(0, {sys.path[0]!r}); from sia_flow.apart import let_through; let_through()"
codes = [start_apart([sys.executable, "-S", "-c", program + "; print('begun')"]).wait() for _ in range(60)]
over.set()
print(signal.pthread_sigmask(signal.SIG_BLOCK, ()), sorted(set(codes)))
"""
OPEN = "from sia_flow.apart import let_through; let_through(); import signal; signal.raise_signal(signal.SIGINT)"


def test_no_ctrl_c_reaches_a_child_however_early(tmp_path: Path) -> None:
    """Without the signal held back, four in ten of them died of it before their program began."""
    (tmp_path / "flood.py").write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{FLOOD}")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "flood.py")],
        capture_output=True,
        text=True,
        timeout=120,
        start_new_session=True,
        check=True,
    )
    assert done.stdout.count("begun") == 60
    assert done.stdout.splitlines()[-1] == "set() [0]"


def test_a_child_that_has_begun_can_be_interrupted() -> None:
    done = subprocess.run([sys.executable, "-c", OPEN], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "KeyboardInterrupt" in done.stderr


def test_a_broken_pipe_that_is_not_the_output_is_said() -> None:
    program = """
import typer
from sia_flow.cli import main
app = typer.Typer()
@app.command()
def command():
    raise BrokenPipeError(32, "Broken pipe")
main.build_app = lambda: typer.main.get_command(app)
main.main()
"""
    asked = [sys.executable, "-c", program]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "a process that was written to is gone (<string>:7); run the same command again" in done.stderr
    assert done.returncode == 7
    deaf = f"{sys.executable} -c '{program.replace(chr(39), chr(34))}' 2>&1 | true; exit ${{PIPESTATUS[0]}}"
    assert subprocess.run(["bash", "-c", deaf], cwd=ROOT, check=False).returncode == 1
