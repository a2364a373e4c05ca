"""A tiny gpt-oss with a LoRA, and a bandit to train it on: the optimum is known, the value exact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import GptOssConfig, GptOssForCausalLM

from sia_flow.canonical import derive_seed, digest_bytes
from sia_flow.lineage.records import Turn
from sia_flow.training.types import Episode

VOCAB, EOS, FIRST = 14, 2, 4
PROMPTS = ((1, FIRST), (1, FIRST + 1, FIRST))


def tiny_model(seed: int = 0) -> PeftModel:
    """Return a real GptOss of 20,000 parameters with an untouched adapter on attention and experts."""
    config = GptOssConfig(
        vocab_size=VOCAB,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        intermediate_size=16,
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=16,
        max_position_embeddings=64,
        initializer_range=0.3,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        pad_token_id=0,
        eos_token_id=EOS,
    )
    config._attn_implementation = "eager"
    config._experts_implementation = "grouped_mm"
    lora = LoraConfig(
        r=4,
        lora_alpha=8,
        lora_dropout=0.0,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(GptOssForCausalLM(config), lora).eval()


class ToyPolicy:
    """A trainable policy with a plain sampler."""

    def __init__(self, seed: int = 0) -> None:
        self.model = tiny_model(seed)
        self.refreshed = 0

    @property
    def version(self) -> str:
        return digest_bytes(b"".join(p.detach().numpy().tobytes() for _, p in self.adapter()))

    def adapter(self) -> list[tuple[str, torch.nn.Parameter]]:
        return sorted((n, p) for n, p in self.model.named_parameters() if p.requires_grad)

    def base_bytes(self) -> bytes:
        frozen = sorted((n, p) for n, p in self.model.named_parameters() if not p.requires_grad)
        return b"".join(p.detach().numpy().tobytes() for _, p in frozen)

    def refresh(self) -> None:
        self.refreshed += 1

    def save_adapter(self, folder: Path) -> None:
        self.model.save_pretrained(folder)

    @torch.no_grad()
    def sample(self, prompt: tuple[int, ...], n: int, seed: int, length: int = 3, heat: float = 1.0) -> list[Turn]:
        """Return n turns of at most `length` tokens."""
        noise = torch.Generator().manual_seed(seed % 2**63)
        ids, logprobs = torch.tensor([prompt] * n), torch.zeros((n, 0))
        for _ in range(length):
            scores = torch.log_softmax(self.model(input_ids=ids).logits[:, -1] / heat, -1)
            drawn = torch.multinomial(scores.exp(), 1, generator=noise)
            ids, logprobs = torch.cat([ids, drawn], 1), torch.cat([logprobs, scores.gather(1, drawn)], 1)
        version = self.version
        return [
            _turn(prompt, row[len(prompt) :], lp, heat, version)
            for row, lp in zip(ids.tolist(), logprobs.tolist(), strict=True)
        ]

    @torch.no_grad()
    def value(self, table: torch.Tensor) -> float:
        """Return the exact expected reward of the first-token bandit, averaged over the prompts."""
        rows = [torch.softmax(self.model(input_ids=torch.tensor([p])).logits[0, -1], -1) for p in PROMPTS]
        return float(sum((row * reward).sum() for row, reward in zip(rows, table, strict=True)) / len(PROMPTS))


def _turn(prompt: tuple[int, ...], drawn: list[int], logprobs: list[float], heat: float, version: str) -> Turn:
    stop = drawn.index(EOS) + 1 if EOS in drawn else len(drawn)
    return Turn(
        messages=(),
        text="",
        prompt_ids=prompt,
        completion_ids=tuple(drawn[:stop]),
        logprobs=tuple(logprobs[:stop]),
        temperature=heat,
        finish="stop" if EOS in drawn else "length",
        policy=version,
    )


@dataclass(frozen=True)
class Bandit:
    """Rewards by the first token of the answer."""

    policy: ToyPolicy
    table: torch.Tensor
    """[prompts, VOCAB]"""
    samples: int = 8
    length: int = 3

    def collect(self, iteration: int, seed: int) -> list[Episode]:
        """Return `samples` episodes for each prompt."""
        return [
            Episode(f"prompt-{i}", (turn,), float(self.table[i, turn.completion_ids[0]]), valid=True)
            for i, prompt in enumerate(PROMPTS)
            for turn in self.policy.sample(prompt, self.samples, derive_seed(seed, i), self.length)
        ]


def smooth_table() -> torch.Tensor:
    """Return rewards in 0..1 with another best token for each prompt."""
    tokens = torch.arange(VOCAB)
    return torch.stack([(tokens - 5).abs(), (tokens - 11).abs()]).double().div(-VOCAB).add(1.0)
