"""`sia-flow doctor`: what this machine can run, and what it lacks; it changes nothing.

Invariant: what it says of isolation was found by starting a sandbox and attacking it.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import socket
from pathlib import Path
from typing import Annotated, Any

import typer

from sia_flow.cli.text import printable
from sia_flow.errors import IsolationError

PORTS = {4200: "Prefect", 5000: "MLflow"}
PREPARED = ("data/denoise", "models/tiny-gpt-oss")
PACKAGES = ("torch", "transformers", "prefect", "mlflow", "dvc")
_GIB = 1 << 30


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    minimum: Annotated[int, typer.Option("--level", min=1, max=3, help="Isolation level that must be reached.")] = 1,
) -> None:
    """Say what this machine can run. Exit code 6 when untrusted code cannot be isolated."""
    report = examine_machine(minimum)
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        for line in lines(report):
            typer.echo(printable(line))
    if not report["runnable"]:
        raise typer.Exit(IsolationError.exit_code)


def examine_machine(minimum: int) -> dict[str, Any]:
    """Return what was found, as JSON."""
    from sia_flow.sandbox.open import survey

    isolation = _isolation(minimum)
    return {
        "runnable": isolation["problem"] is None,
        "isolation": isolation,
        "backends": survey(),
        "verifier": _verifier(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "free_disk_bytes": shutil.disk_usage(Path.cwd()).free,
        "prepared": {name: Path(name).exists() for name in PREPARED},
        "ports_free": {str(port): _free(port) for port in PORTS},
    }


def lines(report: dict[str, Any]) -> list[str]:
    """Return the report as lines for people."""
    isolation = report["isolation"]
    packages = ", ".join(f"{name} {version or 'missing'}" for name, version in report["packages"].items())
    memory, disk = report["memory_bytes"] / _GIB, report["free_disk_bytes"] / _GIB
    found = [
        *_isolation_lines(isolation),
        *([] if isolation["problem"] else _backend_lines(report["backends"], isolation["backend"])),
        f"verifier    in a process of its own: {_held(report['verifier'])}",
        f"python      {report['python']}; {packages}",
        f"machine     {report['cores']} cores, {memory:.0f} GiB memory, {disk:.0f} GiB disk free",
    ]
    for name, there in report["prepared"].items():
        found.append(f"prepared    {name}: {'yes' if there else 'no; run `sia-flow prepare`'}")
    for port, free in report["ports_free"].items():
        state = "free" if free else "in use; a server may be running already"
        found.append(f"port {port}   {state} ({PORTS[int(port)]})")
    return found


def _isolation_lines(isolation: dict[str, Any]) -> list[str]:
    if isolation["problem"] is not None:
        return [f"isolation   {isolation['problem']}"]
    features = ", ".join(isolation["features"])
    found = [
        f"isolation   level {isolation['level']} by {isolation['backend']}: {features}",
        *(f"            without {name}" for name in isolation["missing"]),
    ]
    return found + [f"            better: {remedy}" for remedy in isolation["remedies"]]


def _backend_lines(backends: dict[str, Any], taken: str) -> list[str]:
    """Return a line for each backend beside the one that is taken."""
    others = {name: one for name, one in backends.items() if name != taken}
    reached = {name: f"level {one['level']}, by `sandbox.backend: {name}`" for name, one in others.items()}
    return [f"otherwise   {name}: {one['problem'] or reached[name]}" for name, one in others.items()]


def _isolation(minimum: int) -> dict[str, Any]:
    from sia_flow.sandbox.open import open_sandbox, remedies

    try:
        found = open_sandbox(minimum).isolation
    except IsolationError as error:
        nothing: list[str] = []
        return {"level": 0, "backend": None, "features": nothing, "missing": nothing, "problem": str(error)}
    return {**found.model_dump(mode="json"), "remedies": remedies(found.level), "problem": None}


def _verifier() -> dict[str, Any]:
    """Return what holds a task's verifier: Landlock's version (0: none), and whether seccomp does."""
    from sia_flow.sandbox.inside import landlock, seccomp

    return {"landlock": landlock.abi(), "seccomp": platform.machine() in seccomp.MACHINES}


def _held(verifier: dict[str, Any]) -> str:
    files = f"Landlock {verifier['landlock']}" if verifier["landlock"] else "no Landlock, so it reads what its user can"
    return f"{files}, {'seccomp' if verifier['seccomp'] else 'no seccomp'}, rlimits"


def _version(name: str) -> str | None:
    """Return an installed version without importing the package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) != 0
