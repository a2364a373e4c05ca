"""When a pull must not go on, and which of its adapters is the best so far.

Invariant: a verdict on an adapter rests on what was measured with that adapter, before it was trained
further.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

HEALTHY_VALID = 0.5
COLLAPSED_VALID = 0.2

Steps = Sequence[Mapping[str, float]]


def breach(steps: Steps, max_kl: float) -> str | None:
    """Return why the newest of `steps` forbids going on, in words, or None."""
    newest = steps[-1]
    if newest["kl_base"] > max_kl:
        return (
            f"KL to the base reached {newest['kl_base']:.2f} nats per call, over max_kl {max_kl:g}; "
            "lower the learning rate or raise kl"
        )
    peak = max(step["valid_rate"] for step in steps)
    if newest["valid_rate"] < COLLAPSED_VALID and peak > HEALTHY_VALID:
        return (
            f"the share of valid answers fell to {newest['valid_rate']:.2f} from {peak:.2f}; "
            "lower the learning rate or raise kl"
        )
    return None


def breaches(steps: Steps, max_kl: float) -> list[int]:
    """Return the iterations after which the pull did not go on from where it was."""
    return [k for k in range(len(steps)) if breach(steps[: k + 1], max_kl) is not None]


def best_step(steps: Steps, max_kl: float) -> int:
    """Return the iteration, of those within the guards, whose sampling policy had the highest mean reward.

    The earliest of equals; the start, 0, where there is none.
    """
    within = set(range(len(steps))).difference(breaches(steps, max_kl))
    return max(within, key=lambda k: (steps[k]["reward_mean"], -k), default=0)
