"""Did you mean: the nearest known word, with the words that this field's tools use for the same thing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

RENAMED = {
    "algo": "algorithm",
    "beta": "kl",
    "clip_range": "clip",
    "epsilon": "clip",
    "group_size": "samples",
    "kl_coef": "kl",
    "learning-rate": "learning_rate",
    "lora_alpha": "alpha",
    "lora_r": "rank",
    "lr": "learning_rate",
    "max_generations": "generations",
    "max_grad_norm": "grad_norm",
    "max_new_tokens": "max_tokens",
    "model": "base",
    "r": "rank",
    "steps": "generations",
    "target_modules": "targets",
    "time": "wall",
    "timeout": "wall",
}
"""Keys that other tools use, and what they are called here."""


def closest(word: str, options: Iterable[str]) -> str | None:
    """Return the option nearest to `word`, or none when nothing is near; case is ignored."""
    by_fold = {option.casefold(): option for option in options}
    found = difflib.get_close_matches(word.casefold(), by_fold, n=1, cutoff=0.6)
    return by_fold[found[0]] if found else None


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return ` did you mean "x"?`, or nothing."""
    match = closest(word, options)
    return f' did you mean "{match}"?' if match else ""
