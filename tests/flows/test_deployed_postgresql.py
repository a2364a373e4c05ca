"""A cron schedule on a Prefect server that keeps its state in PostgreSQL, as groups run it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.ops_world import call
from tests.flows.deployed import environment_of, serving, working
from tests.flows.world import SPEC, make_project, records, run_here, until

pytestmark = pytest.mark.slow
MINUTELY = SPEC.replace("spec:\n", 'spec:\n  schedule: {cron: "* * * * *"}\n')


def installed() -> Path | None:
    """Return the folder of PostgreSQL's programs; they are in nobody's PATH where Debian packs them."""
    found = [Path(path).parent for path in (shutil.which("initdb"),) if path]
    return next(iter([*found, *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]), None)


@pytest.fixture
def database() -> Iterator[str]:
    """An empty database of its own; the address that Prefect takes."""
    programs = installed()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="sia-flow-pg-"))
    # It refuses to run as root.
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    os.chown(folder, user.pw_uid, user.pw_gid)
    other: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def run(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(folder / "data"), *arguments]
        with (folder / "log").open("ab") as log:
            who = other if os.geteuid() == 0 else {}
            subprocess.run(command, check=True, cwd=folder, stdout=log, stderr=log, timeout=120, **who)

    try:
        run("initdb", "-U", "prefect", "-A", "trust", "--no-sync")
        run("pg_ctl", "-w", "start", "-o", f"-c listen_addresses='' -c fsync=off -c unix_socket_directories={folder}")
        try:
            yield f"postgresql+asyncpg://prefect@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_cron_schedule_on_postgresql_runs_to_its_end_once_a_minute(database: str, tmp_path: Path) -> None:
    root = make_project(tmp_path / "there", MINUTELY, started=False).parents[1]
    environment = environment_of(root) | {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database}
    with serving(root, environment) as api, working(root, api, environment):
        for _ in range(2):
            assert call(root, "deploy", "specs/small.yaml").startswith("sia-flow/small: cron * * * * *")
        until(lambda: api.states("small")["COMPLETED"] >= 1, 240, 0.5, api.told)
        runs = api.runs("small")
        times = [run["expected_start_time"] for run in runs]
        assert len(times) == len(set(times)) > 1
        assert {time[17:19] for time in times} == {"00"}
        assert not api.states("small").keys() & {"FAILED", "CRASHED", "CANCELLED"}
    assert not list(root.rglob("prefect.db"))
    run_here(make_project(tmp_path / "here"))
    assert records(root) == records(tmp_path / "here")
