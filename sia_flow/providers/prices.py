"""What models cost: a dated table, and what a spec says instead.

Invariant: a model without a price is never free; it has to be given one, or the spec must lift the cap on dollars.
Source: the public price pages of Anthropic as of `AS_OF`; US dollars a million tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sia_flow.dialogue import Usage
from sia_flow.errors import SpecError
from sia_flow.spec.language import Price

AS_OF = "2026-11-22"
MILLION = 1_000_000
WRITE = 1.25
"""A cache write of five minutes, as a multiple of the price of input."""


@dataclass(frozen=True, slots=True)
class Rate:
    """US dollars a million tokens; None where nobody knows."""

    input: float
    output: float
    cache_read: float
    cache_write: float

    def usd(self, usage: Usage) -> float:
        """Return what a call cost."""
        parts = (
            usage.input * self.input,
            usage.output * self.output,
            usage.cache_read * self.cache_read,
            usage.cache_write * self.cache_write,
        )
        return sum(parts) / MILLION

    def bound(self, prompt: int, answer: int) -> float:
        """Return what a call of at most so many tokens may cost, whatever of it is cached."""
        return (prompt * max(self.input, self.cache_read, self.cache_write) + answer * self.output) / MILLION


def _rate(input_: float, output: float, cache_read: float | None = None) -> Rate:
    return Rate(input_, output, input_ / 10 if cache_read is None else cache_read, input_ * WRITE)


TABLE: Mapping[str, Rate] = {
    "claude-fable-5-2": _rate(8.0, 40.0),
    "claude-opus-5-5": _rate(4.0, 20.0),
    "claude-sonnet-5-5": _rate(2.0, 10.0, 0.10),
    "claude-haiku-5-5": _rate(0.10, 0.50),
    "claude-sonnet-4-6": _rate(3.0, 15.0),
}


def rate_of(model: str, stated: Mapping[str, Price]) -> Rate | None:
    """Return a model's rate, the spec's before the table's; None where nobody knows it."""
    price = stated.get(model)
    if price is None:
        return TABLE.get(model)
    read = price.input if price.cache_read is None else price.cache_read
    write = price.input * WRITE if price.cache_write is None else price.cache_write
    return Rate(price.input, price.output, read, write)


def demand_price(model: str, stated: Mapping[str, Price], usd: float | str | None) -> Rate | None:
    """Return a model's rate; None only where dollars have no cap.

    Raises SpecError for a model without a price under a cap, and for one that costs where nothing may cost.
    """
    rate = rate_of(model, stated)
    if rate is None and usd != "unlimited":
        raise SpecError(
            f"spec.budget.prices: the price of {model} is not known (table of {AS_OF}): "
            f"write budget: {{prices: {{{model}: {{input: ..., output: ...}}}}}} in dollars a million tokens "
            "(0 for a model of your own), or set budget.usd: unlimited"
        )
    if rate is not None and usd in (None, 0, 0.0) and rate.bound(MILLION, MILLION) > 0:
        raise SpecError(
            f"spec.budget.usd: {model} costs ${rate.input:g} and ${rate.output:g} a million tokens, and nothing may "
            "cost money: set budget.usd to an amount such as $5, or to unlimited"
        )
    return rate
