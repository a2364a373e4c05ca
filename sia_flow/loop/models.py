"""The models of an experiment while it runs: its books, its stored answers, one connection for each model.

Invariant: nothing is opened before a step needs it, and nothing is asked but through the books.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

from sia_flow.loop.books import journal_of
from sia_flow.providers.answers import Answers
from sia_flow.providers.caps import Caps
from sia_flow.providers.metering import Meter
from sia_flow.providers.provider import Provider, open_provider
from sia_flow.providers.settings import ModelSettings
from sia_flow.spec.models import Experiment


class Models:
    """Opened by a lab, closed with it."""

    def __init__(self, experiment: Experiment, state: Path, warn: Callable[[str], None], *, alone: bool = True) -> None:
        """Open nothing yet; `alone` is off in one of several processes that run the experiment."""
        self._experiment = experiment
        self._state = state
        self._warn = warn
        self._alone = alone
        self._open: list[tuple[ModelSettings, Provider]] = []

    @functools.cached_property
    def meter(self) -> Meter:
        """The way to every model. What a killed run left open is settled now, unless others are at work, too."""
        journal = journal_of(self._state, self._experiment)
        caps = Caps(self._experiment.spec.budget)
        return Meter(journal, Answers(self._state / "answers"), caps, self._warn, alone=self._alone)

    def provider(self, settings: ModelSettings) -> Provider:
        """Return the provider of a model. Raises MissingKeyError."""
        for known, provider in self._open:
            if known == settings:
                return provider
        provider = open_provider(settings, os.environ)
        self._open.append((settings, provider))
        return provider

    def close(self) -> None:
        """Drop all connections."""
        for _, provider in self._open:
            provider.close()
