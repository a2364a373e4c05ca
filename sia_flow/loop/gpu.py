"""GPU time: what rollouts and weight updates of an arm took, by the store's journal, where the policy is on a GPU.

Invariant: a step counts once, with the time of the attempt that finished it; what a killed attempt took is not known.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sia_flow.loop.arm import ArmState
from sia_flow.loop.lab import Lab

STEPS = ("rollout train", "rollout select", "train-LoRA", "scaffold edit")


def spent_gpu(lab: Lab, state: ArmState) -> str | None:
    """Return `budget.gpu` where an arm has reached it, else None."""
    limit = lab.spec.budget.gpu
    if limit is None:
        return None
    keys = {key for generation in state.history for name, key in generation.steps.items() if name in STEPS}
    return "budget.gpu" if gpu_seconds(lab.store.journal(), keys, devices(lab)) >= limit else None


def gpu_seconds(entries: Iterable[Mapping[str, Any]], keys: Collection[str], devices: int) -> float:
    """Return the seconds of the steps with these keys that ended, times the GPUs that they ran on."""
    ended = (entry for entry in entries if entry["event"] == "done" and entry["key"] in keys)
    return devices * sum(float(entry["seconds"]) for entry in ended)


def devices(lab: Lab) -> int:
    """Return how many GPUs the policy is on: one, where it is in this process and there is one."""
    if lab.spec.policy.type != "local":
        return 0
    import torch

    return int(torch.cuda.is_available())
