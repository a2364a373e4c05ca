"""The loop's own settings: how much is sampled, how weights are trained, what is accepted, when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, Strict, model_validator
from pydantic_core import CoreSchema

from sia_flow.spec.base import Count, Issue, Section, left_out, rule_error
from sia_flow.spec.language import Price, RoleBudget
from sia_flow.spec.units import Duration, Money

Algorithm = Literal["auto", "ppo", "grpo", "entropic", "entropic_ess", "reinforce_kl", "dpo", "best_of_n_bc"]
Named = Literal["ppo", "grpo", "entropic", "entropic_ess", "reinforce_kl", "dpo", "best_of_n_bc"]
Menu = Annotated[tuple[Named, ...], Strict(strict=False), Field(min_length=1, examples=[["grpo", "entropic"]])]

MINIMUM_GROUP: Mapping[str, int] = {
    "auto": 3,
    "ppo": 1,
    "grpo": 2,
    "entropic": 3,
    "entropic_ess": 3,
    "reinforce_kl": 1,
    "dpo": 2,
    "best_of_n_bc": 2,
}
"""Samples of one instance that each algorithm needs, since it compares them; `auto` may choose any."""


class Rollouts(Section):
    """What the Feedback-Agent learns from: rollouts on the train split."""

    instances: Count = 4
    """Instances of the train split in each generation."""
    samples: Count = 32
    """Rollouts for each instance."""
    workers: Annotated[int, Field(ge=1, le=1024)] = 2
    """Candidate programs that run at the same time."""
    batch: Annotated[int, Field(ge=1, le=100_000, examples=[32])] | None = Field(
        default=None, exclude_if=lambda batch: batch is None
    )
    """Rollouts that go through the policy together, and that another worker may take (`spread`). Another number gives
    other last bits of a local policy's log-probabilities, so it is part of what an experiment is. Not set: 128, and all
    of an iteration of a weight update."""


class Sampling(Section):
    """Size of a measurement: instances times samples."""

    instances: Count = 4
    """Instances of the split."""
    samples: Count = 32
    """Rollouts for each instance."""


class Verify(Section):
    """How large the measurements are that decide and that are reported."""

    select: Sampling = left_out({})
    """The split that decides what is kept."""
    sealed: Sampling = left_out({})
    """The split that is read once, when an arm is done."""


class Training(Section):
    """A weight update: an inner on-policy loop of sampling, verifying and updating the adapter."""

    algorithm: Algorithm = "auto"
    """Which algorithm; `auto` lets the Feedback-Agent choose by the rewards that it saw."""
    menu: Menu | None = Field(default=None, exclude_if=lambda menu: menu is None)
    """Algorithms that `auto` chooses from. Not set: all."""
    # Left out of the resolved spec where it is the default, so that records from before it was there keep their keys.
    engine: Literal["peft", "trl", "fsdp"] = Field(default="peft", exclude_if=lambda engine: engine == "peft")
    """What takes the optimizer steps: our own loop, TRL's losses, or our loop in several processes; `ppo` by `peft`."""
    iterations: Count = 40
    """Iterations of sample, verify, update in one pull of the weights lever."""
    instances: Count = 4
    """Instances of the train split in each iteration."""
    pool: Count | None = Field(default=None, exclude_if=lambda pool: pool is None, examples=[4096])
    """Instances of train that the iterations take turns on. Not set: all iterations have the same instances."""
    samples: Count = 16
    """Rollouts for each instance in each iteration: the group that advantages are computed in."""
    learning_rate: Annotated[float, Field(gt=0, le=1, examples=[0.001])] | None = None
    """Learning rate of AdamW. Not set: the algorithm's own, fit for the tiny model; billions take a thirtieth."""
    schedule: Literal["constant", "linear"] = "constant"
    """How the learning rate goes over a pull's iterations: not at all, or in a line down to a tenth."""
    kl: Annotated[float, Field(ge=0, le=10, examples=[0.02])] | None = None
    """Weight of the KL penalty to the base model. Not set: the algorithm's own."""
    epochs: Annotated[int, Field(ge=1, le=100, examples=[2])] | None = None
    """Passes over each iteration's rollouts. Not set: the algorithm's own."""
    scale: Literal["group", "batch", "none"] = "group"
    """What GRPO divides centred rewards by: the deviation of the `group`, of the `batch`, or nothing (`none`)."""
    clip: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Clip range of the probability ratio, each side of 1."""
    grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Norm to which the gradient is clipped."""
    max_kl: Annotated[float, Field(gt=0)] = 20.0
    """KL to the base, in nats per sequence, at which the update stops and keeps its last good adapter."""
    backtracks: Annotated[int, Field(ge=0, le=10, examples=[3])] = Field(default=0, exclude_if=lambda times: times == 0)
    """Times that an update, where it would stop for KL or collapse, goes on from its best adapter at half the rate."""


class Search(Section):
    """How the next generation's parent and its edits are found."""

    parent: Literal["incumbent", "chain"] = "incumbent"
    """What the next generation is made from: the best accepted one (`incumbent`) or the last (`chain`)."""
    trials: Annotated[int, Field(ge=1, le=1000)] = 6
    """Alternative edits that one pull of the harness lever tries on the train split."""
    interleave: Annotated[int, Field(ge=1, le=1000, examples=[2])] | None = Field(
        default=None, exclude_if=lambda every: every is None
    )
    """Every so many harness pulls without a weight update, one follows the edit in the same generation, in arms that
    may. Not set: as the Feedback-Agent decides."""


class Reuse(Section):
    """Whether rollouts of a weight update start from earlier programs. A type alone stands for a whole section."""

    type: Literal["none", "puct"] = "puct"
    """How start states are chosen: `puct` weighs what came of a program against how often it was tried."""
    c: Annotated[float, Field(ge=0, le=1000)] = 1.0
    """Weight of trying what was tried less, in units of the reward."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Part of each iteration's groups that start from an earlier program."""
    size: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Programs that are kept to start from, the best ones."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: object) -> object:
        """Turn a type alone into a section."""
        return {"type": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Accept a type alone wherever the section may stand."""
        return {"anyOf": [{"enum": ["none", "puct"], "description": "The type alone."}, handler(core_schema)]}


class Accept(Section):
    """When a generation becomes the incumbent."""

    gate: Literal["paired", "always"] = "paired"
    """`paired` asks for a select gain beyond `k` standard errors; `always` takes every generation."""
    k: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Standard errors that the paired gain must exceed."""
    # Left out of the resolved spec where it is off, so that specs from before it was there keep their digests.
    more: Annotated[int, Field(ge=0, le=20, examples=[2])] = Field(default=0, exclude_if=lambda more: more == 0)
    """Times that a gain above zero within `k` standard errors buys as many select rollouts again, of both sides."""

    @model_validator(mode="after")
    def _rules(self) -> Accept:
        if self.gate == "always" and self.more:
            raise rule_error([Issue(("more",), "gate: always decides by no gain: drop more, or set gate: paired")])
        return self


class Budget(Section):
    """When an arm ends, for each arm and seed. What is not set has no limit, except money."""

    generations: Annotated[int, Field(ge=1, le=10_000)] = 6
    """Generations after the first, that is pulls of a lever, at most."""
    wall: Duration | None = None
    """Wall time, in seconds or with a unit."""
    rollouts: Annotated[Count, Field(examples=[20_000])] | None = None
    """Rollouts, training included."""
    tokens: Annotated[int, Field(ge=1, examples=[5_000_000])] | None = None
    """Prompt and completion tokens of the policy."""
    usd: Money | None = None
    """US dollars that paid providers may cost: an amount, or `unlimited`. Not set: nothing may cost money."""
    total: Money | None = Field(default=None, exclude_if=lambda usd: usd is None)
    """US dollars that the whole experiment may cost, all arms and seeds together. Not set: each has its `usd`."""
    roles: Mapping[Literal["meta", "feedback", "unaided"], RoleBudget] = Field(
        default={}, exclude_if=lambda roles: not roles, examples=["{feedback: {usd: $2}}"]
    )
    """Caps of single roles, inside the others."""
    gpu: Duration | None = Field(default=None, exclude_if=lambda seconds: seconds is None)
    """GPU time: seconds of rollouts and weight updates, times the GPUs that they ran on."""
    prices: Mapping[str, Price] = Field(
        default={}, exclude=True, examples=["{claude-sonnet-5-5: {input: 2, output: 10}}"]
    )
    """Prices of models that the table lacks, or has wrong, in US dollars a million tokens."""
