"""The policy in this process: a local checkpoint, an optional LoRA adapter, a batched sampler.

Invariant: equal weights and an equal request give equal tokens, whatever else is in the batch; what the
trainer recomputes for them agrees with the log-probabilities that the sampler reported.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from sia_flow.errors import TrainingError
from sia_flow.policy import adapter_files, adapters
from sia_flow.policy.adapters import LoraConfig
from sia_flow.policy.bases import base_digest
from sia_flow.policy.checkpoint import context_length, load_model, load_tokenizer, stop_ids
from sia_flow.policy.decoding import Drawn, Row, decode
from sia_flow.policy.determinism import fixed_threads
from sia_flow.policy.merged import MergedCopy
from sia_flow.policy.noise import uniforms
from sia_flow.policy.prompts import render, said
from sia_flow.policy.requests import check_request
from sia_flow.policy.rows import TokenRows, collate
from sia_flow.policy.versions import version_of
from sia_flow.protocols import Completion, SampleRequest

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class _Slot(NamedTuple):
    request: int
    prompt: tuple[int, ...]
    row: Row


class LocalPolicy:
    """A policy whose weights are in this process; implements `protocols.Sampler`.

    Attributes:
        model: the Hugging Face model, a `PeftModel` when there is an adapter.
        tokenizer: the checkpoint's tokenizer.
        base_digest: digest of the base checkpoint, 64 hex digits.
        batch_rows: completions sampled at once; bounds the memory of the key-value cache.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        base: str,
        merged: MergedCopy | None,
        batch_rows: int,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.base_digest = base
        self.batch_rows = batch_rows
        self._merged = merged
        self._adapted = hasattr(model, "peft_config")
        self._stops = stop_ids(model, tokenizer)

    @classmethod
    def load(
        cls,
        base: Path,
        adapter: Path | None = None,
        lora: LoraConfig | None = None,
        *,
        trainable: bool = False,
        device: str = "cpu",
        batch_rows: int = 256,
        dtype: Literal["float32", "auto"] | None = None,
    ) -> LocalPolicy:
        """Return the policy of a base checkpoint with the adapter in a folder, a fresh one, or none.

        Args:
            base: folder of a Hugging Face checkpoint.
            adapter: folder of an adapter that was trained on this base.
            lora: settings of a fresh adapter, drawn from its seed; beside `adapter`, what that must have.
            trainable: let gradients reach the adapter.
            dtype: `auto` keeps the checkpoint's type. None: float32 on a CPU, `auto` elsewhere.

        Raises SpecError for a base that cannot be loaded, TrainingError for an adapter that does not fit.
        """
        digest = base_digest(base)
        model, tokenizer = load_model(base, device, dtype), load_tokenizer(base)
        if adapter is None and lora is None:
            if trainable:
                raise TrainingError("a trainable policy needs an adapter: give `lora` or the folder of an adapter")
            return cls(model, tokenizer, digest, None, batch_rows)
        merged = MergedCopy(model) if model.dtype.itemsize == 4 else None
        if adapter is not None:
            model = adapters.load(model, adapter, digest, lora)
        elif lora is not None:
            model = adapters.create(model, lora)
        adapters.set_trainable(model, trainable)
        return cls(model, tokenizer, digest, merged, batch_rows)

    @property
    def version(self) -> str:
        """Name of the exact weights: the base's digest, with the adapter's as it is now, shortened."""
        return version_of(self.base_digest, self.adapter_digest() if self._adapted else None)

    @property
    def at_once(self) -> int:
        """None: a batch goes through the model together."""
        return 0

    def hold(self) -> LocalPolicy:
        """Return itself: nothing trains while it samples."""
        return self

    @property
    def device(self) -> str:
        """Where the weights are, such as `cpu` or `cuda:0`."""
        return str(self.model.device)

    @property
    def dtype(self) -> str:
        """Type of the base's weights, such as `float32`."""
        return str(self.model.dtype).removeprefix("torch.")

    def sample(self, requests: Sequence[SampleRequest]) -> list[list[Completion]]:
        """Return `n` completions for each request, in order. Raises RequestError for one that is out of range."""
        slots = self._slots(requests)
        order = sorted(range(len(slots)), key=lambda i: len(slots[i].prompt))
        drawn: dict[int, Drawn] = {}
        with fixed_threads():
            model = self._sampling_model()
            for start in range(0, len(order), self.batch_rows):
                part = order[start : start + self.batch_rows]
                drawn |= zip(part, self._decode(model, [slots[i] for i in part]), strict=True)
        completions: list[list[Completion]] = [[] for _ in requests]
        for i, slot in enumerate(slots):
            completions[slot.request].append(self._completion(slot, drawn[i]))
        return completions

    def _slots(self, requests: Sequence[SampleRequest]) -> list[_Slot]:
        """Return one slot a completion; prompts that are equal are rendered once."""
        room, slots = context_length(self.model), []
        rendered: dict[str, tuple[int, ...]] = {}
        for i, request in enumerate(requests):
            check_request(request, room)
            key = json.dumps([request.max_tokens, request.messages, request.tools], sort_keys=True)
            if key not in rendered:
                rendered[key] = render(self.tokenizer, request.messages, room - request.max_tokens, request.tools)
            for sample in range(request.n):
                noise = uniforms(request.seed, sample, request.max_tokens)
                slots.append(_Slot(i, rendered[key], Row(0, request.temperature, noise)))
        return slots

    def _decode(self, model: PreTrainedModel, slots: Sequence[_Slot]) -> list[Drawn]:
        prompts = {prompt: i for i, prompt in enumerate(dict.fromkeys(slot.prompt for slot in slots))}
        rows = [Row(prompts[slot.prompt], slot.row.temperature, slot.row.noise) for slot in slots]
        return decode(model, list(prompts), rows, self._stops)

    def _completion(self, slot: _Slot, drawn: Drawn) -> Completion:
        text, calls = said(self.tokenizer, drawn.ids)
        return Completion(
            text=text,
            calls=calls,
            prompt_ids=slot.prompt,
            completion_ids=tuple(drawn.ids),
            logprobs=tuple(drawn.logprobs),
            finish="stop" if drawn.ids[-1] in self._stops else "length",
        )

    def _sampling_model(self) -> PreTrainedModel:
        """Return the merged copy; in 16 bits, where merging rounds the update, the wrapped model."""
        if self._merged is None:
            return self.model
        return self._merged.refresh(self.model, self.adapter_digest())

    def logits(self, rows: TokenRows, *, base: bool = False) -> Tensor:
        """Return the float32 logits [B, T, V] that predict each completion token, with gradients.

        Positions after a row's completion hold values without meaning. `base` switches the adapter off.
        """
        batch = collate(rows, self._pad, self.device)
        first = int(batch.at.min())
        with self._without_adapter() if base else contextlib.nullcontext():
            out = self.model(input_ids=batch.input_ids, logits_to_keep=batch.input_ids.shape[1] - first)
        logits: Tensor = out.logits
        at = (batch.at - first)[:, :, None].expand(-1, -1, logits.shape[-1])
        return logits.gather(1, at).float()

    def logprobs(self, rows: TokenRows, *, base: bool = False, temperature: float = 1.0) -> Tensor:
        """Return the log-probabilities [B, T] of the completion tokens at `temperature`, 0 where padded."""
        import torch

        batch = collate(rows, self._pad, self.device)
        scores = torch.log_softmax(self.logits(rows, base=base) / temperature, dim=-1)
        chosen = scores.gather(-1, batch.targets[:, :, None])[:, :, 0]
        return torch.where(batch.mask, chosen, 0.0)

    @property
    def _pad(self) -> int:
        """A token to fill rows with; under a causal mask any one does."""
        return int(self.tokenizer.pad_token_id or 0)

    @contextlib.contextmanager
    def _without_adapter(self) -> Iterator[None]:
        if not self._adapted:
            yield
            return
        with self.model.disable_adapter():
            yield

    def adapter_digest(self) -> str:
        """Return the digest of the adapter as it is now; the one that its folder has once saved."""
        self._need_adapter()
        return adapter_files.digest_files(adapter_files.pack(self.model, self.base_digest))

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter to `folder` as PEFT reads it. Raises StoreError when it cannot be written."""
        self._need_adapter()
        adapter_files.save(self.model, folder, self.base_digest)

    def restore_adapter(self, folder: Path) -> None:
        """Copy the adapter in `folder` into this policy's. Raises TrainingError when it does not fit."""
        self._need_adapter()
        adapter_files.check_base(folder, self.base_digest)
        adapters.write_state(self.model, adapter_files.read_tensors(folder), str(folder))

    def refresh(self) -> None:
        """Drop the merged weights: the next sample makes them again. A change is noticed without it, too."""
        if self._merged is not None:
            self._merged.forget()

    def _need_adapter(self) -> None:
        if not self._adapted:
            raise TrainingError("this policy has no adapter: load it with `lora` or the folder of an adapter")
