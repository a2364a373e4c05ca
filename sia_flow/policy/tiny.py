"""The built-in base: a small gpt-oss, trained here from scratch on a task's corpus.

Invariant: equal pairs and an equal configuration give the same bytes of `model.safetensors` on one machine.
What is written is a normal Hugging Face checkpoint; nothing else in the package knows that it is small.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sia_flow.errors import TrainingError
from sia_flow.policy.checkpoint import quiet
from sia_flow.policy.determinism import deterministic
from sia_flow.policy.tokenizer import Kind, build_tokenizer
from sia_flow.policy.warmup import Schedule, fit

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Progress = Callable[[int, int, float], None]
"""Called with the step, the number of steps and the loss in nats a token."""


@dataclass(frozen=True, slots=True)
class TinyConfig:
    """Size of the model and length of its training; the defaults take well under a minute on one core."""

    hidden: int = 64
    layers: int = 2
    """One with a sliding window, one with full attention, in turn, as in gpt-oss."""
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    intermediate: int = 64
    experts: int = 4
    active: int = 2
    """Experts a token."""
    window: int = 64
    context: int = 512
    tokenizer: Kind = "pieces"
    """What becomes a token: program lines and numbers, or single characters."""
    pieces: int = 512
    """How many of them become tokens of their own."""
    pairs: int = 16000
    """How many pairs to draw from the task's corpus."""
    schedule: Schedule = field(default_factory=Schedule)
    seed: int = 0


def build_tiny(
    pairs: Iterable[tuple[str, str]],
    out: Path,
    config: TinyConfig | None = None,
    progress: Progress | None = None,
) -> None:
    """Train the tiny base on (prompt, completion) pairs and write its checkpoint to the folder `out`.

    An existing folder is replaced once the new one is whole. Raises TrainingError when there are no pairs or
    one does not fit the context.
    """
    config = config or TinyConfig()
    corpus = tuple(pairs)
    if not corpus:
        raise TrainingError("the tiny base needs at least one (prompt, completion) pair to train on")
    with deterministic(config.seed):
        tokenizer = build_tokenizer((text for pair in corpus for text in pair), config.pieces, kind=config.tokenizer)
        model = new_model(config, tokenizer)
        rows = [_encode(tokenizer, prompt, completion, config.context) for prompt, completion in corpus]
        fit(model, rows, config.schedule, config.seed, progress)
    _write(model, tokenizer, out)


def new_model(config: TinyConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Return an untrained gpt-oss of the given size; its weights come from torch's global generator."""
    from transformers import GptOssConfig, GptOssForCausalLM

    settings = GptOssConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        head_dim=config.head_dim,
        intermediate_size=config.intermediate,
        num_local_experts=config.experts,
        num_experts_per_tok=config.active,
        sliding_window=config.window,
        max_position_embeddings=config.context,
        # The default stretches rotary positions 32 times, for contexts that a model of this size never sees.
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        initializer_range=0.05,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    settings._attn_implementation = "eager"  # noqa: SLF001 - transformers has no public setter before loading
    settings._experts_implementation = "grouped_mm"  # noqa: SLF001
    return GptOssForCausalLM(settings)


def _encode(
    tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str, context: int
) -> tuple[list[int], list[int]]:
    messages = [{"role": "user", "content": prompt}]
    before = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
    after = [*tokenizer.encode(completion, add_special_tokens=False), tokenizer.eos_token_id]
    if len(before) + len(after) > context:
        raise TrainingError(f"a pair of the corpus has {len(before) + len(after)} tokens, the context {context}")
    return before, after


def _write(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    """Write beside `out`, then rename: a reader never sees half a checkpoint."""
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        draft.chmod(0o755)
        with quiet():
            model.save_pretrained(draft)
        tokenizer.save_pretrained(draft, save_jinja_files=False)
        if out.exists():
            shutil.rmtree(out)
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
