"""Ledger rows whose true gains are known: a synthetic project with three actions."""

import numpy as np

from sia_flow.canonical import digest
from sia_flow.lineage.ledger import LedgerRow
from sia_flow.lineage.records import Draw, Spend

ACTIONS = ("harness-constants", "harness-structure", "weights-grpo")
TABLE_CHANCE = 0.6


def features(random):
    """What a decision saw: rewards of deviation 0.05 whose skew and valid share differ."""
    return {
        "sd": 0.05,
        "mean": 0.1,
        "upper": 0.1 + 0.05 * random.uniform(0.5, 2.0),
        "skew": random.uniform(-1.0, 2.0),
        "valid": random.uniform(0.4, 1.0),
        "dead": random.uniform(0.0, 0.5),
        "spread": 0.04,
        "harness_stalled": float(random.random() < 0.5),
        "weights_stalled": 0.0,
        "harness_banked": 0.0,
        "weights_banked": 0.0,
        "refused_in_a_row": 0.0,
        "select_noise": 0.01,
    }


def truth(action, seen):
    """The expected gain: weights pay where rewards are skewed, structure where answers fail."""
    if action == "weights-grpo":
        return 0.05 * (0.1 + 0.5 * seen["skew"])
    if action == "harness-structure":
        return 0.05 * (0.8 * (1.0 - seen["valid"]))
    return 0.05 * 0.1


def table(seen):
    """A policy that is right on average only."""
    return "weights-grpo" if seen["harness_stalled"] else "harness-constants"


def row(action, gain, seen, *, draw=None, gain_se=0.01, number=0, **changes):
    fields = {
        "generation": digest([action, gain, number]),
        "experiment": "one",
        "arm": "SIA-W+H",
        "task": "task",
        "seed": number,
        "index": 1,
        "features": seen,
        "lever": action.partition("-")[0],
        "action": action,
        "edits": (),
        "algorithm": "grpo" if action.startswith("weights") else None,
        "forecast": 0.0,
        "gain": gain,
        "gain_se": gain_se,
        "accepted": gain > gain_se,
        "spend": Spend(rollouts=10, prompt_tokens=5, completion_tokens=7, verifications=3),
        "draw": draw,
    }
    return LedgerRow(**{**fields, **changes})


def logged(count, seed):
    """Rows of a policy that follows the table mostly and else draws evenly."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        seen = features(random)
        advice = table(seen)
        chances = {name: (1 - TABLE_CHANCE) / 3 + TABLE_CHANCE * (name == advice) for name in ACTIONS}
        action = ACTIONS[random.choice(3, p=[chances[name] for name in ACTIONS])]
        gain = truth(action, seen) + random.normal(0, 0.01)
        rows.append(row(action, gain, seen, draw=Draw(table=advice, chances=chances), number=number))
    return rows


def worth(policy, seed=99, count=2000):
    """The true mean gain, in deviations of the rewards, of a policy: features in, chances out."""
    random = np.random.default_rng(seed)
    seen = [features(random) for _ in range(count)]
    return np.mean([sum(p * truth(name, s) / s["sd"] for name, p in policy(s).items()) for s in seen])
