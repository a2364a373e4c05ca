"""The Experiment: what a spec file says, with every default filled.

Invariant: the models import neither numpy nor any engine, so that a spec is validated at once and anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal

from pydantic import Field, Strict, model_validator

from sia_flow.spec.actors import Agents, FeedbackAgentSpec, Lora, MetaAgentSpec, PolicySpec
from sia_flow.spec.approval import Approve
from sia_flow.spec.arms import Arm, Control
from sia_flow.spec.base import DIGEST, Issue, Label, Lever, Section, Slug, left_out, repeated, rule_error
from sia_flow.spec.language import KEYS
from sia_flow.spec.loop import (
    MINIMUM_GROUP,
    Accept,
    Algorithm,
    Budget,
    Reuse,
    Rollouts,
    Sampling,
    Search,
    Training,
    Verify,
)
from sia_flow.spec.operation import Pool, SandboxSpec, Schedule, Spread, Track

__all__ = [
    "API_VERSION",
    "Accept",
    "Agents",
    "Algorithm",
    "Approve",
    "Arm",
    "Budget",
    "Control",
    "Experiment",
    "ExperimentSpec",
    "FeedbackAgentSpec",
    "Lever",
    "Lora",
    "MetaAgentSpec",
    "Metadata",
    "PolicySpec",
    "Reuse",
    "Rollouts",
    "Sampling",
    "SandboxSpec",
    "Schedule",
    "Search",
    "Spread",
    "TaskRef",
    "Track",
    "Training",
    "Verify",
]

API_VERSION: Final = "sia-flow/v1"

Seed = Annotated[int, Field(ge=0, lt=1 << 63)]


class Metadata(Section):
    """Name and notes."""

    name: Slug
    """Name of the experiment: lower-case letters, digits and single hyphens. It names the run's folder."""
    description: str = ""
    """What the experiment is for. Changes no result."""
    labels: Mapping[str, str] = {}
    """Free key-value notes that become tags in MLflow. Change no result."""


class TaskRef(Section):
    """Which task, in which mode, on which data."""

    name: Slug
    """Name of a folder under tasks/."""
    mode: Annotated[Label, Field(examples=["guarded"])] | None = None
    """How the task is scored, where it has several ways. Not set: the task's default."""
    data: Annotated[str, Field(min_length=1, examples=["pbmc"])] | None = None
    """Data set: a name that the task knows, or a path. Not set: the task's default."""


class ExperimentSpec(Section):
    """The science of an experiment, and where it runs."""

    task: TaskRef
    """What is to be solved."""
    agents: Agents = left_out({})
    """Who improves."""
    policy: PolicySpec = left_out({})
    """What is improved: the model under the scaffold."""
    arms: Annotated[tuple[Arm, ...], Strict(strict=False), Field(min_length=1)] = left_out(("SIA-H", "SIA-W+H"))
    """Ways to improve that are compared with each other. More arms may be added later."""
    seeds: Annotated[tuple[Seed, ...], Strict(strict=False), Field(min_length=1)] = (0,)
    """Every arm runs once for each seed. More seeds may be added later."""
    rollouts: Rollouts = left_out({})
    """What the Feedback-Agent learns from."""
    verify: Verify = left_out({})
    """Sizes of the measurements."""
    training: Training = left_out({})
    """How weights are updated, in arms that may."""
    search: Search = left_out({})
    """How the next generation is found."""
    # Left out of the resolved spec where it is off, so that specs from before it was there keep their digests.
    reuse: Reuse = Field(default="none", validate_default=True, exclude_if=lambda reuse: reuse.type == "none")
    """Whether rollouts of a weight update start from earlier programs: `none`, the default, or `puct` with settings."""
    # Left out where it is not set, for the same reason.
    start: Annotated[str, Field(pattern=DIGEST, examples=["0f" * 32])] | None = Field(
        default=None, exclude_if=lambda start: start is None
    )
    """Id of a stored generation whose scaffold and adapter are generation 0, as `sia-flow fork` writes it. Not set: the
    Meta-Agent writes the first scaffold."""
    accept: Accept = left_out({})
    """When a generation is kept."""
    sandbox: SandboxSpec = left_out({})
    """Limits of candidate programs."""
    budget: Budget = left_out({})
    """When an arm ends. May be raised later."""
    approve: Approve | None = Field(default=None, exclude_if=lambda approve: approve is None)
    """Which pulls wait for a person's yes; `{}` means every pull. Not set: none. Changes no record."""
    track: Track = left_out({})
    """What goes to MLflow. Changes no result."""
    schedule: Schedule | None = None
    """When the experiment runs by itself. Changes no result."""
    # Left out of the resolved spec: what runs where is no part of what an experiment is.
    spread: Spread | None = Field(default=None, exclude=True)
    """Workers that run arms and seeds at once. Not set: one after the other. Changes no result."""
    pool: Pool | None = Field(default=None, exclude=True)
    """Where the runs of a deployment start. Not set: as processes of a worker's machine. Changes no result."""

    @model_validator(mode="after")
    def _rules(self) -> ExperimentSpec:
        issues = list(_broken(self))
        if issues:
            raise rule_error(issues)
        return self


class Experiment(Section):
    """A whole spec: version, name, content."""

    apiVersion: Literal["sia-flow/v1"] = API_VERSION  # noqa: N815 - the key that users write
    """Version of the spec format."""
    kind: Literal["Experiment"] = "Experiment"
    """What the file describes."""
    metadata: Metadata
    """Name and notes."""
    spec: ExperimentSpec
    """Content."""


def _broken(spec: ExperimentSpec) -> Iterator[Issue]:
    """Yield the rules between sections that a spec breaks, in words that say what to do."""
    # Names become folders, and some file systems do not tell case apart.
    for index in repeated(arm.name.casefold() for arm in spec.arms):
        yield Issue(("arms", index), f'the arm "{spec.arms[index].name}" stands here twice: rename or remove one')
    for index in repeated(spec.seeds):
        yield Issue(("seeds", index), f"the seed {spec.seeds[index]} stands here twice: remove one")
    yield from _without_a_model(spec)
    pulls_weights = any("weights" in arm.levers for arm in spec.arms)
    named: tuple[str, ...] = spec.training.menu or (spec.training.algorithm,)
    if spec.training.menu and spec.training.algorithm != "auto":
        yield Issue(("training", "menu"), f"algorithm: {spec.training.algorithm} is pinned: drop it, or drop menu")
    for index in repeated(named):
        yield Issue(("training", "menu", index), f"{named[index]} stands here twice: remove one")
    if spec.training.pool is not None and spec.training.pool < spec.training.instances:
        message = f"an iteration has {spec.training.instances} instances: set at least as many, or drop pool"
        yield Issue(("training", "pool"), message)
    if pulls_weights and spec.training.engine != "peft" and "ppo" in named:
        message = f"{spec.training.engine} has no critic for ppo: set peft, or another algorithm"
        yield Issue(("training", "engine"), message)
    if pulls_weights and spec.training.engine == "fsdp" and spec.policy.type == "local":
        yield Issue(("training", "engine"), "fsdp splits the base, so a server has to sample: set policy.type: openai")
    hungriest = max(named, key=MINIMUM_GROUP.__getitem__)
    least = MINIMUM_GROUP[hungriest]
    if pulls_weights and spec.training.samples < least:
        message = f"{hungriest} compares the samples of an instance: set at least {least}"
        yield Issue(("training", "samples"), message)
    if spec.accept.gate == "paired" and spec.verify.select.samples < 2:
        message = "the paired gate needs a standard error: set at least 2, or accept.gate: always"
        yield Issue(("verify", "select", "samples"), message)


def _without_a_model(spec: ExperimentSpec) -> Iterator[Issue]:
    kind = spec.agents.feedback.type
    for index, arm in enumerate(spec.arms):
        if arm.control == "unaided" and kind not in KEYS:
            message = f"an unaided agent is the model of agents.feedback, which is {kind} and has none: "
            advice = "set agents.feedback.type to anthropic or openai, or drop the arm"
            yield Issue(("arms", index), message + advice)
