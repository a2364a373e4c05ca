"""How the keeper starts a podman container and ends it.

Invariant: nothing of podman's outlives the session. Its records lie in a folder of their own: for root in memory of
the keeper's mount namespace, which goes with its last process; for others in a folder that the keeper holds by a lock,
and whoever finds one without a holder clears it away. The container itself hangs on a pipe of the keeper's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import linux, tree

PREFIX = "sia-flow-podman-"
NOBODY = 65534
_FIRST_HANDLE = 3
_START_SECONDS = 100.0
_CLEAR_SECONDS = 3.0
_RUNTIME = "libpod-tmp"
"""Folder of what podman keeps while it runs."""
_MOST_FILES = 1 << 20
_HYBRID = "/sys/fs/cgroup/unified"
_RUN = (
    *("run", "--detach", "--rm", "--log-driver=passthrough", "--preserve-fds=2", "--cgroups=disabled"),
    *("--read-only", "--read-only-tmpfs=false", "--workdir=/", "--hostname=sandbox", "--no-hosts", "--unsetenv-all"),
    *("--network=none", "--ipc=none", "--pid=private", "--uts=private", "--http-proxy=false", "--systemd=false"),
    *("--cap-drop=all", "--security-opt=no-new-privileges", "--security-opt=label=disable", "--sdnotify=ignore"),
    # The zygote makes namespaces and mounts a /proc of its own, which podman's filter and masks would deny; candidates
    # get our filter and no /proc at all.
    *("--security-opt=seccomp=unconfined", "--security-opt=unmask=ALL"),
)
_ENGINE = """[engine]
lock_type = "file"
events_logger = "none"
cgroup_manager = "cgroupfs"
runtime = "crun"
tmp_dir = "{state}/libpod-tmp"
static_dir = "{state}/libpod"
volume_path = "{state}/volumes"
[engine.runtimes]
crun = ["{runtime}"]
[network]
network_config_dir = "{state}/networks"
"""


class Container(NamedTuple):
    """A container that runs."""

    first: int
    """Process id of its first process."""
    handles: tuple[int, ...]
    """Descriptors of that process and of its supervisor; either one's end is the container's."""


class Home(NamedTuple):
    """Podman's records of one session."""

    folder: Path
    lock: int | None
    """Descriptor of the held folder; none where the folder goes with the mount namespace."""


def home(base: str, *, private: str | None) -> Home:
    """Return a fresh folder for podman's records: below `private`, or a locked one below `base`."""
    if private is not None:
        folder = Path(private, "podman")
        folder.mkdir()
        return Home(folder, None)
    sweep(base)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return Home(folder, lock)
        # Another keeper took it for one without a holder.
        os.close(lock)


def sweep(base: str) -> None:
    """Clear away the folders below `base` whose keepers are gone, with the process that podman left for each."""
    for folder in Path(base).glob(f"{PREFIX}*"):
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            if os.fstat(lock).st_uid == os.getuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _clear(folder)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)


def release(place: Home) -> None:
    """Remove a session's records."""
    if place.lock is not None:
        _clear(place.folder)
        os.close(place.lock)


def _clear(folder: Path) -> None:
    """End what podman started for a folder, and remove it."""
    deadline = time.monotonic() + _CLEAR_SECONDS
    # A container that has just ended is still being tidied up by its monitor, which starts podman once more.
    while (_kill_all(folder) or folder.exists()) and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.02)


def _kill_all(folder: Path) -> int:
    """Kill a container's monitor and what holds rootless podman's user namespace; return how many there were."""
    found = 0
    for pid in [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]:
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(pid)
            try:
                # All that podman starts has the folder in its environment; read when the number can be no other's.
                if os.fsencode(folder) in Path(f"/proc/{pid}/environ").read_bytes():
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    found += 1
            finally:
                os.close(handle)
    return found


def command(order: Mapping[str, Any], folder: Path, places: Mapping[str, str], user: int) -> list[str]:
    """Return podman's command line; `places` says where a path that is shown really lies."""
    records = {"root": folder / "storage", "runroot": folder / "run", "tmpdir": folder / _RUNTIME}
    argv = [order["program"], *(f"--{name}={path}" for name, path in records.items())]
    argv += ["--storage-driver=vfs", "--log-level=error", f"--runtime-flag=root={folder}/crun", *_RUN]
    argv += [f"--pidfile={folder}/first", f"--conmon-pidfile={folder}/conmon", *_ulimits(), f"--user={user}:{user}"]
    if os.geteuid() != 0:
        # One id that stands for the user's own: no more than an unprivileged process may map.
        argv += [f"--uidmap={user}:0:1", f"--gidmap={user}:0:1"]
    argv += [f"--env={name}={value}" for name, value in order["environment"].items()]
    for target in ("/tmp", "/dev/shm"):  # noqa: S108 - the container's own
        argv.append(f"--mount=type=tmpfs,dst={target},tmpfs-size={order['scratch']},notmpcopyup")
    for source, target in order["binds"]:
        argv.append(f"--mount=type=bind,src={places.get(source, source)},dst={target},ro,bind-propagation=rprivate")
    for hole in order["empty"]:
        argv.append(f"--mount=type=tmpfs,dst={hole},ro,tmpfs-size=4k,tmpfs-mode=0755,notmpcopyup")
    return [*argv, "--rootfs", f"{folder}/rootfs", *order["command"]]


def _ulimits() -> list[str]:
    """Return limits that need no right: podman would raise those of this process, and lowers one of its own first."""
    numbers = int(Path("/proc/sys/kernel/pid_max").read_text())
    bounds = (("nofile", resource.RLIMIT_NOFILE, _MOST_FILES), ("nproc", resource.RLIMIT_NPROC, numbers))
    hard = ((name, resource.getrlimit(kind)[1], most) for name, kind, most in bounds)
    least = ((name, most if value == resource.RLIM_INFINITY else min(value, most)) for name, value, most in hard)
    return [f"--ulimit={name}={value}:{value}" for name, value in least]


def lay(order: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Write podman's configuration and the container's root; return the environment that podman starts with."""
    root = folder / "rootfs"
    root.mkdir()
    for path, target in order["links"]:
        link = root / path.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    (folder / "containers.conf").write_text(_ENGINE.format(state=folder, runtime=order["runtime"]))
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/storage"\nrunroot = "{folder}/run"\n'
    )
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "XDG_RUNTIME_DIR": str(folder),
        # These files and none of the user's or the machine's, which may add mounts, variables and capabilities.
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
    }


def start(argv: Sequence[str], environment: Mapping[str, str], control: int, folder: Path, host: int) -> Container:
    """Start the container. Raises OSError with podman's own words, or where the host hung up meanwhile."""
    if os.geteuid() == 0:
        hide_hybrid()
    # The other end stays open for as long as this process lives: what the container's first process hangs on.
    held, _ = os.pipe()
    client = os.fork()
    if client == 0:
        _become(argv, environment, (control, held))
    os.close(held)
    code = _ended(client, host)
    if code:
        raise OSError(f"podman ended with code {code}: {_complaint()}")
    try:
        first, supervisor = (int((folder / name).read_text()) for name in ("first", "conmon"))
        return Container(first, (os.pidfd_open(first), os.pidfd_open(supervisor)))
    except (OSError, ValueError) as error:
        raise OSError(f"the container ended at once: {_complaint()}") from error


def _become(argv: Sequence[str], environment: Mapping[str, str], handles: Sequence[int]) -> None:
    """Exec podman with `handles` right after its output, which is where it looks for those it hands on."""
    try:
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        null = os.open("/dev/null", os.O_RDWR)
        high = [fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, 100) for handle in (null, null, *handles)]
        for number, handle in zip((0, 1, *range(_FIRST_HANDLE, _FIRST_HANDLE + len(handles))), high, strict=True):
            os.dup2(handle, number, inheritable=True)
        os.closerange(_FIRST_HANDLE + len(handles), 4096)
        os.execve(argv[0], list(argv), dict(environment))  # noqa: S606 - the plan is ours
    except OSError as error:
        os.write(2, f"{argv[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def _ended(client: int, host: int) -> int:
    """Wait for podman's client, which goes when the container stands; return its exit code."""
    handle = os.pidfd_open(client)
    poll = select.poll()
    for one in (0, host, handle):
        poll.register(one, select.POLLIN | select.POLLHUP)
    ready = [one for one, _ in poll.poll(_START_SECONDS * 1000)]
    if handle not in ready:
        tree.send([client], signal.SIGKILL)
    os.close(handle)
    code = os.waitstatus_to_exitcode(os.waitpid(client, 0)[1])
    if handle not in ready:
        raise OSError("the host hung up" if ready else f"podman started nothing in {_START_SECONDS:.0f} s")
    return code


def _complaint() -> str:
    """Return podman's last line on stderr, a file in memory."""
    size = os.fstat(2).st_size
    lines = os.pread(2, 4000, max(0, size - 4000)).decode("utf-8", "replace").strip().splitlines()
    return lines[-1].removeprefix("Error: ") if lines else "without a word"


def hide_hybrid() -> None:
    """Take the second cgroup hierarchy out of this mount namespace: crun refuses two, though it shall use neither."""
    with contextlib.suppress(OSError):
        if Path(_HYBRID, "cgroup.controllers").read_text().strip():
            linux.unmount(_HYBRID)
