"""Where people look: the command that serves the tracker's database and the addresses of its pages."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

HOST = "127.0.0.1"
PORT = 5000


@dataclass(frozen=True, slots=True)
class Links:
    """Addresses for one experiment; `runs` maps an arm's label to its page."""

    command: str
    """Shell command that starts the server; empty where the tracker is a server already."""
    experiment: str
    compare: str
    runs: Mapping[str, str]


def server_command(uri: str, artifacts: Path, port: int = PORT) -> list[str]:
    """Return the arguments of `mlflow`: two processes and 0.4 GB rather than fifteen and 1.6 GB.

    The job runner must be off as well: see `SERVER_ENVIRONMENT`.
    """
    place = ["--backend-store-uri", uri, "--artifacts-destination", str(artifacts)]
    return ["server", "--workers", "1", *place, "--host", HOST, "--port", str(port)]


SERVER_ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def links(uri: str, artifacts: Path, experiment_id: str, runs: Mapping[str, str], port: int = PORT) -> Links:
    """Return the links of an experiment; `runs` maps an arm's label to MLflow's id of its parent run."""
    remote = uri.startswith(("http://", "https://"))
    base = uri.rstrip("/") if remote else f"http://{HOST}:{port}"
    variables = " ".join(f"{name}={value}" for name, value in SERVER_ENVIRONMENT.items())
    command = "" if remote else f"{variables} mlflow {shlex.join(server_command(uri, artifacts, port))}"
    # MLflow's page reads the query by the name "?runs", so `runs` must stand first.
    chosen = f"runs={_list(list(runs.values()))}&experiments={_list([experiment_id])}"
    page = f"{base}/#/experiments/{experiment_id}"
    return Links(
        command=command,
        experiment=page,
        compare=f"{base}/#/compare-runs?{chosen}",
        runs={label: f"{page}/runs/{run}" for label, run in runs.items()},
    )


def _list(items: list[str]) -> str:
    return quote(json.dumps(items, separators=(",", ":")), safe="")
