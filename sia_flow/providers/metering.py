"""The one way to a model: found among the stored answers, or reserved, asked, stored and settled, in this order.

Invariants: no call is made that might pass a cap; an answer that was stored is never paid for again; what a killed
process left open is closed before the next call, at its price if its answer is there, else at what was reserved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from sia_flow.canonical import Json, canonical_json, digest_bytes
from sia_flow.dialogue import Ask, Reply, Usage
from sia_flow.errors import BudgetSpentError, ProviderError
from sia_flow.providers.answers import Answer, Answers
from sia_flow.providers.caps import Caps
from sia_flow.providers.faults import UnansweredError
from sia_flow.providers.journal import Account, Entry, Journal
from sia_flow.providers.prices import Rate, demand_price
from sia_flow.providers.provider import OVERHEAD, Provider
from sia_flow.providers.settings import ModelSettings

MARGIN = 1.1
"""Over a provider's own count of a prompt, which it calls an estimate."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What a talk took."""

    calls: int = 0
    usd: float = 0.0
    tokens: int = 0

    def __add__(self, answer: Answer) -> Bill:
        """Return the bill with one more answer."""
        return Bill(self.calls + 1, self.usd + answer.usd, self.tokens + answer.tokens)


class Meter:
    """The books, the caps and the stored answers of one experiment."""

    def __init__(
        self, journal: Journal, answers: Answers, caps: Caps, warn: Callable[[str], None], *, alone: bool = True
    ) -> None:
        """Take the books over; `alone` is off where other processes write to them, whose open calls are their own."""
        self.journal = journal
        self.answers = answers
        self.caps = caps
        self._warn = warn
        if alone:
            close_open(journal, answers)

    def ask(self, provider: Provider, account: Account, ask: Ask, stream: Json) -> Answer:
        """Return the answer to a call; `stream` tells calls apart that are to be answered independently.

        Raises BudgetSpentError, ProviderError, UnansweredError and SpecError for a model without a price.
        """
        written = call_bytes(provider, ask, stream)
        call, bound = digest_bytes(written), len(written) + OVERHEAD
        found = self.answers.find(call)
        if found is not None:
            return found
        budget = self.caps.budget
        rate = demand_price(provider.settings.model, budget.prices, _cap(budget.usd, budget.total))
        before = self.journal.entries()
        wanted = Entry("", call, account, provider.settings.model, "open", 0.0, bound)
        entry = self._reserve(provider, ask, wanted, rate)
        reply = self._complete(provider, entry, ask)
        answer = _answer(call, entry, reply, rate)
        self.answers.put(answer.call, answer)
        self.journal.settle(entry, answer.usd, answer.tokens)
        for line in self.caps.warnings(before, self.journal.entries(), account):
            self._warn(line)
        return answer

    def _reserve(self, provider: Provider, ask: Ask, call: Entry, rate: Rate | None) -> Entry:
        """Reserve the most that a call may take, its prompt being of `call.tokens` at most.

        That bound costs nothing; where it does not fit, the provider counts.
        """
        wanted = _worst(provider.settings, call, rate)
        try:
            return self._admit(wanted)
        except BudgetSpentError:
            counted = provider.count(ask)
            if counted is None:
                raise
        closer = replace(call, tokens=min(call.tokens, round(counted * MARGIN) + OVERHEAD))
        return self._admit(_worst(provider.settings, closer, rate))

    def _admit(self, wanted: Entry) -> Entry:
        """Reserve a call where it fits; nobody else can reserve between the look and the line."""
        with self.journal.exclusive():
            self.caps.admit(self.journal.entries(), wanted)
            return self.journal.reserve(wanted)

    def _complete(self, provider: Provider, entry: Entry, ask: Ask) -> Reply:
        try:
            return provider.complete(ask)
        except UnansweredError as error:
            if error.billed:
                self.journal.lose(entry)
            else:
                self.journal.release(entry)
            raise
        except ProviderError:
            self.journal.release(entry)
            raise


def close_open(journal: Journal, answers: Answers, writer: str | None = None) -> None:
    """Close the calls that killed processes left open, or the one that was `writer` (`host:process`)."""
    for entry in journal.open_entries():
        if writer not in (None, entry.writer):
            continue
        answer = answers.find(entry.call)
        if answer is None:
            journal.lose(entry)
        else:
            journal.settle(entry, answer.usd, answer.tokens)


class MeteredTalker:
    """A model as an agent sees it: one provider, one account, one stream of calls."""

    def __init__(
        self,
        meter: Meter,
        provider: Provider,
        account: Account,
        stream: Json,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self.bill = Bill()
        self._before = before
        self._meter = meter
        self._provider = provider
        self._account = account
        self._stream = stream

    @property
    def model(self) -> str:
        """Its name, for reports."""
        return self._provider.settings.model

    def ask(self, ask: Ask) -> Reply:
        """Return the model's answer, paid for once. Raises as `Meter.ask`, and what `before` raises."""
        self._before()
        answer = self._meter.ask(self._provider, self._account, ask, self._stream)
        self.bill += answer
        return answer.reply


def _worst(settings: ModelSettings, call: Entry, rate: Rate | None) -> Entry:
    """Return a call with the most that it may take, from one that has the bound of its prompt."""
    # What is not streamed may be billed by every try of the SDK that got no answer in time.
    tries = 1 if settings.stream else settings.retries + 1
    usd = rate.bound(call.tokens, settings.max_tokens) * tries if rate else 0.0
    return replace(call, usd=usd, tokens=(call.tokens + settings.max_tokens) * tries, priced=rate is not None)


def call_bytes(provider: Provider, ask: Ask, stream: Json) -> bytes:
    """Return what names a call: the model with its settings, all that it is told, and the stream.

    No token is shorter than a byte, so that its length bounds the prompt's tokens, but for what a provider adds.
    """
    content: Mapping[str, Json] = {
        "call": "sia-flow/call@1",
        "model": provider.settings.identity(),
        "ask": ask.model_dump(mode="json"),
        "stream": stream,
    }
    return canonical_json(content)


def _answer(call: str, entry: Entry, reply: Reply, rate: Rate | None) -> Answer:
    """Price an answer; an endpoint that reports no usage is billed what was reserved."""
    usage: Usage = reply.usage
    usd = entry.usd if not usage.reported else rate.usd(usage) if rate else 0.0
    tokens = usage.total if usage.reported else entry.tokens
    return Answer(call=call, model=entry.model, reply=reply, usd=round(usd, 9), tokens=tokens, priced=rate is not None)


def _cap(usd: float | str | None, total: float | str | None) -> float | str | None:
    """Return what the budget says of money as a whole: a total is an amount, whatever an arm may use."""
    return total if isinstance(total, float) and usd is None else usd
