"""Language models as agents: which model, with which features, where, and by which key.

Invariant: a spec holds the name of the variable that has the key, never a key; a feature that is not set is not sent,
for models refuse what they do not know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, field_validator

from sia_flow.spec.base import Issue, Section
from sia_flow.spec.units import Duration, Money

Provider = Literal["anthropic", "openai"]
Thinking = Annotated[int, Field(ge=1024, le=1_000_000)]
DEFAULT_MODEL = "claude-sonnet-5-5"
KEYS: Mapping[str, str] = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}
"""Where a provider's key is looked for unless the spec says otherwise."""

NAMELESS = "name the model, as the endpoint spells it"
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,99}")
_ADDRESS = re.compile(r"https?://[^/\s]+")


def unset(*, examples: list[Any], **bounds: Any) -> Any:
    """Return a field that is left out of the resolved spec while it is not set, so that old digests stay."""
    return Field(default=None, exclude_if=lambda value: value is None, examples=examples, **bounds)


def place(*, examples: list[Any], **bounds: Any) -> Any:
    """Return a field that says where or how a model is reached, which changes no result: it is in no digest."""
    return Field(default=None, exclude=True, examples=examples, **bounds)


class ModelFields(Section):
    """One model and how it is asked."""

    model: Annotated[str, Field(min_length=1)] | None = unset(examples=[DEFAULT_MODEL])
    """Model id, as the provider spells it. Not set: the current Sonnet; other providers need one."""
    api_key_env: str | None = place(examples=["ANTHROPIC_API_KEY"])
    """Environment variable that holds the key. Not set: the provider's usual one. Changes no result."""
    base_url: str | None = place(examples=["http://127.0.0.1:8000/v1"])
    """Address of the endpoint: a gateway, vLLM, SGLang. Not set: the provider's own. Changes no result."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = unset(examples=[0.7])
    """Sampling temperature. Not set: not sent; current Claude models refuse it."""
    thinking: Literal["adaptive", "disabled"] | Thinking | None = unset(examples=["adaptive"])
    """Extended thinking: `adaptive`, `disabled`, or a budget in tokens. Not set: not sent, the model's own way."""
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = unset(examples=["high"])
    """How hard the model should try. Not set: not sent."""
    output: Literal["schema", "text"] | None = unset(examples=["text"])
    """How answers are held to their schema: by the provider (`schema`, the default), or by words in the prompt."""
    cache: bool | None = place(examples=["false"])
    """Whether the provider is asked to cache the static parts of prompts. Not set: yes, where it can."""
    stream: bool | None = place(examples=["false"])
    """Whether answers come as a stream. Not set: yes."""
    max_tokens: Annotated[int, Field(ge=256, le=1_000_000)] | None = unset(examples=[16_000])
    """Tokens that one answer may have, thinking included. Not set: 16000."""
    timeout: Duration | None = place(examples=["10m"])
    """How long one call may take. Not set: 10m."""
    retries: Annotated[int, Field(ge=0, le=20)] | None = place(examples=[4])
    """How often the SDK tries again when the provider is busy or away. Not set: 4."""
    extra: Mapping[str, Any] | None = unset(examples=["{top_k: 20}"])
    """Further keys of the request body, for what only this endpoint knows."""

    @field_validator("api_key_env")
    @classmethod
    def _name(cls, name: str | None) -> str | None:
        """Refuse what looks like a key itself, without repeating it."""
        if name is not None and not _VARIABLE.fullmatch(name):
            raise ValueError("is no name of an environment variable such as ANTHROPIC_API_KEY; never put a key here")
        return name

    @field_validator("base_url")
    @classmethod
    def _address(cls, url: str | None) -> str | None:
        if url is not None and not _ADDRESS.match(url):
            raise ValueError("is no address of a server; write for example http://127.0.0.1:8000/v1")
        return url


class ModelChoice(ModelFields):
    """One of several models of a role; what is not set here is as the role says."""

    type: Provider | None = unset(examples=["anthropic"])
    """The provider. Not set: as the role."""
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """How often this model is chosen, against the others."""


Choices = Annotated[tuple[ModelChoice, ...], Strict(strict=False), Field(min_length=1)]


class LanguageFields(ModelFields):
    """A role that a language model may play."""

    models: Choices | None = unset(examples=["[{model: claude-sonnet-5-5, weight: 3}, {model: claude-opus-5-5}]"])
    """Several models, one of which is drawn for each task. Not set: the one that `model` names."""
    thrift: Annotated[float, Field(ge=0, le=4)] | None = unset(examples=[1])
    """0 draws by weight alone; above, weights are multiplied by a model's record and divided by price to this power."""
    turns: Annotated[int, Field(ge=1, le=200)] | None = unset(examples=[24])
    """Calls that one task may take, tools included. Not set: 24."""
    evidence: Annotated[int, Field(ge=1000, le=900_000)] | None = unset(examples=[24_000])
    """Tokens of evidence that are put before the Feedback-Agent; the rest is reached by tools. Not set: 24000."""


def with_model(value: object) -> object:
    """Take the keys of a model alone for Claude, one choice for a list, and fill in Claude's model.

    For the validators of the roles.
    """
    if not isinstance(value, dict):
        return value
    if "type" not in value and any(value.get(name) is not None for name in LanguageFields.model_fields):
        value = {"type": "anthropic", **value}
    if isinstance(value.get("models"), dict):
        value = {**value, "models": [value["models"]]}
    unnamed = value.get("type") == "anthropic" and value.get("model") is None
    return {**value, "model": DEFAULT_MODEL} if unnamed else value


def language_issues(kind: str, role: LanguageFields) -> list[Issue]:
    """Return what is wrong between a role's type and its keys."""
    given = [name for name in LanguageFields.model_fields if getattr(role, name) is not None]
    if kind not in KEYS:
        return [Issue((name,), f"{kind} asks no model: set type: anthropic or openai, or drop it") for name in given]
    if not role.models and role.model is None:
        return [Issue(("model",), NAMELESS)]
    choices = enumerate(role.models or ())
    nameless = [i for i, c in choices if c.model is None and (role.model is None or c.type not in (None, kind))]
    return [Issue(("models", i, "model"), NAMELESS) for i in nameless]


class Price(Section):
    """What a model costs, in US dollars a million tokens."""

    input: Annotated[float, Field(ge=0, examples=[2.0])]
    """Prompt tokens."""
    output: Annotated[float, Field(ge=0, examples=[10.0])]
    """Sampled tokens, thinking included."""
    cache_read: Annotated[float, Field(ge=0)] | None = None
    """Prompt tokens from the cache. Not set: as `input`."""
    cache_write: Annotated[float, Field(ge=0)] | None = None
    """Prompt tokens written to the cache. Not set: 1.25 times `input`."""


class RoleBudget(Section):
    """What one role may use, for each arm and seed."""

    usd: Money | None = None
    """US dollars: an amount, or `unlimited`. Not set: only the whole budget holds."""
    tokens: Annotated[int, Field(ge=1, examples=[2_000_000])] | None = None
    """Tokens of its models, prompt and answer."""
