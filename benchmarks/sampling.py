"""Tokens sampled in a CPU second: ours, `generate` in a batch, `generate` one prompt at a time.

    python benchmarks/sampling.py [checkpoint folder]

Same model, one thread. The three take turns in one run, so that what else the machine does meets all of them;
medians are printed with their ratio to the slowest way. Without a folder a base is built first on a stand-in.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import GenerationConfig

from sia_flow.policy.local import LocalPolicy
from sia_flow.policy.prompts import render
from sia_flow.policy.tiny import TinyConfig, build_tiny
from sia_flow.protocols import SampleRequest

ROWS, ROUNDS, LIMIT = 128, 5, 48
MESSAGES = ({"role": "user", "content": "Write denoise(counts, seed)."},)
PROGRAM = "def denoise(counts, seed):\n" + "".join(f"    x = step_{c}(x)\n" for c in "abcdefgh") + "    return x\n"


def ours(policy: LocalPolicy, rows: int) -> int:
    """Sample one completion for each of `rows` requests; return the number of tokens."""
    requests = [SampleRequest(MESSAGES, 1, 1.0, LIMIT, seed) for seed in range(rows)]
    return sum(len(c.completion_ids) for group in policy.sample(requests) for c in group)


def generate(policy: LocalPolicy, rows: int) -> int:
    """Do the same by transformers, in one batch."""
    prompt = torch.tensor([render(policy.tokenizer, MESSAGES, 512)]).repeat(rows, 1)
    stop, pad = policy.tokenizer.eos_token_id, policy.tokenizer.pad_token_id
    settings = GenerationConfig(do_sample=True, top_k=0, max_new_tokens=LIMIT, eos_token_id=stop, pad_token_id=pad)
    out = policy.model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=settings)
    return int((out[:, prompt.shape[1] :] != pad).sum())


def one_by_one(policy: LocalPolicy, rows: int) -> int:
    """Do the same by transformers, one prompt after the other; fewer rows, for it is slow."""
    return sum(generate(policy, 1) for _ in range(rows // 8))


def rate(sampler: Callable[[LocalPolicy, int], int], policy: LocalPolicy) -> float:
    """Return tokens in a second of this process's CPU time."""
    start = time.process_time()
    tokens = sampler(policy, ROWS)
    return tokens / (time.process_time() - start)


def main() -> None:
    """Build or load a base, let the samplers take turns, print medians and ratios."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "base"
        if len(sys.argv) < 2:
            build_tiny([(MESSAGES[0]["content"], PROGRAM)] * 64, base, TinyConfig())
        policy = LocalPolicy.load(base)
    samplers = {"ours": ours, "generate in a batch": generate, "generate, one by one": one_by_one}
    for sampler in samplers.values():
        sampler(policy, 8)
    rates: dict[str, list[float]] = {name: [] for name in samplers}
    for _ in range(ROUNDS):
        for name, sampler in samplers.items():
            rates[name].append(rate(sampler, policy))
    slowest = statistics.median(rates["generate, one by one"])
    for name, values in rates.items():
        median = statistics.median(values)
        print(f"{name:22} {median:9.0f} tokens per CPU second {median / slowest:6.1f} x")


if __name__ == "__main__":
    main()
