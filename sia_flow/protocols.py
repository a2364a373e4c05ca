"""The protocols by which the packages know each other: sampler, sandbox, verifier.

Nothing here imports what implements it. Arrays are numpy's; everything that crosses into a sandbox is JSON or an
array of a declared shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sia_flow.lineage.records import Isolation, Split, Verdict

# --- sampling -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One call of the policy. Equal requests with equal seeds give equal completions."""

    messages: tuple[Mapping[str, Any], ...]
    """As in OpenAI's chat interface: `role`, `content`, and of tools `tool_calls` and `tool_call_id`."""
    n: int
    temperature: float
    max_tokens: int
    seed: int
    tools: tuple[Mapping[str, Any], ...] = ()
    """Functions that the policy may call, as in OpenAI's chat interface; who asks carries the calls out."""


class RequestError(ValueError):
    """A request that no policy could answer, by the fault of who asks."""


class Called(NamedTuple):
    """A call of a tool that a completion asks for."""

    name: str
    arguments: str
    """JSON, where the policy wrote valid JSON."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled continuation, token-exact."""

    text: str
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Literal["stop", "length"]
    rescored: bool = False
    """Whether the log-probabilities, and perhaps the tokens, are recomputed, because the sampler does not tell them."""
    calls: tuple[Called, ...] = ()


class Sampler(Protocol):
    """A policy that can be sampled.

    Its tokens do not depend on what else is in a batch; its log-probabilities may, in their last bits.
    """

    @property
    def version(self) -> str:
        """Name of the exact weights: base digest, or base and adapter digest."""

    @property
    def at_once(self) -> int:
        """Requests that gain from being asked each for itself, from as many threads; 0 where whole batches gain."""

    def hold(self) -> Sampler:
        """Return what samples from the weights as they are now; a batch of rollouts asks it alone."""

    def sample(self, requests: Sequence[SampleRequest]) -> list[list[Completion]]:
        """Return `n` completions for each request, in order. Raises RequestError."""


# --- the sandbox ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Limits:
    """What one job may use. Seconds and bytes."""

    wall: float = 10.0
    cpu: float = 10.0
    memory: int = 1 << 30
    processes: int = 64
    file_size: int = 64 << 20
    output: int = 64 << 10
    """Bytes kept of stdout and stderr together; sixteen times as much kills the job."""


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """The exact form of an array that a job must return."""

    shape: tuple[int, ...]
    dtype: str = "float64"


@dataclass(frozen=True, slots=True)
class Image:
    """What a session's sandbox holds before any job: trusted modules, warm imports, read-only arrays."""

    modules: Mapping[str, str] = field(default_factory=dict)
    """Module name -> Python source, importable by jobs (a task's toolkit, say)."""
    preload: tuple[str, ...] = ()
    """Modules imported before the first fork, so that a job starts warm."""
    warm: str | None = None
    """`module:function`, called once with the arrays mapping before the first fork (caches shared by all jobs)."""
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Public inputs by name; each job sees those that it names."""


@dataclass(frozen=True, slots=True)
class Job:
    """One untrusted piece of code to run.

    With `returns` set, `entry(*arrays, *arguments)` must give an array of that form. Without, the job is a
    scaffold: `entry(job)` gets an object with `instance`, `seed`, `generate`, `fetch` and `tools`, and returns a
    string.
    """

    source: str
    entry: str
    arrays: tuple[str, ...] = ()
    arguments: tuple[Any, ...] = ()
    instance: Mapping[str, Any] | None = None
    seed: int = 0
    returns: ArraySpec | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    """Further modules of the candidate, by file name; importable by its source."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request of a running scaffold to the host."""

    job: int
    """Index of the job in the batch."""
    method: str
    """`generate`, `fetch`, or `tool:NAME`."""
    params: Mapping[str, Any]
    """Keyword arguments, as strictly parsed JSON: hostile."""


Status = Literal[
    "OK",
    "NONZERO",
    "SIGNAL",
    "TIMEOUT",
    "CPU",
    "MEMORY",
    "OUTPUT_FLOOD",
    "RESULT_TOO_BIG",
    "BAD_RESULT",
    "BAD_SHAPE",
    "SYNTAX",
    "EXCEPTION",
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one job ended. `value` is a string (scaffold) or an array (program) when the status is OK."""

    status: Status
    value: str | NDArray[np.float64] | None = None
    error: str = ""
    """Last line of the candidate's traceback, or the limit that it broke; bounded, control characters removed."""
    stdout: str = ""
    cpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class CallForm:
    """The form of one call of a timed program: the arrays that it is given, by name, and what it must return."""

    arrays: Mapping[str, ArraySpec]
    returns: ArraySpec


@dataclass(frozen=True, slots=True)
class TimedCall:
    """One call of a timed program, as it was measured from outside its process. Seconds."""

    output: NDArray[Any]
    cpu: float
    """Processor time since its last call ended: no work goes uncounted, whenever it is done."""
    idle: float
    """Time of the call in which it neither ran nor waited for a processor, the host's own lateness included."""
    helpers: int
    """Threads and processes beside its first thread."""


class Bench(Protocol):
    """Timed programs, each warm in a process of its own; one call runs at a time."""

    def start(self, job: Job, forms: Sequence[CallForm]) -> int:
        """Start a program and return its number. `job.entry` gets one mapping, name -> array."""

    def call(self, program: int, form: int, inputs: Mapping[str, NDArray[Any]]) -> TimedCall | Outcome:
        """Call a program with fresh inputs of one of its forms; an Outcome says how it failed, which ends it.

        Raises InfrastructureError when the sandbox itself fails.
        """

    def drop(self, program: int) -> None:
        """End a program."""


class Session(Protocol):
    """A warm sandbox. Jobs of a batch run in forks of one clean parent and never see each other's memory."""

    @property
    def isolation(self) -> Isolation:
        """The level at which jobs run here."""

    def run(
        self,
        jobs: Sequence[Job],
        limits: Limits,
        serve: Callable[[Sequence[Call]], Sequence[Any]] | None = None,
        at_once: int = 0,
    ) -> list[Outcome]:
        """Run a batch; one outcome a job, in order.

        `serve` answers the scaffolds' calls in rounds: it is called when every job that has not ended is waiting
        for an answer, with the calls in job order, so that results do not depend on timing. An answer that is an
        Exception instance is raised inside the scaffold as RuntimeError with its text. With `at_once` above 0 there
        are no rounds: `serve` is called with one call as soon as it comes, from as many threads, so results must not
        depend on which calls it sees together.

        Raises InfrastructureError when the sandbox itself fails (never scored, worth a retry).
        """

    def bench(self, limits: Limits) -> AbstractContextManager[Bench]:
        """Open a bench; leaving it ends its programs. Batches wait meanwhile. `limits.wall` is for each call."""

    def close(self) -> None:
        """Kill everything in the sandbox and wait until it is gone."""


class Sandbox(Protocol):
    """Opens sessions at one isolation level."""

    @property
    def isolation(self) -> Isolation:
        """The level that was found by really attacking the backend."""

    def open(self, image: Image, workers: int = 2) -> Session:
        """Start a session; `workers` programs run at the same time."""


# --- tasks and verification -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Instance:
    """One problem. Only `public` and `arrays` may ever leave the verifier's process."""

    id: str
    split: Split
    public: Mapping[str, Any]
    """What the agent sees, JSON."""
    arrays: Mapping[str, NDArray[Any]]
    """What the candidate program is called with, in order."""
    returns: ArraySpec
    private: Mapping[str, NDArray[Any]] = field(repr=False, default_factory=dict)


class Verifier(Protocol):
    """Scores answers of one task. Deterministic; nothing may edit it."""

    @property
    def digest(self) -> str:
        """Hash of the verifier's source and its parameters (mode, data digest excluded)."""

    @property
    def data_digest(self) -> str:
        """Hash of the data set that it reads."""

    @property
    def floor(self) -> float:
        """Reward that a null agent reaches at most; also the reward of an invalid answer."""

    @property
    def guards_block(self) -> bool:
        """Whether a broken guard refuses a generation; false where it is only reported."""

    def instances(self, split: Split, count: int, seed: int) -> tuple[Instance, ...]:
        """Return `count` instances of a split; splits share no observation."""

    def visible(self, instance: Instance) -> Instance:
        """Return the twin that an agent may score itself on: made from the public arrays alone."""

    def score(self, instance: Instance, output: NDArray[np.float64]) -> Verdict:
        """Score what a candidate program returned."""

    def baselines(self, instance: Instance) -> Mapping[str, Verdict]:
        """Return the verdicts of the task's published baselines, by name."""

    def guards(self, metrics: Mapping[str, float]) -> Mapping[str, float]:
        """Return the guard margins of mean metrics; negative means broken."""


@runtime_checkable
class BatchVerifier(Protocol):
    """A verifier that gains from being given several answers at once; the verdicts are the same."""

    def score_all(self, items: Sequence[tuple[Instance, NDArray[np.float64]]]) -> list[Verdict]:
        """Score what programs returned, in order."""

    def score_texts(self, items: Sequence[tuple[Instance, str]]) -> list[Verdict]:
        """Score texts, in order."""


class TaskTools(Protocol):
    """A task's own tools for scaffolds, answered by the host in its own process."""

    @property
    def names(self) -> Sequence[str]:
        """What a scaffold may call."""

    def call(self, name: str, instance: Instance, params: Mapping[str, Any]) -> Any:
        """Return a JSON answer. `params` are hostile; ValueError says what is wrong with them."""
