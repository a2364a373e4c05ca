"""Who acts in an experiment: the agents that improve, and the policy that is improved."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict, field_validator, model_validator

from sia_flow.spec.base import Issue, Section, left_out, repeated, rule_error


class BuiltinAgent(Section):
    """The agent that comes with sia-flow: deterministic, no network, no key."""

    type: Literal["builtin"] = "builtin"
    """Which agent: `builtin` is the deterministic one that comes with sia-flow."""


class FeedbackAgentSpec(Section):
    """The agent that decides which lever to pull; each type is deterministic, without network and key."""

    type: Literal["builtin", "learned"] = "builtin"
    """Which agent: `builtin` decides by a table, `learned` by what earlier pulls in this project gained."""
    rows: Annotated[int, Field(ge=2, le=100_000, examples=[8])] | None = Field(
        default=None, exclude_if=lambda rows: rows is None
    )
    """Pulls of an action that `learned` must know before it overrides the table; alone it means it. Not set: 8."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: object) -> object:
        """Take `rows` alone for the agent that it is of."""
        if isinstance(value, dict) and "type" not in value and value.get("rows") is not None:
            return {"type": "learned", **value}
        return value

    @model_validator(mode="after")
    def _rules(self) -> FeedbackAgentSpec:
        if self.rows is not None and self.type != "learned":
            raise rule_error([Issue(("rows",), f"{self.type} keeps no ledger: set type: learned, or drop rows")])
        return self


class Agents(Section):
    """The two agents of the loop."""

    meta: BuiltinAgent = left_out({})
    """The Meta-Agent: writes the first scaffold from the task's description."""
    feedback: FeedbackAgentSpec = left_out({})
    """The Feedback-Agent: reads a generation's evidence and decides which lever to pull."""


class Lora(Section):
    """Shape of the LoRA adapter that a weight update trains."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 8
    """Rank of the adapter's matrices."""
    alpha: Annotated[int, Field(ge=1, le=4096)] = 16
    """Scale of the adapter: its output is multiplied by alpha / rank."""
    targets: Annotated[tuple[Literal["attention", "experts"], ...], Strict(strict=False), Field(min_length=1)] = (
        "attention",
        "experts",
    )
    """Which weights get an adapter: the attention projections, the experts' matrices, or both."""

    @field_validator("targets")
    @classmethod
    def _order(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        """Sort the targets: the order in which a user lists them means nothing."""
        if repeated(targets):
            raise ValueError("names a target twice; name each once")
        return tuple(sorted(targets))


class LocalPolicySpec(Section):
    """A policy that runs on this machine: a base checkpoint and a LoRA adapter."""

    type: Literal["local"] = "local"
    """Where the policy runs: `local` loads it into this process."""
    base: Annotated[str, Field(min_length=1)] = "tiny-gpt-oss"
    """Base model: the name of a prepared one, or the path of a Hugging Face checkpoint folder."""
    lora: Lora = left_out({})
    """Shape of the adapter."""
    max_tokens: Annotated[int, Field(ge=1, le=131_072)] = 96
    """Tokens that one completion may have at most."""
