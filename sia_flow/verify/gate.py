"""What a set of verdicts says: the summary of one split, and whether a new generation is better than the
incumbent.

Invariant: instances are blocks. Rollouts are independent draws within an instance, so every standard error
is made of variances within instances, never of differences between them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean, variance

from sia_flow.lineage.records import Score, Split, Verdict


def summarize(split: Split, instances: Sequence[str], verdicts: Mapping[str, Sequence[Verdict]]) -> Score:
    """Return the score of a split: rewards of all rollouts, metrics of the valid ones.

    The standard error is that of a stratified mean, sqrt(sum n_i s_i^2) / n with s_i the standard deviation
    within instance i.
    """
    rewards = {i: tuple(v.reward for v in verdicts[i]) for i in instances if verdicts.get(i)}
    found = [v for i in rewards for v in verdicts[i]]
    if not found:
        return Score(split=split, n=0, mean=0.0, se=0.0, best=0.0, valid=0.0)
    spread = sum(len(group) * variance(group) for group in rewards.values() if len(group) > 1)
    valid = [v for v in found if v.valid]
    return Score(
        split=split,
        n=len(found),
        mean=fmean(v.reward for v in found),
        se=math.sqrt(spread) / len(found),
        best=max(v.reward for v in found),
        valid=len(valid) / len(found),
        metrics=mean_metrics(valid),
        rewards=rewards,
        reasons=dict(sorted(Counter(v.reason for v in found).items())),
    )


def mean_metrics(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Return the mean of every metric over the verdicts that have it."""
    names = sorted({name for v in verdicts for name in v.metrics})
    return {name: fmean(v.metrics[name] for v in verdicts if name in v.metrics) for name in names}


def paired_gain(new: Score, old: Score) -> tuple[float, float]:
    """Return the mean difference of rewards over the instances that both scores have, and its standard error.

    With m instances, gain = mean_i(new_i - old_i) and se^2 = sum_i(s_new,i^2 / n_i + s_old,i^2 / k_i) /
    m^2. Where an instance has a single rollout on either side, the differences themselves are the sample:
    se = sd(differences) / sqrt(m), and infinite for a single one. Raises ValueError where no instance is
    shared.
    """
    shared = [i for i in new.rewards if i in old.rewards]
    if not shared:
        raise ValueError("the two scores have no instance in common")
    pairs = [(new.rewards[i], old.rewards[i]) for i in shared]
    differences = [fmean(mine) - fmean(theirs) for mine, theirs in pairs]
    return fmean(differences), _standard_error(pairs, differences)


def _standard_error(pairs: Sequence[tuple[Sequence[float], Sequence[float]]], differences: Sequence[float]) -> float:
    count = len(pairs)
    if all(len(group) > 1 for pair in pairs for group in pair):
        squares = sum(variance(group) / len(group) for pair in pairs for group in pair)
        return math.sqrt(squares) / count
    return math.sqrt(variance(differences) / count) if count > 1 else math.inf


def indecisive(new: Score, old: Score, k: float) -> bool:
    """Return whether a paired gain is above zero without exceeding k standard errors: more samples may decide it."""
    gain, error = paired_gain(new, old)
    return 0 < gain <= k * error


def pooled(scores: Sequence[Score]) -> Score:
    """Return one score of several measurements of the same agent on the same split, each of draws of its own.

    Rewards of an instance stand one after the other; metrics and reasons are those of the first. The standard error is
    that of `summarize`.
    """
    first = scores[0]
    if len(scores) == 1:
        return first
    rewards = {i: tuple(r for score in scores for r in score.rewards.get(i, ())) for i in first.rewards}
    drawn = [reward for group in rewards.values() for reward in group]
    spread = sum(len(group) * variance(group) for group in rewards.values() if len(group) > 1)
    return first.model_copy(
        update={
            "n": len(drawn),
            "mean": fmean(drawn),
            "se": math.sqrt(spread) / len(drawn),
            "best": max(drawn),
            "rewards": rewards,
        }
    )


def accept(new: Score, old: Score, guards: Mapping[str, float], k: float) -> tuple[bool, str]:
    """Return whether `new` replaces `old`, and why in words.

    It does where the paired gain exceeds k standard errors and no guard margin is negative. A gain above
    zero that does not exceed them is indecisive, and is not accepted.
    """
    gain, error = paired_gain(new, old)
    broken = [f"{name} {margin:+.4f}" for name, margin in sorted(guards.items()) if margin < 0]
    measured = f"paired gain {gain:+.4f} +- {error:.4f} (k = {k:g})"
    if broken:
        return False, f"rejected: guard broken ({', '.join(broken)}); {measured}"
    if gain > 0 and gain > k * error:
        return True, f"accepted: {measured}"
    return False, f"{'indecisive' if gain > 0 else 'not better'}: {measured}"
