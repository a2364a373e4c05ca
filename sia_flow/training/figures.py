"""What a pull tells of an iteration: plain numbers by name, the same names in each, no seconds.

Invariant: what a batch says is of the policy that sampled it, before it was trained on it.
"""

from __future__ import annotations

import torch

from sia_flow.training.algorithms import Algorithm
from sia_flow.training.batch import Batch
from sia_flow.training.credit import Credited, dead_groups
from sia_flow.training.forward import Measured

_OF_A_STEP = ("loss", "grad_norm", "clip_fraction", "ess", "updates")
_OF_A_CRITIC = ("value_loss", "explained_variance")


def of_batch(batch: Batch, measured: Measured) -> dict[str, float]:
    """Return rewards, validity, divergence and sizes of a batch."""
    return {
        "reward_mean": float(batch.rewards.mean()),
        "reward_max": float(batch.rewards.max()),
        "valid_rate": batch.valid_rate,
        "kl_base": measured.kl,
        "entropy": measured.entropy,
        "dead_groups": float(dead_groups(batch)),
        "groups": float(len(torch.unique(batch.groups))),
        "tokens": float(len(batch.old)),
        "sampler_gap": float((measured.logprobs - batch.old).abs().max()),
    }


def of_credit(credited: Credited) -> dict[str, float]:
    """Return how many episodes count, and how much of the returns the critic knew before."""
    found = {"ess": credited.ess}
    return found if credited.target is None else {**found, "explained_variance": credited.target.explained}


def of_no_step(algorithm: Algorithm) -> dict[str, float]:
    """Return what stands for a step where there was none."""
    return dict.fromkeys(_OF_A_STEP if algorithm.critic is None else (*_OF_A_STEP, *_OF_A_CRITIC), 0.0)
