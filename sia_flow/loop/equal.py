"""Equal spend: what the dearest arm of a seed came to, and when another has spent as much.

Invariant: only arms with a budget of their own are counted, so that no control chases another; dollars count where the
policy has a price in `budget.prices`, and are left out of the target where it has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from sia_flow.dialogue import Usage
from sia_flow.lineage.records import Spend
from sia_flow.lineage.results import ArmResult
from sia_flow.providers.prices import Rate, rate_of
from sia_flow.spec.models import ExperimentSpec


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be spent at least, each for itself."""

    rollouts: int
    tokens: int
    """Sampled by the policy."""
    usd: float
    """Agents and policy together; 0 where the policy has no price."""

    def reached(self, spend: Spend, rate: Rate | None) -> bool:
        """Say whether a spend is as large in everything."""
        usd = self.usd == 0 or dollars(spend, rate) >= self.usd
        return usd and spend.rollouts >= self.rollouts and spend.completion_tokens >= self.tokens

    def as_key(self) -> Mapping[str, float | None]:
        """Return what of it stands in the key of a result."""
        return {f"dearest {name}": value for name, value in asdict(self).items() if value or name != "usd"}


def policy_rate(spec: ExperimentSpec) -> Rate | None:
    """Return the price of the policy's tokens as the spec states it, under its name on the server or its base's."""
    stated = spec.budget.prices
    name = next((name for name in (spec.policy.model, spec.policy.base) if name in stated), None)
    return rate_of(name, stated) if name is not None else None


def dollars(spend: Spend, rate: Rate | None) -> float:
    """Return what a spend costs: the agents' bill, and the policy's tokens at its price, none where that is unknown.

    Optimizer steps have no price here: a weight update counts by the tokens that it sampled.
    """
    tokens = Usage(input=spend.prompt_tokens, output=spend.completion_tokens)
    return spend.usd + (rate.usd(tokens) if rate else 0.0)


def dearest(spec: ExperimentSpec, results: Sequence[ArmResult]) -> Target:
    """Return the most that any of the results, of arms with a budget of their own, spent of each kind."""
    return dearest_spend(spec, [result.spend for result in results])


def dearest_spend(spec: ExperimentSpec, spends: Sequence[Spend]) -> Target:
    """Return the most that was spent of each kind."""
    spends = spends or [Spend()]
    rate = policy_rate(spec)
    return Target(
        rollouts=max(spend.rollouts for spend in spends),
        tokens=max(spend.completion_tokens for spend in spends),
        usd=max(dollars(spend, rate) for spend in spends) if rate else 0.0,
    )
