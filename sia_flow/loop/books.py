"""Where an experiment's books are, and what its models may cost: known without a key and without a call.

Invariant: the books belong to a name and a science; more arms, more seeds and a larger budget go on in the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sia_flow.canonical import digest
from sia_flow.providers.answers import Answers
from sia_flow.providers.journal import Journal
from sia_flow.providers.metering import close_open
from sia_flow.providers.prices import demand_price
from sia_flow.providers.settings import Choice, choices_of
from sia_flow.spec.language import KEYS, LanguageFields
from sia_flow.spec.models import Experiment

GROWS = {"approve", "arms", "seeds", "budget", "schedule", "track"}
TURNS, EVIDENCE = 24, 24_000
ROLES = ("meta", "feedback")


def journal_of(state: Path, experiment: Experiment) -> Journal:
    """Return the books of an experiment below the state folder of its project."""
    name = experiment.metadata.name
    science = digest([name, experiment.spec.model_dump(mode="json", exclude=GROWS)])
    return Journal(state / "spend" / name / f"{science[:16]}.jsonl")


def close_books(state: Path, experiment: Experiment, writer: str | None = None) -> None:
    """Close the calls that killed processes of an experiment left open, or those of one of them (`host:process`)."""
    journal = journal_of(state, experiment)
    if journal.entries():
        close_open(journal, Answers(state / "answers"), writer)


def role_of(experiment: Experiment, role: str) -> LanguageFields | None:
    """Return the section of a role that a language model plays, else none."""
    # The unaided agent is the Feedback-Agent's model, asked for something else.
    section: LanguageFields = getattr(experiment.spec.agents, "feedback" if role == "unaided" else role)
    return section if kind_of(section) in KEYS else None


def kind_of(section: LanguageFields) -> str:
    """Return a role's type."""
    return str(getattr(section, "type", ""))


def models_of(experiment: Experiment) -> Iterator[tuple[str, LanguageFields, tuple[Choice, ...]]]:
    """Yield the roles that language models play, with their models."""
    for role in ROLES:
        section = role_of(experiment, role)
        if section is not None:
            yield role, section, choices_of(kind_of(section), section)


def admit_models(experiment: Experiment) -> None:
    """Return if every model of a spec may be paid. Raises SpecError that asks for a price or for a budget."""
    budget = experiment.spec.budget
    cap = budget.total if budget.usd is None else budget.usd
    for _, _, choices in models_of(experiment):
        for choice in choices:
            demand_price(choice.settings.model, budget.prices, cap)
