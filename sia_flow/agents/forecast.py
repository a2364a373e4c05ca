"""What a pull is expected to gain on select, from what was measured so far.

Invariant: a forecast is an estimate from figures in the evidence, scaled by how earlier forecasts of the same
kind came out; it is never negative.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from sia_flow.agents.evidence import Statistics
from sia_flow.agents.tuning import Known
from sia_flow.lineage.records import Generation

KNOB_SHARE = 0.1
"""A prior for before any trial: how far constants move a mean, as a share of the rewards' deviation."""


def expected_maximum(n: int) -> float:
    """Return the expected maximum of `n` standard normals, by Blom's approximation; 0 for none."""
    return statistics.NormalDist().inv_cdf((n - 0.375) / (n + 0.25)) if n > 1 else 0.0


def constants_gain(known: Known, count: int, rewards: Statistics) -> float:
    """Return what `count` more trials of constants are expected to add to the best of those there are.

    sigma (e(N + count) - e(N)), with e(n) the expected maximum of n standard normals, N the trials made on
    this policy and structure, and sigma the standard deviation of the trials' means. Trials share their
    seeds, so that is signal; before there are two, a prior.
    """
    means = [trial.mean for trial in known.trials]
    sigma = statistics.stdev(means) if len(means) > 1 else KNOB_SHARE * rewards.sd
    done = len(means) if known.own else 0
    return max(0.0, sigma * (expected_maximum(done + count) - expected_maximum(done)))


def weights_gain(rewards: Statistics) -> float:
    """Return the upper decile of the train rewards over their mean: where probability can move to."""
    return max(0.0, rewards.upper - rewards.mean)


def calibrated(raw: float, pulls: Sequence[Generation]) -> float:
    """Return `raw` scaled by how the forecasts of earlier pulls of the same kind came out.

    raw (raw + sum of gains) / (raw + sum of forecasts): one pseudo-pull that came out as forecast, then data.
    """
    forecasts = math.fsum(max(0.0, pull.decision.forecast) for pull in pulls if pull.decision)
    gains = math.fsum(max(0.0, pull.gain) for pull in pulls if pull.accepted)
    return raw * (raw + gains) / (raw + forecasts) if raw + forecasts > 0 else 0.0
