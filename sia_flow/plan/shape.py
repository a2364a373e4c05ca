"""The shape of a model by its config.json alone, and how many parameters that makes.

Invariant: counts are exact for the architectures that are known by name; any other is refused, never guessed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sia_flow.errors import SpecError

Target = Literal["attention", "experts"]

DENSE = ("llama", "mistral", "qwen2", "qwen3")
"""Dense decoders whose layers differ in biases and norms alone."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder-only transformer with grouped-query attention; `experts` is 0 where its layers are dense."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    experts: int = 0
    active: int = 0
    """Experts a token."""
    sliding: int = 0
    """Layers that see `window` tokens back and no more."""
    window: int = 0
    attention_bias: int = 0
    """How many of q, k, v, o have one: 0, 3 or 4."""
    attention_extra: int = 0
    """Sinks, one a head, or norms of queries and keys."""
    tied: bool = False

    @property
    def queries(self) -> int:
        """Width of all queries."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Width of all keys, and of all values."""
        return self.kv_heads * self.head_dim

    @property
    def attention(self) -> int:
        """Parameters of one attention block, without its norm."""
        bias = self.queries + 2 * self.keys if self.attention_bias else 0
        bias += self.hidden if self.attention_bias == 4 else 0
        return 2 * self.hidden * (self.queries + self.keys) + bias + self.attention_extra

    @property
    def expert(self) -> int:
        """Parameters of one expert with its biases, or of a dense layer's block."""
        weights = 3 * self.hidden * self.intermediate
        return weights + (2 * self.intermediate + self.hidden if self.experts else 0)

    @property
    def router(self) -> int:
        """Parameters of one router."""
        return self.experts * (self.hidden + 1)

    @property
    def embedding(self) -> int:
        """Parameters of the embedding, and of the head where it is one of its own."""
        return self.vocab * self.hidden

    @property
    def expert_weights(self) -> int:
        """Parameters that a quantised checkpoint has in 4 bits: the experts' matrices, biases left out."""
        return self.layers * self.experts * 3 * self.hidden * self.intermediate

    @property
    def total(self) -> int:
        """All parameters."""
        layer = self.attention + max(self.experts, 1) * self.expert + self.router + 2 * self.hidden
        return self.layers * layer + (1 if self.tied else 2) * self.embedding + self.hidden

    @property
    def used(self) -> int:
        """Parameters that a token passes through; the embedding is looked up and left out, as OpenAI counts."""
        layer = self.attention + max(self.active, 1) * self.expert + self.router + 2 * self.hidden
        return self.layers * layer + self.embedding + self.hidden

    def lora(self, rank: int, targets: tuple[Target, ...]) -> int:
        """Return the parameters of an adapter: rank * (in + out) for each matrix that it is on."""
        widths = 0
        if "attention" in targets:
            widths += 2 * (self.hidden + self.queries) + 2 * (self.hidden + self.keys)
        if "experts" in targets:
            widths += self.experts * (2 * self.hidden + 3 * self.intermediate)
        return self.layers * rank * widths


PUBLISHED = {
    name: Shape(
        name=name,
        layers=layers,
        experts=experts,
        active=4,
        sliding=layers // 2,
        window=128,
        attention_bias=4,
        attention_extra=64,
        hidden=2880,
        heads=64,
        kv_heads=8,
        head_dim=64,
        intermediate=2880,
        vocab=201_088,
    )
    for name, layers, experts in (("gpt-oss-20b", 24, 32), ("gpt-oss-120b", 36, 128))
}
"""From the configurations of openai/gpt-oss-20b and -120b, published on 2025-08-05."""


def read_shape(folder: Path) -> Shape:
    """Return the shape of the checkpoint in a folder. Raises SpecError for a missing or unknown configuration."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise SpecError(f"cannot read {folder / 'config.json'}: {error}") from error
    return shape_of(config, folder.name)


def shape_of(config: Mapping[str, Any], name: str) -> Shape:
    """Return the shape that a Hugging Face configuration describes. Raises SpecError for one that is not known."""
    kind = config.get("model_type")
    if kind != "gpt_oss" and kind not in DENSE:
        known = ", ".join(("gpt_oss", *DENSE))
        raise SpecError(f"{name}: no estimate for the architecture {kind!r}; known are {known}")
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    moe = kind == "gpt_oss"
    return Shape(
        name=name,
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=head_dim,
        intermediate=config["intermediate_size"],
        vocab=config["vocab_size"],
        experts=config["num_local_experts"] if moe else 0,
        active=(config.get("num_experts_per_tok") or config["experts_per_token"]) if moe else 0,
        sliding=_sliding(config) if moe else 0,
        window=config.get("sliding_window") or 0 if moe else 0,
        attention_bias=_biases(config),
        attention_extra={"gpt_oss": heads, "qwen3": 2 * head_dim}.get(kind, 0),
        tied=bool(config.get("tie_word_embeddings", False)),
    )


def _sliding(config: Mapping[str, Any]) -> int:
    kinds = config.get("layer_types")
    return list(kinds).count("sliding_attention") if kinds else (int(config["num_hidden_layers"]) + 1) // 2


def _biases(config: Mapping[str, Any]) -> int:
    if config["model_type"] == "qwen2":
        return 3
    return 4 if config.get("attention_bias", config["model_type"] == "gpt_oss") else 0
