"""kill -9 while scaffolds read a service: what was answered is not asked again, and the records come out the same."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.flows.test_kill import UNTRACKED
from tests.flows.world import end, make_project, output, records, run_here, start, until
from tests.rollout.web import Said, serving

SPEC = """metadata: {{name: small}}
spec:
  task: {{name: denoise, mode: sia}}
  arms: [{{name: W, levers: [weights]}}]
  rollouts: {{instances: 2, samples: 3}}
  verify: {{select: {{instances: 2, samples: 2}}, sealed: {{instances: 2, samples: 2}}}}
  training: {{iterations: 2, instances: 2, samples: 4}}
  accept: {{gate: always}}
  budget: {{generations: 1}}
  sandbox: {{network: ["{url}/notes"]}}
"""
ANSWER = "    return propose(job, prompt(job))\n"
READ = """    pages = [job.fetch(f"{url}/notes/{name}?{job.seed}")["text"] for name in ("first", "second")]
    return propose(job, prompt(job)) + "\\n# " + " ".join(pages) + "\\n"
"""
ROUNDS = (6, 4, 8)
"""Rollouts of the first generation on train and on select, and of the first iteration of its update."""


class Service:
    """Answers a page with how often it was asked for; of the second pages, it answers so many and holds the others."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        self.seconds: float = math.inf
        """Second pages that it still answers."""
        self.held: set[str] = set()
        self.over = threading.Event()
        self.lock = threading.Lock()

    def __call__(self, handler: BaseHTTPRequestHandler) -> Said | None:
        with self.lock:
            second = handler.path.startswith("/notes/second")
            hold = second and self.seconds <= 0
            self.seconds -= second
            if hold:
                self.held.add(handler.path)
            else:
                self.answered[handler.path] += 1
            words = f"{handler.path} for the time {self.answered[handler.path]}"
        if hold:
            self.over.wait(240)
            return None
        return Said(words.encode())


def project(folder: Path, url: str) -> Path:
    """Make a project whose first scaffold reads two pages."""
    path = make_project(folder, SPEC.format(url=url), started=False)
    scaffold = folder / "tasks/denoise/scaffold/scaffold.py"
    source = scaffold.read_text()
    assert source.endswith(ANSWER)
    scaffold.write_text(source.removesuffix(ANSWER) + READ.replace("{url}", url))
    return path


@pytest.mark.slow
def test_killed_between_two_pages_a_run_ends_with_the_same_records(tmp_path: Path) -> None:
    service = Service()
    with serving(service) as web, contextlib.ExitStack() as cleanup:
        cleanup.callback(service.over.set)
        run_here(project(tmp_path / "whole", web.url))
        expected, asked = records(tmp_path / "whole"), Counter(service.answered)
        assert len(asked) >= 2 * sum(ROUNDS)
        service.answered.clear()
        root = project(tmp_path / "killed", web.url).parents[1]
        for number, count in enumerate(ROUNDS):
            service.seconds, service.held = ROUNDS[number - 1] if number else 0, set()
            process = start("apply", "specs/small.yaml", "--engine", "local", cwd=root, MLFLOW_TRACKING_URI=UNTRACKED)
            cleanup.callback(end, process)
            until(lambda count=count, process=process: len(service.held) == count or process.poll() is not None, 120)
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL, output(process)[-2000:]
            assert list((root / ".sia-flow/work").glob("*/fetched"))
        service.seconds = math.inf
        run_here(root / "specs/small.yaml")
        assert records(root) == expected
        assert service.answered == asked
        assert not list((root / ".sia-flow/work").glob("*"))
