"""Loading a Hugging Face checkpoint from a local folder: safetensors, none of its code, no network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sia_flow.errors import SpecError
from sia_flow.policy.bases import check_checkpoint
from sia_flow.policy.quantised import check_room, unpacking

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_model(folder: Path, device: str, dtype: str | None = None) -> PreTrainedModel:
    """Return the causal language model of a checkpoint, frozen and in evaluation mode.

    Without a `dtype` the weights are float32 on a CPU and keep the checkpoint's type elsewhere, mxfp4 as bfloat16.
    Raises SpecError when the folder is not a checkpoint that this version of transformers knows, is quantised in
    another way, or is larger than the device.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    check_checkpoint(folder)
    dtype = dtype or ("float32" if device == "cpu" else "auto")
    check_room(folder, device, 4 if dtype == "float32" else None)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with quiet():
            model = AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=dtype,
                **kernels(config.model_type),
                **unpacking(config, folder),
            )
    except (OSError, ValueError, KeyError) as error:
        raise SpecError(f"cannot load the base model in {folder}: {error}") from error
    return model.to(device).eval().requires_grad_(requires_grad=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars off the terminal; the command line has its own."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def kernels(model_type: str) -> dict[str, str]:
    """Return the implementations to ask for.

    gpt-oss has attention sinks, which only its eager attention computes everywhere; `grouped_mm` runs all
    experts in one call, where `batched_mm` copies expert weights for each token: far slower on a CPU.
    """
    if model_type == "gpt_oss":
        return {"attn_implementation": "eager", "experts_implementation": "grouped_mm"}
    return {}


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return the checkpoint's tokenizer. Raises SpecError when it has no chat template."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise SpecError(f"cannot load the tokenizer in {folder}: {error}") from error
    if not tokenizer.chat_template:
        raise SpecError(f"the tokenizer in {folder} has no chat template; use an instruction-tuned checkpoint")
    return tokenizer


def stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the tokens that end a completion: the generation configuration's, or the tokenizer's."""
    ids = model.generation_config.eos_token_id
    if ids is None:
        ids = tokenizer.eos_token_id
    if ids is None:
        return frozenset()
    return frozenset(ids) if isinstance(ids, list) else frozenset([ids])


def context_length(model: PreTrainedModel) -> int:
    """Return how many tokens, prompt and completion together, the model has positions for."""
    return int(getattr(model.config, "max_position_embeddings", 1 << 20))
