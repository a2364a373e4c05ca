"""The policy of an experiment by its type: in this process, or on a server that is sampled from here.

Invariant: either gives the same versions for the same weights; the steps' inputs say which one sampled, since equal
seeds give other draws on a server.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sia_flow.errors import TrainingError
from sia_flow.loop.same_base import refuse_changed_base
from sia_flow.protocols import Sampler

if TYPE_CHECKING:
    from sia_flow.loop.lab import Lab
    from sia_flow.policy.adapters import LoraConfig
    from sia_flow.policy.local import LocalPolicy
    from sia_flow.policy.served import ServedPolicy

ADDRESS = "http://127.0.0.1:8000/v1"
"""Where vLLM listens when nothing else is said."""


def sampler_inputs(lab: Lab) -> dict[str, str]:
    """Return what tells rollouts of this policy from those of a local one on a CPU; empty for that one."""
    policy = lab.spec.policy
    if policy.type == "openai":
        return {"sampler": "openai"}
    return {} if policy.device == "cpu" else {"sampler": policy.device}


def load_sampler(lab: Lab, adapter: Path | None) -> Sampler:
    """Return the policy with the adapter in a folder, or the bare base. Raises SpecError, InfrastructureError."""
    if lab.spec.policy.type == "local":
        return _local(lab, adapter)
    served = _served(lab, functools.cache(lambda: _local(lab, adapter)))
    if adapter is not None:
        served.use_folder(adapter)
    return served


def follow(lab: Lab, trained: LocalPolicy) -> Sampler:
    """Return what samples from a policy while it trains: itself, or a server that it publishes its adapter to."""
    if lab.spec.policy.type == "local":
        return trained
    from sia_flow.policy.published import PublishedPolicy

    split = lab.spec.training.engine == "fsdp"
    return PublishedPolicy(_served(lab, _no_rescorer if split else lambda: trained), trained, compare=not split)


def load_trainable(lab: Lab, adapter: Path | None, lora: LoraConfig) -> LocalPolicy:
    """Return a policy whose adapter can be trained; one that is to be split is loaded beside the GPUs, as it is."""
    import torch

    from sia_flow.policy.local import LocalPolicy

    split = lab.spec.training.engine == "fsdp"
    device = "cpu" if split else lab.spec.policy.device
    dtype: Literal["auto"] | None = "auto" if split and torch.cuda.is_available() else None
    return LocalPolicy.load(lab.base_dir, adapter, lora, trainable=True, device=device, dtype=dtype)


def _no_rescorer() -> LocalPolicy:
    raise TrainingError(
        "training.engine fsdp needs a server that gives token ids and log-probabilities at the temperature of the "
        "request; start vLLM with --logprobs-mode processed_logprobs"
    )


def _local(lab: Lab, adapter: Path | None) -> LocalPolicy:
    from sia_flow.policy.local import LocalPolicy

    policy = LocalPolicy.load(lab.base_dir, adapter, device=lab.spec.policy.device)
    refuse_changed_base(lab.base_dir, policy.base_digest, lab.base_digest)
    return policy


def _served(lab: Lab, rescorer: Callable[[], LocalPolicy]) -> ServedPolicy:
    from sia_flow.policy.endpoint import Endpoint
    from sia_flow.policy.served import ServedPolicy

    policy = lab.spec.policy
    endpoint = Endpoint(
        base_url=policy.base_url or ADDRESS,
        model=policy.model or policy.base,
        concurrency=policy.concurrency or 64,
        api_key_env=policy.api_key_env,
    )
    folder = Path(policy.adapters) if policy.adapters else lab.store.root.parent / "served"
    return ServedPolicy.connect(endpoint, lab.base_dir, folder, rescorer)
