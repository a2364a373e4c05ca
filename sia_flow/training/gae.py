"""Generalised advantage estimation over a flat stream of tokens.

Invariant: nothing flows from one episode into another; tokens that were not sampled do not exist, so that what
a tool said between two turns costs no discount.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]
_Sweep = Callable[[Floats, Floats, Marks, float, float, Floats], None]


class Credit(NamedTuple):
    """What N tokens earned."""

    advantages: Floats
    """[N]"""
    returns: Floats
    """[N] what a critic should have said: advantages + values."""


def gae(rewards: Floats, values: Floats, last: Marks, gamma: float = 1.0, lam: float = 0.95) -> Credit:
    """Return the credit of N tokens in the order in which they were sampled (arXiv 1506.02438, eq. 16).

    Advantage of a token: the sum over its episode's later tokens l of (gamma lam)^l delta_l with delta = reward
    + gamma x next value - value; after an episode's `last` token the value is 0. All of shape [N].
    """
    advantages = np.empty_like(rewards)
    _compiled()(rewards, values, last, gamma, lam, advantages)
    return Credit(advantages, advantages + values)


def _sweep(rewards: Floats, values: Floats, last: Marks, gamma: float, lam: float, out: Floats) -> None:
    following, carried = 0.0, 0.0
    for t in range(len(rewards) - 1, -1, -1):
        if last[t]:
            following, carried = 0.0, 0.0
        carried = rewards[t] + gamma * following - values[t] + gamma * lam * carried
        following = values[t]
        out[t] = carried


@functools.cache
def _compiled() -> _Sweep:
    """Compile on first use: an import costs half a second, and only one algorithm needs it."""
    from numba import njit

    return cast("_Sweep", njit(cache=True)(_sweep))
