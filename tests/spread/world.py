"""A crew on real worker processes that are quick to start: their project's `flows/worker.py` plays a script."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.store import Store
from sia_flow.loop.events import Silent
from sia_flow.loop.stopping import Stop
from sia_flow.spec.models import Experiment
from sia_flow.spread.crew import Crew, Run
from sia_flow.spread.processes import Processes

WORKER = """
import json, os, signal, socket, time
from sia_flow import __version__


def work(ticket):
    line = ticket.address.call()
    said = {"secret": ticket.address.secret, "name": ticket.name, "host": socket.gethostname(), "pid": os.getpid()}
    script = json.loads((ticket.root / "script.json").read_text())
    line.send({**said, "version": script.get("version", __version__)})
    (ticket.root / f"pid-{os.getpid()}").touch()
    while len(list(ticket.root.glob("pid-*"))) < script.get("together", 1):
        time.sleep(0.01)
    for message in line.messages():
        if "do" in message:
            name = "-".join(map(str, message["do"]))
            log = ticket.root / "began.jsonl"
            with log.open("a") as file:
                file.write(json.dumps({"job": message["do"], "others": message["others"], "pid": os.getpid()}) + "\\n")
            lives = sum(json.loads(one)["job"] == message["do"] for one in log.read_text().splitlines())
            if lives <= script.get("steps", 0):
                line.send({"event": "step_ended", "fields": {"name": "rollout", "label": name, "cached": False}})
            if lives <= script.get("deaths", {}).get(name, 0):
                os.kill(os.getpid(), signal.SIGKILL)
            if name in script.get("faults", {}):
                line.send({"failed": {"text": script["faults"][name], "code": 8}})
                continue
            if name in script.get("offers", ()):
                line.send({"offer": name})
                while len(list(ticket.root.glob(f"help-*-{name}"))) < script.get("helps", 1):
                    time.sleep(0.01)
                line.send({"offered": name})
            if name in script.get("endless", ()) or lives <= script.get("mute", {}).get(name, 0):
                continue
            line.send({"event": "warning", "fields": {"text": f"at {name}"}})
            line.send({"done": f"key of {name}"})
        elif "help" in message:
            (ticket.root / f"help-{os.getpid()}-{message['help']}").touch()
            if script.get("helping") == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            line.send({"helped": message["help"], "parts": 1, "fault": script.get("helping")})
        elif "stop" in message:
            line.send({"stopped": "asked"})
        elif "end" in message:
            return
    os._exit(1)
"""
SPEC = {"apiVersion": "sia-flow/v1", "kind": "Experiment", "metadata": {"name": "small"}}


class Heard(Silent):
    """Keeps what it is told."""

    def __init__(self, told: Callable[[], object] = lambda: None) -> None:
        self.warnings: list[str] = []
        self.ended: list[ArmResult] = []
        self._told = told

    def warning(self, text: str) -> None:
        self.warnings.append(text)
        self._told()


def project(root: Path, **script: Any) -> Path:
    """Lay a project out whose workers play a script."""
    (root / "flows").mkdir(parents=True, exist_ok=True)
    (root / "flows/worker.py").write_text(WORKER)
    (root / "script.json").write_text(json.dumps(script))
    return root


def experiment(**fields: Any) -> Experiment:
    """Return an experiment of two arms and a control on two seeds."""
    arms = [{"name": "H", "levers": ["harness"]}, {"name": "W", "levers": ["weights"]}]
    control = {"name": "N", "levers": [], "control": "best-of-n"}
    spec = {"task": {"name": "denoise"}, "arms": [*arms, control], "seeds": [0, 1], **fields}
    return Experiment.model_validate_json(json.dumps({**SPEC, "spec": spec}))


def crew(root: Path, watcher: Silent | None = None, stop: Stop | None = None, jobs: int = 2, **fields: Any) -> Crew:
    """Return a crew of the project in `root`."""
    store = Store(root / ".sia-flow/store")
    run = Run(experiment(**fields), root, store, watcher or Heard(), stop or Stop())
    return Crew(run, Processes(root, root / "workers.log", jobs), jobs)


def began(root: Path) -> list[dict[str, Any]]:
    """Return what the workers began, in order."""
    path = root / "began.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def pids(root: Path) -> set[int]:
    """Return the process ids of the workers that there were."""
    return {int(path.name.removeprefix("pid-")) for path in root.glob("pid-*")}


def alive(pid: int) -> bool:
    """Say whether a process is there."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def main() -> None:
    """Run a crew as a process that a test may kill."""
    crew(Path(sys.argv[1])).run()


if __name__ == "__main__":
    main()
