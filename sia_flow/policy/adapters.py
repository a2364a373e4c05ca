"""LoRA adapters on a model: fresh, from a folder, or copied in place.

Invariant: an adapter's tensors match its base exactly or it is refused; a missing or surplus tensor is never
ignored. The base's own weights are never written.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sia_flow.canonical import derive_seed
from sia_flow.errors import TrainingError
from sia_flow.policy.adapter_files import CONFIG, check_base, read_json, read_state, read_tensors
from sia_flow.policy.determinism import deterministic

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel

Target = Literal["attention", "experts"]

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
"""Projections of an attention layer, by the names that Hugging Face gives them."""
EXPERTS = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")
"""Stacked expert weights: three-axis parameters, not modules, so that PEFT reaches them by parameter name."""


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """Settings of an adapter; the defaults are the spec's."""

    rank: int = 8
    """Inner width of the update."""
    alpha: int = 16
    """The update is multiplied by alpha / rank."""
    targets: tuple[Target, ...] = ("attention", "experts")
    seed: int = 0
    """What a fresh adapter is drawn from."""


def create(model: PreTrainedModel, lora: LoraConfig) -> PeftModel:
    """Return `model` with a fresh adapter: A drawn from `lora.seed`, B zero, so that it changes nothing yet.

    Raises TrainingError when the model has none of the weights that `lora.targets` names.
    """
    import peft

    modules, parameters = _targets(model, lora)
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=0.0,
        target_modules=modules,
        target_parameters=parameters,
        task_type="CAUSAL_LM",
    )
    return _wrap(model, config, derive_seed("lora", lora.seed))


def load(model: PreTrainedModel, folder: Path, base_digest: str, lora: LoraConfig | None = None) -> PeftModel:
    """Return `model` wrapped with the adapter in `folder`, whose settings must be those of `lora` if given.

    Raises TrainingError when the adapter was made for another base or its tensors do not match the model's.
    """
    import peft

    check_base(folder, base_digest)
    raw = read_json(folder / CONFIG)
    if raw.get("peft_type") != "LORA":
        raise TrainingError(f"{folder / CONFIG} is no LoRA adapter (peft_type: {raw.get('peft_type')})")
    config = peft.LoraConfig.from_pretrained(str(folder))
    if lora is not None:
        _check_settings(model, lora, config, folder)
    wrapped = _wrap(model, config, seed=0)
    write_state(wrapped, read_tensors(folder), str(folder))
    return wrapped


def _wrap(model: PreTrainedModel, config: PeftConfig, seed: int) -> PeftModel:
    import peft

    with deterministic(seed), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers, about a name that PEFT still uses
        return peft.get_peft_model(model, config).eval()


def _targets(model: PreTrainedModel, lora: LoraConfig) -> tuple[list[str], list[str]]:
    names = [name for name, _ in model.named_parameters()]
    modules = [target for target in ATTENTION if "attention" in lora.targets and _has(names, f".{target}.weight")]
    parameters = [target for target in EXPERTS if "experts" in lora.targets and _has(names, f".{target}")]
    for target, found in (("attention", modules), ("experts", parameters)):
        if target in lora.targets and not found:
            raise TrainingError(
                f"the base model ({model.config.model_type}) has no {target} weights that LoRA can reach; "
                f"remove `{target}` from policy.lora.targets"
            )
    return modules, parameters


def _check_settings(model: PreTrainedModel, lora: LoraConfig, config: PeftConfig, where: Path) -> None:
    """Raise TrainingError when an adapter's configuration is not what the spec asks for."""
    wanted = [lora.rank, lora.alpha, *map(sorted, _targets(model, lora))]
    modules, parameters = config.target_modules or (), config.target_parameters or ()
    found = [config.r, config.lora_alpha, sorted(modules), sorted(parameters)]
    if wanted != found:
        raise TrainingError(
            f"the adapter {where} has rank, alpha and targets {found}, policy.lora asks for {wanted}; "
            "an arm keeps its adapter's settings"
        )


def _has(names: list[str], suffix: str) -> bool:
    return any(name.endswith(suffix) for name in names)


def set_trainable(model: PeftModel, trainable: bool) -> None:  # noqa: FBT001 - the one thing it sets
    """Let gradients reach the adapter's tensors, or nothing; the base stays frozen either way."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trainable and "lora_" in name)


def write_state(model: PeftModel, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy `tensors` into the model's adapter. Raises TrainingError naming a tensor that does not match."""
    import torch

    own = read_state(model)
    for what, names in (
        ("lacks", own.keys() - tensors.keys()),
        ("has the unexpected", tensors.keys() - own.keys()),
    ):
        if names:
            raise TrainingError(f"the adapter {where} {what} tensor {min(names)}; it was made for another model")
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            expected, found = list(own[name].shape), list(tensor.shape)
            raise TrainingError(f"the adapter {where}: tensor {name} has shape {found}, the model needs {expected}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
