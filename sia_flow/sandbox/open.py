"""Finds the strongest backend that really holds on this machine; what was found stands for the process's
lifetime.

Invariant: a level is claimed only after a session was started and the attacks on it failed; there is no
silent fall to a lower level than the caller allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sia_flow.errors import InfrastructureError, IsolationError
from sia_flow.lineage.records import Isolation
from sia_flow.protocols import Image
from sia_flow.sandbox import attacks, backends, cgroups, podman
from sia_flow.sandbox.inside import landlock
from sia_flow.sandbox.session import WarmSession

_BACKENDS = backends.KNOWN
_INSTALL = "install bubblewrap: `apt-get install bubblewrap` (Fedora: `dnf install bubblewrap`)"
_APPARMOR = (
    "let bubblewrap make user namespaces: write `profile bwrap /usr/bin/bwrap flags=(unconfined) "
    "{ userns, }` to /etc/apparmor.d/bwrap and run `apparmor_parser -r /etc/apparmor.d/bwrap`; "
    "inside a container allow user namespaces"
)
_KERNEL = "use a kernel with Landlock (5.13 or later, `lsm=landlock,...`) or install bubblewrap"
_RESTRICTIONS = ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns",)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one backend."""

    backend: backends.Backend
    isolation: Isolation | None
    problem: str = ""
    remedy: str = ""


class WarmSandbox:
    """Opens sessions on one backend that has been attacked and held."""

    def __init__(self, finding: Finding) -> None:
        assert finding.isolation is not None
        self._backend = finding.backend
        self._isolation = finding.isolation

    @property
    def isolation(self) -> Isolation:
        """The level that was found by really attacking the backend."""
        return self._isolation

    def open(self, image: Image, workers: int = 2) -> WarmSession:
        """Start a session; `workers` programs run at the same time.

        Raises InfrastructureError when the image cannot be loaded inside, ValueError for arrays that
        are not numbers.
        """
        return WarmSession(self._backend, image, workers)


def open_sandbox(minimum_level: int = 1, state_dir: Path | None = None, prefer: str | None = None) -> WarmSandbox:
    """Return the strongest sandbox of this machine, or the one that `prefer` names.

    `state_dir` is the folder where the attacks' canary lies: the place that candidates must not see. Raises
    IsolationError, with what is missing and how to get it, when nothing reaches `minimum_level`.
    """
    names = [backend.name for backend in _BACKENDS]
    if prefer is not None and prefer not in names:
        raise IsolationError(f"unknown sandbox backend {prefer!r}; there are {', '.join(names)}")
    problems = []
    for backend in _BACKENDS:
        if prefer not in (None, backend.name):
            continue
        level = _reachable(backend)
        if level < minimum_level:
            problems.append(f"{backend.name} has level {level}")
            continue
        finding = examine(backend.name, state_dir)
        if finding.isolation is not None:
            return WarmSandbox(finding)
        problems.append(f"{backend.name}: {finding.problem}. Remedy: {finding.remedy}")
    if minimum_level == backends.CHARGED_LEVEL and cgroups.delegated() is None:
        problems.append(f"Remedy: {cgroups.REMEDY}")
    raise IsolationError(f"untrusted code cannot be isolated here at level {minimum_level}. " + "; ".join(problems))


def remedies(level: int) -> list[str]:
    """Return what would lift this machine above `level`: for each backend that failed, and for bubblewrap alone."""
    found = [examine(backend.name) for backend in _BACKENDS if backend.level > level]
    failed = [f"{one.problem}: {one.remedy}" for one in found if one.isolation is None]
    uncharged = level < backends.CHARGED_LEVEL and cgroups.delegated() is None
    return failed + ([f"level {backends.CHARGED_LEVEL}: {cgroups.REMEDY}"] if uncharged else [])


def survey() -> dict[str, dict[str, object]]:
    """Return, for every backend, the level that it reached here when it was attacked, or what stood in its way."""
    found = [examine(backend.name) for backend in _BACKENDS]
    return {
        one.backend.name: {"level": one.isolation.level, "problem": None}
        if one.isolation
        else {"level": 0, "problem": f"{one.problem}: {one.remedy}"}
        for one in found
    }


@cache
def examine(name: str, state_dir: Path | None = None) -> Finding:
    """Start a session on a backend, attack it, and return what was found."""
    backend = next(one for one in _BACKENDS if one.name == name)
    absent = _absent(backend)
    if absent is not None:
        return absent
    try:
        with attacks.target(state_dir) as aim, WarmSession(backend, Image()) as session:
            broken = attacks.breaches(session, aim)
            isolation = session.isolation
    except InfrastructureError as error:
        return Finding(backend, None, str(error), _remedy(backend))
    if broken:
        return Finding(backend, None, f"candidates could {', '.join(broken)}", _remedy(backend))
    return Finding(backend, isolation)


def _reachable(backend: backends.Backend) -> int:
    """Return the level that a backend has here if it holds."""
    charged = backend in backends.CHARGEABLE and cgroups.delegated() is not None
    return backends.CHARGED_LEVEL if charged else backend.level


def _absent(backend: backends.Backend) -> Finding | None:
    """Return a finding when the backend is not there at all."""
    if backend is backends.BUBBLEWRAP and backends.bwrap() is None:
        return Finding(backend, None, "bubblewrap is not installed", _INSTALL)
    lacking = podman.absent() if backend is backends.PODMAN else None
    if lacking is not None:
        return Finding(backend, None, lacking, podman.INSTALL)
    if backend is backends.LANDLOCK and landlock.abi() == 0:
        return Finding(backend, None, "the kernel has no Landlock", _KERNEL)
    return None


def _remedy(backend: backends.Backend) -> str:
    if backend is not backends.BUBBLEWRAP:
        return podman.REMEDY if backend is backends.PODMAN else _KERNEL
    restricted = any(Path(name).is_file() and Path(name).read_text().strip() == "1" for name in _RESTRICTIONS)
    return _APPARMOR if restricted else f"{_APPARMOR}; or allow a lower level (spec.sandbox.minimum_level: 1)"
