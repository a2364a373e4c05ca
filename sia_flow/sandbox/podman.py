"""Podman as a backend: whether it is there, and what a container of it is shown.

Invariant: no image, no registry, no network. The container's root is an empty folder; in it stands what `exposure`
lists, as under bubblewrap, and podman keeps its own records in a folder of the session, never among the user's.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from sia_flow.errors import InfrastructureError
from sia_flow.sandbox import exposure, packages

INSTALL = "install podman 4.3 or later with crun: `apt-get install podman crun` (Fedora: `dnf install podman crun`)"
REMEDY = (
    f"{INSTALL}; as an ordinary user with ranges in /etc/subuid also newuidmap: `apt-get install uidmap`; crun takes "
    "cgroups of version 2 or of version 1, both at once for root alone"
)
SCRATCH = "64000000"
CONTROL, LIFELINE = 3, 4
"""Descriptors that a container's first process has beside its output."""
MAY_NEST = True
"""Whether jobs ask for namespaces of their own; where the host denies them they get a Landlock domain."""
_PODMAN_PLACES = ("/usr/bin/podman", "/bin/podman", "/usr/local/bin/podman")
# Of the runtimes crun alone starts a container without a cgroup of its own, and so touches none of the host's.
_CRUN_PLACES = ("/usr/bin/crun", "/bin/crun", "/usr/local/bin/crun")
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from inside import forks, first; sys.path.pop(0); "
    "first.main(int(sys.argv[2]), int(sys.argv[3]), may_nest=sys.argv[4] == '1')"
)


def trusted(places: Sequence[str]) -> str | None:
    """Return the first program of `places` that only root can have put there; PATH is not searched."""
    for place in places:
        path = Path(place)
        if path.is_file() and os.access(path, os.X_OK):
            found = path.stat()
            if found.st_uid == 0 and not found.st_mode & stat.S_IWOTH:
                return place
    return None


def absent() -> str | None:
    """Return what this machine lacks for podman, None where all is there."""
    if trusted(_PODMAN_PLACES) is None:
        return "podman is not installed"
    if trusted(_CRUN_PLACES) is None:
        return "crun, the runtime that podman needs for this, is not installed"
    return None


def order(
    items: Sequence[packages.Item], inside: str, environment: Mapping[str, str], python: Sequence[str]
) -> dict[str, object]:
    """Return what the keeper must know to start a container: programs, what is shown where, what runs in it.

    `inside` is the folder of the code that runs within, `python` the interpreter with its flags. Raises
    InfrastructureError for a path that podman cannot be told.
    """
    shown = exposure.interpreter()
    binds = [(path, path) for path in shown.system]
    binds += [(path, path) for path in exposure.CONFIGURATION if Path(path).exists()]
    binds += [(path, path) for path in shown.own]
    binds += [(item.path, f"{exposure.SITE}/{item.name}") for item in items]
    binds.append((inside, "/sandbox/inside"))
    for path in {*(target for _, target in binds), *shown.holes}:
        if "," in path or '"' in path:
            raise InfrastructureError(f"podman cannot show {path}: a comma or a quote in a path ends the path for it")
    return {
        "program": trusted(_PODMAN_PLACES),
        "runtime": trusted(_CRUN_PLACES),
        "base": _base(),
        "binds": binds,
        "links": shown.links,
        "empty": shown.holes,
        "scratch": SCRATCH,
        "environment": dict(environment),
        "command": [*python, "-c", _START, "/sandbox", str(CONTROL), str(LIFELINE), "1" if MAY_NEST else "0"],
    }


def _base() -> str:
    """Return where an ordinary user's sessions keep podman's records: memory that is the user's own where there is."""
    own = Path(f"/run/user/{os.getuid()}")
    return str(own) if os.access(own, os.W_OK) else tempfile.gettempdir()
