"""TRL's trainers as loss functions: `GRPOTrainer`, `SFTTrainer`, `DPOTrainer`, one class for each.

Invariant: a chunk's share of the gradient is its share of the whole batch, so that chunks bound memory and do
not change the update. Of TRL only `_prepare_inputs` is overridden; it is pinned below 1.17 for that.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import torch
from datasets import Dataset, disable_progress_bars  # type: ignore[import-untyped]
from huggingface_hub import constants
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from sia_flow.errors import TrainingError
from sia_flow.training.admission import Settings
from sia_flow.training.backends.layout import Inputs, Rows, only_rows, spread
from sia_flow.training.credit import Credited

# A run tells nobody that it takes place, and its terminal is its own.
constants.HF_HUB_DISABLE_TELEMETRY = True
disable_progress_bars()

_UNCLIPPED = 1e9
"""Half-width of a trust interval that holds every ratio: the importance-sampling loss as a clipped one."""

_PAD = "<pad>"


class TrlLoss(Protocol):
    """A trainer of TRL that adds gradients and never steps."""

    def backward(self, credited: Credited, rows: int) -> Mapping[str, float]:
        """Add the batch's gradient, at most `rows` rows at a time; return `loss` and `clip_fraction`."""


class _FedTrainer(GRPOTrainer):  # type: ignore[misc]
    """A GRPO trainer that takes its inputs as they are: sampled, scored and credited elsewhere."""

    def _prepare_inputs(self, generation_batch: Inputs) -> Inputs:
        return generation_batch

    def clip_fraction(self) -> float:
        """Return the share of clipped tokens of the last call, and forget TRL's own metrics."""
        found = float(self._metrics["train"]["clip_ratio/region_mean"][-1])
        self._metrics["train"].clear()
        return found


class Surrogate:
    """The clipped and the importance-sampling loss, token mean, with the penalty to the base (`dapo` in TRL)."""

    def __init__(self, model: Any, optimizer: torch.optim.Optimizer, temperature: float, settings: Settings) -> None:
        clip = settings.clip if settings.algorithm.loss == "clipped" else _UNCLIPPED
        self.trainer = _build(
            _FedTrainer,
            GRPOConfig,
            model,
            optimizer,
            {"prompt": "_"},
            reward_funcs=_no_reward,
            num_generations=2,
            per_device_train_batch_size=2,
            temperature=temperature,
            epsilon=clip,
            epsilon_high=clip,
            loss_type="dapo",
            use_bias_correction_kl=True,
        )

    def backward(self, credited: Credited, rows: int) -> Mapping[str, float]:
        """Add the batch's gradient, at most `rows` rows at a time."""
        stream, loss, clipped = credited.stream, 0.0, 0.0
        # Set late: a trainer that is built with it makes a copy of the adapter its reference.
        self.trainer.beta = stream.kl
        count = torch.tensor(len(stream.old), device=stream.old.device)
        for first in range(0, len(credited.batch.row_call), rows):
            inputs = Rows.of(credited.batch, slice(first, first + rows)).split()
            mask = inputs["completion_mask"]
            tokens = (stream.row >= first) & (stream.row < first + rows)
            inputs["advantages"] = spread(stream.advantage[tokens], mask)
            inputs["old_per_token_logps"] = spread(stream.old[tokens], mask)
            inputs["ref_per_token_logps"] = spread(stream.base[tokens], mask)
            inputs["num_items_in_batch"] = count
            loss += float(self.trainer.training_step(self.trainer.model, inputs, None))
            clipped += self.trainer.clip_fraction() * float(tokens.float().mean())
        return {"loss": loss, "clip_fraction": clipped}


class Imitation:
    """Cross-entropy on the episodes that were chosen, token mean (`nll` in TRL)."""

    def __init__(self, model: Any, optimizer: torch.optim.Optimizer, temperature: float, settings: Settings) -> None:
        _need_plain_temperature(temperature, settings)
        self.trainer = _build(
            SFTTrainer,
            SFTConfig,
            model,
            optimizer,
            {"input_ids": [0], "labels": [0]},
            dataset_kwargs={"skip_prepare_dataset": True},
            loss_type="nll",
        )

    def backward(self, credited: Credited, rows: int) -> Mapping[str, float]:
        """Add the batch's gradient, at most `rows` rows at a time."""
        loss, count = 0.0, torch.tensor(len(credited.stream.old), device=credited.stream.old.device)
        for first in range(0, len(credited.batch.row_call), rows):
            part = Rows.of(credited.batch, slice(first, first + rows))
            inputs = {"input_ids": part.ids, "attention_mask": part.attention.long(), "labels": part.labels}
            loss += float(self.trainer.training_step(self.trainer.model, inputs, count))
        return {"loss": loss, "clip_fraction": 0.0}


class Preference:
    """DPO on pairs of episodes of one model call each, with the base as reference (`sigmoid` in TRL)."""

    def __init__(self, model: Any, optimizer: torch.optim.Optimizer, temperature: float, settings: Settings) -> None:
        _need_plain_temperature(temperature, settings)
        row = {"prompt": "_", "chosen": "_", "rejected": "_"}
        self.trainer = _build(DPOTrainer, DPOConfig, model, optimizer, row, loss_type=["sigmoid"], beta=0.1)
        # TRL makes a copy of an adapter that was trained before its reference; ours is the base, measured already.
        model.delete_adapter("ref")
        self.trainer.precompute_ref_logps = True

    def backward(self, credited: Credited, rows: int) -> Mapping[str, float]:
        """Add the batch's gradient, at most `rows` rows at a time."""
        stream, row_of, loss = credited.stream, only_rows(credited.batch), 0.0
        base = torch.zeros(len(row_of), device=stream.base.device).index_add(0, stream.episode, stream.base)
        some = max(1, rows // 2)
        for first in range(0, len(stream.pairs), some):
            pairs = stream.pairs[first : first + some]
            inputs = self._inputs(credited, row_of, base, pairs)
            # The trainer divides by it: a chunk's mean over its pairs becomes its share of the batch's mean.
            self.trainer.current_gradient_accumulation_steps = len(stream.pairs) / len(pairs)
            loss += float(self.trainer.training_step(self.trainer.model, inputs, None))
        return {"loss": loss, "clip_fraction": 0.0}

    def _inputs(self, credited: Credited, row_of: Tensor, base: Tensor, pairs: Tensor) -> Inputs:
        """Return the better episodes of the pairs, then the worse ones."""
        better, worse = pairs.T
        part = Rows.of(credited.batch, row_of[torch.cat([better, worse])])
        return {
            "input_ids": part.ids,
            "attention_mask": part.attention.long(),
            "completion_mask": part.sampled.long(),
            "ref_chosen_logps": base[better],
            "ref_rejected_logps": base[worse],
        }


def _build(
    trainer: Callable[..., Any],
    config: Callable[..., Any],
    model: Any,
    optimizer: torch.optim.Optimizer,
    row: Mapping[str, Any],
    **options: Any,
) -> Any:
    """Return a trainer that is told nothing but the loss; its data set is one row that is never read."""
    extra = {"reward_funcs": options.pop("reward_funcs")} if "reward_funcs" in options else {}
    with tempfile.TemporaryDirectory() as folder:
        arguments = config(
            output_dir=folder,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=model.device.type == "cpu",
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            router_aux_loss_coef=0.0,
            **options,
        )
        built = trainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_list([dict(row)]),
            processing_class=_tokenizer(model),
            optimizers=(optimizer, None),
            **extra,
        )
    built.current_gradient_accumulation_steps = 1
    return built


def _tokenizer(model: Any) -> PreTrainedTokenizerFast:
    """Return what a trainer wants to see: a tokenizer that has the model's own padding token."""
    pad = model.config.pad_token_id or 0
    words = models.WordLevel({_PAD: pad}, unk_token=_PAD)
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), pad_token=_PAD, eos_token=_PAD)


def _no_reward(completions: list[str], **_: object) -> list[float]:
    return [0.0] * len(completions)


def _need_plain_temperature(temperature: float, settings: Settings) -> None:
    if temperature != 1.0:
        raise TrainingError(
            f"training.engine trl trains {settings.algorithm.name} at temperature 1, the model calls have "
            f"{temperature:g}; sample at 1, or set training.engine: peft"
        )


LOSSES: Mapping[str, Callable[..., TrlLoss]] = MappingProxyType(
    {
        "clipped": Surrogate,
        "importance_sampling": Surrogate,
        "cross_entropy": Imitation,
        "dpo": Preference,
    }
)
