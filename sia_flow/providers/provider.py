"""What a provider is, and which one a type names.

Invariant: a provider makes one call and tells what it was billed; it keeps no history, no budget and no answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from sia_flow.dialogue import Ask, Reply
from sia_flow.providers.faults import MissingKeyError
from sia_flow.providers.settings import ModelSettings

OVERHEAD = 1024
"""Tokens that a provider may add for tools and schemas, beyond the text that it is sent."""


class Provider(Protocol):
    """One model behind one endpoint."""

    @property
    def settings(self) -> ModelSettings:
        """The model, and how it is asked."""

    def complete(self, ask: Ask) -> Reply:
        """Make one call. Raises ProviderError or UnansweredError."""

    def count(self, ask: Ask) -> int | None:
        """Return the tokens of the prompt as the provider counts them, for free; None where it counts for nobody."""

    def close(self) -> None:
        """Drop the connections."""


def open_provider(settings: ModelSettings, environ: Mapping[str, str]) -> Provider:
    """Return the provider of a model; no call is made. Raises MissingKeyError."""
    key = environ.get(settings.api_key_env, "")
    if not key and not (settings.type == "openai" and settings.base_url):
        raise MissingKeyError(
            f"there is no key for {settings.model}: set the environment variable {settings.api_key_env}, "
            "or name another with api_key_env; without a key, use type: builtin"
        )
    if settings.type == "anthropic":
        from sia_flow.providers.anthropic import AnthropicProvider

        return AnthropicProvider(settings, key)
    from sia_flow.providers.openai import OpenAIProvider

    return OpenAIProvider(settings, key)
