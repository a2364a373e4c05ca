"""The inner on-policy loop of the weight lever: collect, credit, step, checkpoint, until done or stopped.

Invariant: killed anywhere and called again, a pull ends with the same bits as one that was never killed;
the base is never touched; the adapter that is kept is finite and was within the guards when it was last
measured.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sia_flow.canonical import canonical_json, derive_seed, digest
from sia_flow.errors import TrainingError
from sia_flow.files import write_atomic
from sia_flow.training.admission import Settings, check_sampler, settle
from sia_flow.training.backend import TrainingBackend, open_backend
from sia_flow.training.batch import Batch, collate
from sia_flow.training.checkpoint import Checkpoint, CheckpointStore
from sia_flow.training.credit import check_groups, credit
from sia_flow.training.determinism import deterministic
from sia_flow.training.figures import of_batch, of_credit, of_no_step
from sia_flow.training.forward import Measured
from sia_flow.training.guards import best_step, breach, breaches
from sia_flow.training.types import Collect, OnStep, PullConfig, Status, TrainablePolicy, WeightUpdate
from sia_flow.training.update import update

BACKTRACK = 0.5
"""What is left of the learning rate each time that a pull goes back to its best adapter."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How the loop ended and which iteration's adapter is kept."""

    status: Status
    note: str
    kept: int


def pull(
    policy: TrainablePolicy, collect: Collect, plan: PullConfig, work: Path, on_step: OnStep | None = None
) -> WeightUpdate:
    """Train the policy's adapter in place and return what came of it; go on from `work` if it was cut there.

    `collect` must be a function of its arguments and the policy's weights alone. Raises TrainingError,
    before any optimizer step, for an unknown algorithm, groups too small for it, no episode, episodes of
    another policy, a policy without a trainable adapter, and a work folder of another pull.
    """
    with deterministic():
        loop = _Loop.open(policy, plan, work)
        for iteration, step in enumerate(loop.steps):
            _tell(on_step, iteration, step)
        ending = loop.earlier_ending()
        while ending is None:
            before = len(loop.steps)
            ending = loop.advance(collect)
            for iteration in range(before, len(loop.steps)):
                _tell(on_step, iteration, loop.steps[iteration])
        return loop.close(ending)


def _tell(on_step: OnStep | None, iteration: int, step: Mapping[str, float]) -> None:
    if on_step is not None:
        on_step(iteration, step)


@dataclass(slots=True)
class _Loop:
    """The mutable state of one pull."""

    policy: TrainablePolicy
    settings: Settings
    work: Path
    store: CheckpointStore
    backend: TrainingBackend
    iteration: int = 0
    updates: int = 0
    steps: list[Mapping[str, float]] = field(default_factory=list)

    @classmethod
    def open(cls, policy: TrainablePolicy, plan: PullConfig, work: Path) -> _Loop:
        """Check the plan, then take up the newest checkpoint or write the first one."""
        settings = settle(plan)
        backend = open_backend(policy, settings)
        shapes = {name: list(tensor.shape) for name, tensor in backend.snapshot().items()}
        fingerprint = digest({"settings": asdict(settings), "start": policy.version, "shapes": shapes})
        loop = cls(policy, settings, work, CheckpointStore(work, fingerprint), backend)
        newest = loop.store.newest()
        if newest is None:
            loop.save()
        else:
            loop.take(newest)
        return loop

    def take(self, checkpoint: Checkpoint) -> None:
        """Go to the state of a checkpoint."""
        self.backend.restore(checkpoint.tensors)
        self.policy.refresh()
        self.iteration, self.updates = checkpoint.iteration, checkpoint.updates
        self.steps = list(checkpoint.steps)

    def save(self) -> None:
        """Checkpoint, and drop those that no rollback can ask for."""
        state = Checkpoint(self.iteration, self.updates, tuple(self.steps), self.backend.snapshot())
        self.store.save(state)
        self.store.prune([self.iteration, self.iteration - 1, self._best()])

    def advance(self, collect: Collect) -> Ending | None:
        """Do one iteration; return how the pull ends, or None if it goes on."""
        if self.iteration >= self.settings.iterations:
            status: Status = "ok" if self.updates else "skipped"
            note = "" if self.updates else "no collected batch had two different rewards in one group"
            if times := self._turns():
                note = f"{note}; times back to the best adapter and on at half the rate: {times}".lstrip("; ")
            return Ending(status, note, self.iteration)
        batch = self._collect(collect)
        measured = self.backend.measure(batch)
        if not math.isfinite(measured.kl):
            if not self.steps:
                raise TrainingError("the adapter that the pull starts from is not finite; start from an earlier one")
            return self._broken("a log-probability is not finite", self._best())
        facts = of_batch(batch, measured)
        reason = breach([*self.steps, facts], self.settings.max_kl)
        if reason is not None:
            return self._turn_back(facts, reason)
        taken = self._step(batch, measured)
        if taken is None:
            return self._broken("loss, gradient or adapter is not finite", self.iteration)
        self.steps.append({**facts, **taken})
        self.iteration += 1
        self.updates += int(taken["updates"])
        self.policy.refresh()
        self.save()
        return None

    def _turn_back(self, facts: Mapping[str, float], reason: str) -> Ending | None:
        """Go back to the best adapter: for good, or on from there at a lower rate while that may be done."""
        kept, turns = self._best(), self._turns()
        self.steps.append({**facts, **of_no_step(self.settings.algorithm)})
        if turns == self.settings.backtracks or kept == self.iteration:
            return Ending("stopped", f"{reason}; kept the adapter of iteration {kept}", kept)
        best = self.store.load(kept)
        self.backend.restore(best.tensors)
        self.policy.refresh()
        self.iteration, self.updates = self.iteration + 1, best.updates
        self.save()
        return None

    def close(self, ending: Ending) -> WeightUpdate:
        """Put the kept adapter into the policy and on disk, then record the ending."""
        steps = tuple(self.steps)
        self.take(self.store.load(ending.kept))
        adapter, fresh = self.work / "adapter", self.work / ".adapter"
        record = {**asdict(ending), "steps": [dict(step) for step in steps]}
        if not self._ending_path().exists():
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.rmtree(adapter, ignore_errors=True)
            self.backend.save_adapter(fresh)
            fresh.rename(adapter)
            write_atomic(self._ending_path(), canonical_json(record))
        return WeightUpdate(adapter, steps, ending.status, ending.note, self.updates)

    def earlier_ending(self) -> Ending | None:
        """Return the recorded ending of a pull that was finished before, with its metrics taken up."""
        if not self._ending_path().exists():
            return None
        record = json.loads(self._ending_path().read_bytes())
        self.steps = record.pop("steps")
        return Ending(**record)

    def _ending_path(self) -> Path:
        return self.work / "ending.json"

    def _collect(self, collect: Collect) -> Batch:
        episodes = collect(self.iteration, derive_seed(self.settings.seed, "collect", self.iteration))
        check_sampler(episodes, self.policy.version)
        batch = collate(episodes, self.backend.device)
        check_groups(batch, self.settings.algorithm)
        return batch

    def _step(self, batch: Batch, measured: Measured) -> Mapping[str, float] | None:
        credited = credit(batch, measured, self.settings)
        if credited is None:
            return of_no_step(self.settings.algorithm)
        rate = self.settings.rate(self.iteration) * BACKTRACK ** self._turns()
        taken = update(self.backend, credited, self.settings, rate)
        return None if taken is None else {**taken, **of_credit(credited), "updates": float(self.settings.epochs)}

    def _broken(self, what: str, kept: int) -> Ending:
        note = f"{what} in iteration {self.iteration}; kept the adapter of {kept}, lower the learning rate"
        return Ending("nan", note, kept)

    def _best(self) -> int:
        """Return the best measured iteration so far; the start, if none was."""
        return best_step(self.steps, self.settings.max_kl)

    def _turns(self) -> int:
        """Return how often the pull went back to its best adapter."""
        return len(breaches(self.steps, self.settings.max_kl))
