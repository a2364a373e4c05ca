"""A project folder: where specs, tasks, data, models and the state lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sia_flow.errors import SpecError


@dataclass(frozen=True, slots=True)
class Project:
    """Paths of a project, all below its root."""

    root: Path

    @classmethod
    def find(cls, start: Path | None = None) -> Project:
        """Return the project that holds `start` (a file or folder; the current folder by default).

        Raises SpecError where no folder above holds both `tasks` and `flows`.
        """
        here = (start or Path.cwd()).resolve()
        for folder in (here, *here.parents, *_parents(Path.cwd())):
            if (folder / "tasks").is_dir() and (folder / "flows").is_dir():
                return cls(folder)
        raise SpecError(f"{here} is in no sia-flow project (no tasks/ and flows/ above it): run `sia-flow init DIR`")

    @property
    def state(self) -> Path:
        """Folder of everything that sia-flow keeps for itself."""
        return self.root / ".sia-flow"

    @property
    def store(self) -> Path:
        """The lineage store."""
        return self.state / "store"

    @property
    def locks(self) -> Path:
        """Locks, one an experiment."""
        return self.state / "locks"

    @property
    def runs(self) -> Path:
        """The human view of the store."""
        return self.root / "runs"

    @property
    def models(self) -> Path:
        """Base models and published checkpoints."""
        return self.root / "models"

    @property
    def checkpoints(self) -> Path:
        """Published agents, one folder an experiment."""
        return self.models / "checkpoints"

    @property
    def artifacts(self) -> Path:
        """MLflow's artifacts, one folder an experiment."""
        return self.root / "mlruns" / "artifacts"


def _parents(folder: Path) -> tuple[Path, ...]:
    resolved = folder.resolve()
    return (resolved, *resolved.parents)
