"""How a zygote is started under each backend: its command, its mounts, its environment.

Invariant: a mount is there only because `exposure` lists it; Landlock's rules are the same list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sia_flow.protocols import Image
from sia_flow.sandbox import exposure, packages, podman

HERE = Path(__file__).parent
_BWRAP_PLACES = ("/usr/bin/bwrap", "/bin/bwrap", "/usr/local/bin/bwrap")
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from inside import forks, zygote; sys.path.pop(0); "
    "zygote.main(int(sys.argv[2]), may_nest=sys.argv[3] == '1')"
)
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/tmp",  # noqa: S108 - the job's own mount
    "USER": "nobody",
    "LOGNAME": "nobody",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
}


@dataclass(frozen=True, slots=True)
class Backend:
    """One way to hold untrusted code."""

    name: str
    level: int
    """Without a cgroup of its own."""
    features: tuple[str, ...]
    missing: tuple[str, ...]


CHARGED = "cgroup v2 limits"
"""What bubblewrap and podman have where a cgroup was delegated: the kernel charges a job's whole tree."""
CHARGED_LEVEL = 3
BUBBLEWRAP = Backend(
    "bubblewrap",
    2,
    ("namespaces", "allow-list mounts", "seccomp", "rlimits", "empty environment", "no network"),
    (CHARGED,),
)
PODMAN = Backend(
    "podman",
    2,
    ("namespaces", "allow-list mounts", "seccomp", "rlimits", "empty environment", "no network"),
    (CHARGED,),
)
LANDLOCK = Backend(
    "landlock",
    1,
    ("landlock", "seccomp", "rlimits", "process-tree kill", "empty environment", "no sockets"),
    ("namespaces: file names, sizes and process ids of the host can be seen", CHARGED),
)
CHARGEABLE = (BUBBLEWRAP, PODMAN)
"""Those whose jobs move to cgroups of their own where one was delegated."""
KNOWN = (BUBBLEWRAP, PODMAN, LANDLOCK)
"""The strongest one first, the faster one before its equal."""


def bwrap() -> str | None:
    """Return the path of a bubblewrap that only root can have put there; PATH is not searched."""
    return podman.trusted(_BWRAP_PLACES)


def _python() -> list[str]:
    # -s -P -S and not -I: the environment is ours, and the hash seed must be heard. Without `site` the path
    # holds the standard library alone.
    return [exposure.interpreter().program, "-s", "-S", "-P", "-B"]


def _zygote(folder: str, control: int, *, nested: bool) -> list[str]:
    return [*_python(), "-c", _START, folder, str(control), "1" if nested else "0"]


def _mounts(items: Sequence[packages.Item]) -> list[str]:
    """Return what is shown; a source that starts with @ is staged by the keeper."""
    shown = exposure.interpreter()
    argv: list[str] = []
    for path in shown.system:
        argv += ["--ro-bind", path, path]
    for path, target in shown.links:
        argv += ["--symlink", target, path]
    for path in exposure.CONFIGURATION:
        argv += ["--ro-bind-try", path, path]
    argv += ["--proc", "/proc", "--dev", "/dev"]
    for folder in ("/tmp", "/dev/shm"):  # noqa: S108 - mount points; before binds that may lie below them
        argv += ["--size", podman.SCRATCH, "--tmpfs", folder]
    for path in shown.own:
        argv += ["--ro-bind", f"@{path}", path]
    for hole in shown.holes:
        argv += ["--tmpfs", hole, "--remount-ro", hole]
    for item in items:
        argv += ["--ro-bind", f"@{item.path}", f"{exposure.SITE}/{item.name}"]
    argv += ["--ro-bind", f"@{HERE / 'inside'}", "/sandbox/inside"]
    return [*argv, "--remount-ro", "/dev", "--remount-ro", "/"]


def _bwrap_argv(program: str, control: int, items: Sequence[packages.Item]) -> list[str]:
    # Not --unshare-all: it drops a namespace that fails without a word.
    argv = [program, "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-net"]
    argv += ["--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox", "--cap-drop", "ALL"]
    argv += ["--uid", "65534", "--gid", "65534"]
    for name, value in ENVIRONMENT.items():
        argv += ["--setenv", name, value]
    argv += [*_mounts(items), "--chdir", "/", "--"]
    return argv + _zygote("/sandbox", control, nested=True)


def view(backend: Backend, image: Image) -> dict[str, object]:
    """Return the paths that the zygote is told: where modules are, and what jobs may read or list."""
    items = packages.items(image.preload)
    site = None if backend is LANDLOCK else exposure.SITE
    # Under podman for a host that denies user namespaces within a container: its jobs get a Landlock domain instead.
    readable, listable = ([], []) if backend is BUBBLEWRAP else exposure.readable(image, site)
    return {
        "imports": exposure.imports(items, site),
        "metadata": exposure.metadata(items, site),
        "readable": readable,
        "listable": listable,
    }


def plan(backend: Backend, control: int, image: Image) -> dict[str, object]:
    """Return what a keeper must know to start a zygote on descriptor `control`.

    Raises InfrastructureError for a path that the backend cannot show.
    """
    items = packages.items(image.preload)
    inside = str(HERE / "inside")
    argv: list[str] = []
    order: dict[str, object] | None = None
    program = bwrap()
    if backend is PODMAN:
        order = podman.order(items, inside, ENVIRONMENT, _python())
    elif backend is BUBBLEWRAP and program:
        argv = _bwrap_argv(program, control, items)
    else:
        argv = _zygote(str(HERE), control, nested=False)
    return {
        "argv": argv,
        "podman": order,
        "expose": [*exposure.interpreter().own, *(item.path for item in items), inside],
        "stage": backend is not LANDLOCK,
        # bubblewrap is PID 1 in there and shows its own first environment, so it gets none.
        "environment": {} if backend is BUBBLEWRAP else ENVIRONMENT,
        "pass": [control],
    }
