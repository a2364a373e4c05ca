"""A model with every setting decided: the spec's section, with what it leaves out filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from sia_flow.canonical import Json
from sia_flow.spec.language import KEYS, LanguageFields, ModelFields

NO_DIGEST = ("api_key_env", "base_url", "cache", "stream", "timeout", "retries")
"""Where and how a model is reached: an answer is the same by any way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """One model, and how it is asked."""

    type: Literal["anthropic", "openai"]
    model: str
    api_key_env: str
    base_url: str | None = None
    temperature: float | None = None
    thinking: str | int | None = None
    effort: str | None = None
    output: str = "schema"
    cache: bool = True
    stream: bool = True
    max_tokens: int = 16_000
    timeout: float = 600.0
    """Seconds."""
    retries: int = 4
    extra: Mapping[str, Any] | None = None

    def identity(self) -> dict[str, Json]:
        """Return what an answer depends on, for its digest."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in NO_DIGEST}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a role's models."""

    settings: ModelSettings
    weight: float


def choices_of(kind: str, role: LanguageFields) -> tuple[Choice, ...]:
    """Return the models of a role whose type is a provider; a single one where it lists none."""
    if not role.models:
        return (Choice(_settings(kind, role, role), 1.0),)
    return tuple(Choice(_settings(choice.type or kind, choice, role), choice.weight) for choice in role.models)


def _settings(kind: str, own: ModelFields, role: ModelFields) -> ModelSettings:
    """Merge a choice over its role; where and by which key a model is reached is shared within one provider only."""
    given: dict[str, Any] = {}
    foreign = isinstance(own, ModelFields) and kind != getattr(role, "type", kind)
    for source in (role, own):
        for name in ModelFields.model_fields:
            value = getattr(source, name)
            if value is not None and not (foreign and source is role and name in ("api_key_env", "base_url", "model")):
                given[name] = value
    return ModelSettings(**{"type": kind, "api_key_env": KEYS[kind], **given})
