"""Student's t without scipy, whose import takes longer than all that a comparison computes.

The distribution function for whole degrees of freedom is Abramowitz and Stegun, 26.7.3 and 26.7.4.
"""

from __future__ import annotations

from math import atan, cos, pi, sin, sqrt, tan


def central(t: float, freedom: int) -> float:
    """Return the probability that |T| is at most `t` >= 0 with so many degrees of freedom, at least 1."""
    angle = atan(t / sqrt(freedom))
    total, term = 0.0, 1.0 if freedom % 2 == 0 else cos(angle)
    for step in range(freedom % 2, freedom - 1, 2):
        total += term
        term *= cos(angle) ** 2 * (step + 1) / (step + 2)
    if freedom % 2 == 0:
        return sin(angle) * total
    return 2 / pi * (angle + sin(angle) * total)


def quantile(level: float, freedom: int) -> float:
    """Return the t >= 0 for which |T| <= t has probability `level`, 0 <= level < 1; by halving, to the last digits."""
    low, high = 0.0, pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if central(sqrt(freedom) * tan(middle), freedom) < level else (low, middle)
    return sqrt(freedom) * tan((low + high) / 2)
