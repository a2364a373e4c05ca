"""Who acts in an experiment: the agents that improve, and the policy that is improved."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, Strict, field_validator, model_validator

from sia_flow.spec.base import Issue, Section, left_out, repeated, rule_error
from sia_flow.spec.language import LanguageFields, language_issues, with_model


class MetaAgentSpec(LanguageFields):
    """The agent that writes the first scaffold: the builtin one, or a language model."""

    type: Literal["builtin", "anthropic", "openai"] = "builtin"
    """Which agent: `builtin` needs no model; `anthropic` is Claude, `openai` any OpenAI-compatible endpoint."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: object) -> object:
        return with_model(value)

    @model_validator(mode="after")
    def _rules(self) -> MetaAgentSpec:
        issues = language_issues(self.type, self)
        if issues:
            raise rule_error(issues)
        return self


class FeedbackAgentSpec(LanguageFields):
    """The agent that decides which lever to pull."""

    type: Literal["builtin", "learned", "anthropic", "openai"] = "builtin"
    """Which agent: `builtin` decides by a table, `learned` by what earlier pulls gained, the others are models."""
    rows: Annotated[int, Field(ge=2, le=100_000, examples=[8])] | None = Field(
        default=None, exclude_if=lambda rows: rows is None
    )
    """Pulls of an action that `learned` must know before it overrides the table; alone it means it. Not set: 8."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: object) -> object:
        """Take `rows` alone for the agent that it is of, and a model's keys for a model."""
        if isinstance(value, dict) and "type" not in value and value.get("rows") is not None:
            return {"type": "learned", **value}
        return with_model(value)

    @model_validator(mode="after")
    def _rules(self) -> FeedbackAgentSpec:
        issues = language_issues(self.type, self)
        if self.rows is not None and self.type != "learned":
            issues.append(Issue(("rows",), f"{self.type} keeps no ledger: set type: learned, or drop rows"))
        if issues:
            raise rule_error(issues)
        return self


class Agents(Section):
    """The two agents of the loop."""

    meta: MetaAgentSpec = left_out({})
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


SERVED = ("model", "base_url", "adapters", "api_key_env", "concurrency")
"""Fields of a policy that only a server has a use for."""


class PolicySpec(Section):
    """The model under the scaffold: a base checkpoint and a LoRA adapter, sampled here or by a server."""

    type: Literal["local", "openai"] = "local"
    """Where it is sampled: `local` loads it into this process, `openai` asks an OpenAI-compatible server."""
    base: Annotated[str, Field(min_length=1)] = "tiny-gpt-oss"
    """Base model: the name of a prepared one, or the path of a Hugging Face checkpoint folder."""
    lora: Lora = left_out({})
    """Shape of the adapter."""
    max_tokens: Annotated[int, Field(ge=1, le=131_072)] = 96
    """Tokens that one completion may have at most."""
    device: Literal["cpu", "cuda"] = Field(default="cpu", exclude_if=lambda device: device == "cpu")
    """Where the weights lie that are trained, or sampled locally: in float32 on a CPU, in the base's type on a GPU."""
    model: Annotated[str, Field(min_length=1, examples=["gpt-oss-120b"])] | None = Field(
        default=None, exclude_if=lambda model: model is None
    )
    """Name under which a server has the base; alone it means `openai`. Not set: `base`."""
    # Where a server stands changes no result: these are in no dump, hence in no digest.
    base_url: Annotated[str, Field(min_length=1, examples=["http://127.0.0.1:8000/v1"])] | None = Field(
        default=None, exclude=True
    )
    """Address of a server, with its /v1; alone it means `openai`. Not set: port 8000 here. Changes no result."""
    adapters: Annotated[str, Field(min_length=1, examples=["/mnt/shared/adapters"])] | None = Field(
        default=None, exclude=True
    )
    """Folder for adapters that a server sees under the same path. Not set: the project's. Changes no result."""
    api_key_env: Annotated[str, Field(min_length=1, examples=["VLLM_API_KEY"])] | None = Field(
        default=None, exclude=True
    )
    """Environment variable that holds a server's key, where it wants one. Changes no result."""
    concurrency: Annotated[int, Field(ge=1, le=4096, examples=[64])] | None = Field(default=None, exclude=True)
    """Requests that a server has at once, at most. Not set: 64. Changes no result."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: object) -> object:
        """Take the fields of a server alone for a policy that is on one."""
        if isinstance(value, dict) and "type" not in value and any(value.get(name) is not None for name in SERVED):
            return {"type": "openai", **value}
        return value

    @field_validator("base_url")
    @classmethod
    def _address(cls, url: str | None) -> str | None:
        if url is not None and not re.match(r"^https?://[^/\s]+", url):
            raise ValueError(f'"{url}" is no address of a server; write for example http://127.0.0.1:8000/v1')
        return url

    @model_validator(mode="after")
    def _rules(self) -> PolicySpec:
        given = [name for name in SERVED if getattr(self, name) is not None]
        if self.type == "local" and given:
            message = "a local policy has no server: set type: openai, or drop it"
            raise rule_error([Issue((name,), message) for name in given])
        return self
