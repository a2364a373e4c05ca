"""The caps of a budget, and whether one more call fits under them.

Invariant: a call is admitted only if, at the most that it may cost, no cap is passed; what the arms of a seed share
counts against each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sia_flow.errors import BudgetSpentError
from sia_flow.providers.journal import Account, Entry, totals
from sia_flow.spec.loop import Budget

SOFT = (0.5, 0.8)
"""Shares of a cap at which a warning is given."""


class Use(NamedTuple):
    """How much of a cap is used."""

    name: str
    """The key of the spec that sets it."""
    unit: str
    used: float
    cap: float


@dataclass(frozen=True, slots=True)
class Caps:
    """What a budget allows for models."""

    budget: Budget

    def admit(self, entries: Sequence[Entry], call: Entry) -> None:
        """Return if a call fits. Raises BudgetSpentError that names the cap which it might pass."""
        for use in self.uses([*entries, call], call.account):
            if use.used > use.cap:
                amount = f"${call.usd:.4f}" if use.unit == "usd" else f"{call.tokens} tokens"
                before = use.used - (call.usd if use.unit == "usd" else call.tokens)
                raise BudgetSpentError(
                    use.name,
                    f"spec.{use.name}: the next call of {call.model} may take {amount}, and {_shown(use.unit, before)} "
                    f"of {_shown(use.unit, use.cap)} are used; raise the cap to go on from here",
                )

    def uses(self, entries: Sequence[Entry], account: Account) -> Iterator[Use]:
        """Yield every cap that an account is under, with what is used of it."""
        budget = self.budget
        for arm in _arms(entries, account):
            own = [e for e in entries if e.account.seed == account.seed and e.account.arm in (arm, None)]
            role = [e for e in own if e.account.role == account.role]
            usd, _ = totals(own)
            if isinstance(budget.usd, float):
                yield Use("budget.usd", "usd", usd, budget.usd)
            limits = budget.roles.get(account.role)  # type: ignore[call-overload]  # a role of the loop, or none
            if limits is not None:
                usd, tokens = totals(role)
                if isinstance(limits.usd, float):
                    yield Use(f"budget.roles.{account.role}.usd", "usd", usd, limits.usd)
                if limits.tokens is not None:
                    yield Use(f"budget.roles.{account.role}.tokens", "tokens", tokens, limits.tokens)
        if isinstance(budget.total, float):
            yield Use("budget.total", "usd", totals(entries)[0], budget.total)

    def warnings(self, before: Sequence[Entry], after: Sequence[Entry], account: Account) -> Iterator[str]:
        """Yield a line for each cap whose use has passed a soft limit between two readings of the books."""
        earlier = {use.name: use.used for use in self.uses(before, account)}
        for use in self.uses(after, account):
            for share in reversed(SOFT):
                if earlier.get(use.name, 0.0) < share * use.cap <= use.used:
                    used, cap = _shown(use.unit, use.used), _shown(use.unit, use.cap)
                    yield f"{share:.0%} of spec.{use.name} is used: {used} of {cap}"
                    break


def _arms(entries: Sequence[Entry], account: Account) -> list[str | None]:
    """Return the arms that a call counts against: its own, or all those of the seed where it is shared."""
    if account.arm is not None:
        return [account.arm]
    found = {e.account.arm for e in entries if e.account.seed == account.seed and e.account.arm is not None}
    return [*sorted(found)] or [None]


def _shown(unit: str, amount: float) -> str:
    return f"${amount:.4f}" if unit == "usd" else f"{amount:,.0f} tokens"
