"""Fifty deployments on a local Prefect server with SQLite: how long until each has runs, and is one lost or doubled.

    python benchmarks/scheduling.py [--deployments 50]

No worker runs: what is measured is `sia-flow deploy` and the server's scheduler. It deploys twice, so that a run which
a second deploy would double shows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from sia_flow.track.environment import quiet_environment
from sia_flow.track.server import PrefectServer

SPEC = "metadata: {{name: bench-{n}}}\nspec: {{task: {{name: denoise}}, schedule: {{interval: {seconds}}}}}\n"


def ask(url: str, path: str, body: dict[str, Any]) -> Any:
    """Post to the server's API."""
    request = urllib.request.Request(f"{url}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


def scheduled(url: str) -> Counter[tuple[str, str]]:
    """Return how many runs there are of each deployment and start time."""
    found: Counter[tuple[str, str]] = Counter()
    offset = 0
    while page := ask(url, "/flow_runs/filter", {"limit": 200, "offset": offset}):
        found.update((run["deployment_id"], run["expected_start_time"]) for run in page)
        offset += len(page)
    return found


def until_all(url: str, count: int) -> Counter[tuple[str, str]]:
    """Wait until so many deployments have runs; return the runs."""
    while True:
        found = scheduled(url)
        if len({deployment for deployment, _ in found}) >= count:
            return found
        time.sleep(0.5)


def deploy(root: Path, url: str, specs: list[str]) -> float:
    """Deploy all specs by one command; return its wall seconds."""
    environ = {**os.environ, **quiet_environment(root / ".sia-flow"), "PREFECT_API_URL": url}
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "sia_flow", "deploy", *specs], cwd=root, env=environ, check=True)
    return time.monotonic() - started


def main() -> None:
    """Deploy, wait until each deployment has a run, deploy again, count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deployments", type=int, default=50)
    count = parser.parse_args().deployments
    with tempfile.TemporaryDirectory(prefix="sia-flow-scheduling-") as name:
        root = Path(name)
        for folder in ("tasks", "flows", "specs"):
            (root / folder).mkdir()
        for path in (Path(__file__).parents[1] / "flows").glob("*.py"):
            (root / "flows" / path.name).write_text(path.read_text())
        for n in range(count):
            (root / f"specs/bench-{n}.yaml").write_text(SPEC.format(n=n, seconds=3600 + n))
        specs = [f"specs/bench-{n}.yaml" for n in range(count)]
        with PrefectServer(root / ".sia-flow", full=True) as server:
            url = server.wait()
            wall = deploy(root, url, specs)
            started = time.monotonic()
            until_all(url, count)
            after = time.monotonic() - started
            again = deploy(root, url, specs)
            runs = until_all(url, count)
            doubled = sum(number > 1 for number in runs.values())
    print(f"{count} deployments in {wall:.1f} s; all scheduled {after:.1f} s later; deployed again in {again:.1f} s")
    print(f"lost: {count - len({deployment for deployment, _ in runs})}; doubled: {doubled}; runs: {len(runs)}")


if __name__ == "__main__":
    main()
