"""The live things that the steps of one experiment share: task, verifier, sandbox, policies, store.

Everything is made on first use, so that a run whose steps are all cached loads no model and starts no sandbox.
Invariant: sealed instances are given out only while a reading of them is open (`loop.sealed`), and live in a scorer of
their own.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from sia_flow.canonical import digest
from sia_flow.errors import InfrastructureError, SealedError
from sia_flow.lineage.records import Isolation, Split, Verdict
from sia_flow.lineage.store import Store
from sia_flow.loop.events import Silent, Watcher
from sia_flow.loop.hands import Hands, NoHands
from sia_flow.loop.network import granted, network_inputs
from sia_flow.loop.pausing import Pause, unpaused
from sia_flow.loop.same_base import refuse_changed_base, refuse_other_base
from sia_flow.loop.serving import load_sampler, load_trainable, sampler_inputs
from sia_flow.loop.stopping import Stop
from sia_flow.protocols import Image, Instance, Limits, Sampler, Sandbox, Session, TaskTools
from sia_flow.rollout.engine import RolloutEngine
from sia_flow.rollout.fetching import Fetching
from sia_flow.spec.models import Experiment
from sia_flow.verify.programs import ProgramScorer
from sia_flow.verify.scorers import open_scorer
from sia_flow.verify.task import Task, load_task

if TYPE_CHECKING:
    from sia_flow.loop.models import Models
    from sia_flow.policy.local import LocalPolicy
    from sia_flow.rollout.network.client import Client
    from sia_flow.verify.apart.client import ApartVerifier


class Lab:
    """One experiment's workbench in a project folder. A context manager: leaving it kills every sandbox."""

    def __init__(
        self,
        experiment: Experiment,
        root: Path,
        store: Store,
        watcher: Watcher | None = None,
        stop: Stop | None = None,
    ) -> None:
        self.experiment = experiment
        self.spec = experiment.spec
        self.root = root
        self.store = store
        self.watcher = watcher or Silent()
        self.stop = stop or Stop()
        self.alone = True
        """Off in one of several processes that run the experiment."""
        self.hands: Hands = NoHands()
        self.pause: Pause = unpaused
        self._open = contextlib.ExitStack()
        self._note_reading: Callable[[], None] | None = None
        self._policies: dict[str | None, Sampler] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @functools.cached_property
    def task(self) -> Task:
        """The task folder. Raises TaskError."""
        return load_task(self.root, self.spec.task.name)

    @functools.cached_property
    def verifier(self) -> ApartVerifier:
        """The task's verifier in the spec's mode. Raises TaskError where the data set is not there."""
        verifier = self.task.verifier(self.spec.task.mode, self.data_dir, warn=self.watcher.warning)
        self._open.callback(verifier.close)
        return verifier

    @property
    def data_dir(self) -> Path:
        """Folder of the prepared data set."""
        return self.task.data_dir(self.root, self.spec.task.data)

    @functools.cached_property
    def base_dir(self) -> Path:
        """Folder of the base model. Raises SpecError where it is not there."""
        from sia_flow.policy.bases import resolve_base

        return resolve_base(self.spec.policy.base, self.root / "models")

    @functools.cached_property
    def base_digest(self) -> str:
        """Digest of the base model. Raises SpecError where the experiment ran on another one of its name."""
        from sia_flow.policy.bases import base_digest

        found = base_digest(self.base_dir)
        refuse_other_base(self.store, self.experiment.metadata.name, self.spec.policy.base, self.base_dir, found)
        return found

    @functools.cached_property
    def sandbox(self) -> Sandbox:
        """The sandbox that the spec names, or the strongest here. Raises IsolationError below the spec's minimum."""
        from sia_flow.sandbox.open import open_sandbox

        wanted = self.spec.sandbox
        named = None if wanted.backend == "auto" else wanted.backend
        return open_sandbox(wanted.minimum_level, self.store.root.parent / "sandbox", named)

    @property
    def isolation(self) -> Isolation:
        """The level that candidates run under, and what scaffolds may read through the host."""
        return self.sandbox.isolation.model_copy(update={"network": granted(self.experiment)})

    @property
    def limits(self) -> Limits:
        """Limits of one job."""
        return Limits(wall=self.spec.sandbox.wall, cpu=self.spec.sandbox.wall, memory=self.spec.sandbox.memory)

    def instances(self, split: Split, count: int) -> tuple[Instance, ...]:
        """Return the instances of a split; the same ones for every arm and seed. Raises SealedError."""
        if split == "sealed":
            if self._note_reading is None:
                raise SealedError(
                    "sealed instances were asked for outside of a reading: only the code that reports on a finished "
                    "arm may see them (sia_flow.loop.sealed)"
                )
            self._note_reading()
        return self._instances(split, count)

    @contextlib.contextmanager
    def unsealed(self, note: Callable[[], None]) -> Iterator[None]:
        """Give out sealed instances within the block; `note` puts each reading on record first, or refuses it."""
        self._note_reading = note
        try:
            yield
        finally:
            self._note_reading = None

    @functools.cached_property
    def _instances(self) -> functools._lru_cache_wrapper[tuple[Instance, ...]]:
        return functools.lru_cache(lambda split, count: self.verifier.instances(split, count, 0))

    @functools.cached_property
    def scorer(self) -> ProgramScorer:
        """Scores answers on train and select."""
        return self._scorer()

    @functools.cached_property
    def sealed_scorer(self) -> ProgramScorer:
        """Scores answers on sealed, in sandboxes that hold nothing else."""
        return self._scorer()

    def _scorer(self) -> ProgramScorer:
        kept, workers = self.store.root.parent / "measured", self.spec.rollouts.workers
        scorer = open_scorer(self.task, self.verifier, self.sandbox, self.limits, workers, kept)
        self._open.callback(scorer.close)
        return scorer

    @functools.cached_property
    def _scaffold_session(self) -> Session:
        session = self.sandbox.open(Image(), self.spec.rollouts.workers)
        self._open.callback(session.close)
        return session

    def engine(self, split: Split, step: str | None = None) -> RolloutEngine:
        """Return the rollout engine of a split, for the step of a key: what its scaffolds read is kept under it."""
        scorer = self.sealed_scorer if split == "sealed" else self.scorer

        def score_visible(items: Sequence[tuple[Instance, str | None]]) -> Sequence[Verdict]:
            return scorer.score([(self._visible(instance), program) for instance, program in items])

        max_tokens, fetching = self.spec.policy.max_tokens, self._fetching(step)
        return RolloutEngine(self._scaffold_session, score_visible, self.limits, max_tokens, self._tools, fetching)

    def _fetching(self, step: str | None) -> Fetching | None:
        """Return what reads granted services for scaffolds; None where nothing is granted."""
        if not self.spec.sandbox.network:
            return None
        from sia_flow.rollout.network.answers import Answers

        return Fetching(self._client, Answers(self._work_path(step) / "fetched" if step else None))

    @functools.cached_property
    def _client(self) -> Client:
        from sia_flow.rollout.network.client import Client

        return Client([entry.grant for entry in self.spec.sandbox.network], self.watcher.warning)

    @functools.cached_property
    def _tools(self) -> TaskTools | None:
        return self.verifier.tools()

    def _visible(self, instance: Instance) -> Instance:
        twin = self._twins.get(instance.id)
        if twin is None:
            twin = self._twins[instance.id] = self.verifier.visible(instance)
        return twin

    @functools.cached_property
    def _twins(self) -> dict[str, Instance]:
        return {}

    @functools.cached_property
    def models(self) -> Models:
        """The language models of the agents, with the experiment's books."""
        from sia_flow.loop.models import Models

        models = Models(self.experiment, self.store.root.parent, self.watcher.warning, alone=self.alone)
        self._open.callback(models.close)
        return models

    def policy(self, adapter: str | None) -> Sampler:
        """Return the policy with an adapter (object id) or the bare base. Two are kept in memory."""
        if adapter not in self._policies:
            while len(self._policies) >= 2:
                self._policies.pop(next(iter(self._policies)))
            self._policies[adapter] = load_sampler(self, self.adapter_dir(adapter))
        return self._policies[adapter]

    def trainable_policy(self, adapter: str | None, seed: int) -> LocalPolicy:
        """Return a policy whose adapter can be trained, starting from an adapter or from zero."""
        from sia_flow.policy.adapters import LoraConfig

        lora = self.spec.policy.lora
        config = LoraConfig(rank=lora.rank, alpha=lora.alpha, targets=tuple(lora.targets), seed=seed)
        policy = load_trainable(self, self.adapter_dir(adapter), config)
        refuse_changed_base(self.base_dir, policy.base_digest, self.base_digest)
        return policy

    def adapter_dir(self, adapter: str | None) -> Path | None:
        """Lay an adapter object out as a folder and return it; None for the bare base."""
        if adapter is None:
            return None
        return self.store.objects.checkout(adapter, self.store.root.parent / "adapters" / adapter.removesuffix(".dir"))

    def work_dir(self, key: str) -> Path:
        """Return the scratch folder of a step, which survives a kill; `drop_work` removes it."""
        path = self._work_path(key)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InfrastructureError(f"cannot make the work folder {path}: {error.strerror}") from error
        return path

    def drop_work(self, key: str) -> None:
        """Remove the scratch folder of a step that has its record."""
        shutil.rmtree(self._work_path(key), ignore_errors=True)

    def _work_path(self, key: str) -> Path:
        return self.store.root.parent / "work" / key

    @functools.cached_property
    def inputs(self) -> dict[str, str]:
        """Digests that every rollout depends on."""
        return {
            "task": self.task.digest,
            "data": self.verifier.data_digest,
            "verifier": self.verifier.digest,
            "base": self.base_digest,
            **sampler_inputs(self),
            **network_inputs(self.experiment),
        }

    @property
    def batch(self) -> dict[str, int]:
        """What the steps' names have of `rollouts.batch`: nothing where it is not set."""
        batch = self.spec.rollouts.batch
        return {} if batch is None else {"batch": batch}

    @functools.cached_property
    def limits_digest(self) -> str:
        """Digest of the limits under which candidates run."""
        return digest([self.limits.wall, self.limits.memory, self.spec.policy.max_tokens])
