"""How a zygote is started under each backend, and which paths it is shown: an allow-list, never the whole
root.

Nothing of a home folder, of /etc beyond the linker's cache, of /run, /var or the project is in it.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32")
_SCRATCH = "64000000"
_BWRAP_PLACES = ("/usr/bin/bwrap", "/bin/bwrap", "/usr/local/bin/bwrap")
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from inside import zygote; sys.path.pop(0); "
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
    features: tuple[str, ...]
    missing: tuple[str, ...]


BUBBLEWRAP = Backend(
    "bubblewrap",
    2,
    ("namespaces", "allow-list mounts", "seccomp", "rlimits", "empty environment", "no network"),
    ("cgroup v2 limits",),
)
LANDLOCK = Backend(
    "landlock",
    1,
    ("landlock", "seccomp", "rlimits", "process-tree kill", "empty environment", "no sockets"),
    ("namespaces: file names, sizes and process ids of the host can be seen", "cgroup v2 limits"),
)


def bwrap() -> str | None:
    """Return the path of a bubblewrap that only root can have put there; PATH is not searched."""
    for place in _BWRAP_PLACES:
        path = Path(place)
        if path.is_file() and os.access(path, os.X_OK):
            found = path.stat()
            if found.st_uid == 0 and not found.st_mode & stat.S_IWOTH:
                return place
    return None


def interpreter_paths() -> list[str]:
    """Return the folders that this Python needs beyond the system's, the outermost only."""
    wanted = {sys.prefix, sys.base_prefix, sys.exec_prefix, str(Path(sys.executable).resolve().parent.parent)}
    wanted |= {str(Path(name).resolve()) for name in wanted}
    outer = [*_SYSTEM, *wanted]
    return sorted(
        path
        for path in wanted
        if not any(other != path and Path(path).is_relative_to(other) for other in outer)
        and path not in _SYSTEM
    )


def readable_paths() -> list[str]:
    """Return what a job under Landlock may read."""
    return [*(path for path in _SYSTEM if Path(path).exists()), "/etc/ld.so.cache", *interpreter_paths()]


def _zygote(folder: str, control: int, *, nested: bool) -> list[str]:
    # -s -P and not -I: the environment is ours, and the hash seed must be heard.
    return [sys.executable, "-s", "-P", "-B", "-c", _START, folder, str(control), "1" if nested else "0"]


def _system_mounts() -> list[str]:
    argv = ["--ro-bind", "/usr", "/usr"]
    for place in _SYSTEM[1:]:
        path = Path(place)
        if path.is_symlink():
            argv += ["--symlink", str(path.readlink()), place]
        elif path.is_dir():
            argv += ["--ro-bind", place, place]
    return [*argv, "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]


def _bwrap_argv(program: str, control: int) -> list[str]:
    # Not --unshare-all: it drops a namespace that fails without a word.
    argv = [program, "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-net"]
    argv += ["--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox", "--cap-drop", "ALL"]
    argv += ["--uid", "65534", "--gid", "65534"]
    for name, value in ENVIRONMENT.items():
        argv += ["--setenv", name, value]
    argv += _system_mounts()
    argv += ["--proc", "/proc", "--dev", "/dev"]
    for folder in ("/tmp", "/dev/shm"):  # noqa: S108 - mount points; before binds that may lie below them
        argv += ["--size", _SCRATCH, "--tmpfs", folder]
    for path in interpreter_paths():
        argv += ["--ro-bind", f"@{path}", path]
    argv += ["--ro-bind", f"@{HERE / 'inside'}", "/sandbox/inside"]
    argv += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/", "--"]
    return argv + _zygote("/sandbox", control, nested=True)


def plan(backend: Backend, control: int) -> dict[str, object]:
    """Return what a keeper must know to start a zygote on descriptor `control`."""
    exposed: Sequence[str] = [*interpreter_paths(), str(HERE / "inside")]
    program = bwrap()
    if backend is BUBBLEWRAP and program:
        argv = _bwrap_argv(program, control)
    else:
        argv = _zygote(str(HERE), control, nested=False)
    return {
        "argv": argv,
        "expose": exposed,
        "stage": backend is BUBBLEWRAP,
        # bubblewrap is PID 1 in there and shows its own first environment, so it gets none.
        "environment": {} if backend is BUBBLEWRAP else ENVIRONMENT,
        "pass": [control],
    }
