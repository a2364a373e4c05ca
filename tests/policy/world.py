"""A small language of programs, requests in it, and a policy whose adapter has moved."""

from __future__ import annotations

from pathlib import Path
from random import Random

from sia_flow.policy.adapters import LoraConfig
from sia_flow.policy.local import LocalPolicy
from sia_flow.policy.tiny import TinyConfig
from sia_flow.policy.warmup import Schedule
from sia_flow.protocols import SampleRequest

PLAIN = "Write denoise(counts, seed)."
SMALL = TinyConfig(pieces=64, schedule=Schedule(steps=120, batch=32, learning_rate=1e-2))


def draw(random: Random) -> str:
    transform = random.choices(["np.sqrt(x)", "np.log1p(x)"], [0.8, 0.2])[0]
    lines = [
        f"x = {transform}",
        "p = kit.affinity(x, knn=KNN)",
        f"y = kit.diffuse(p, x, t={random.choice([1, 2, 3])})",
    ]
    if random.random() < 0.3:
        lines.append(f"y = kit.power(y, {random.choice([0.5, 1.25])})")
    return "def denoise(counts, seed):\n" + "".join(f"    {line}\n" for line in [*lines, "return y"])


def corpus(seed: int, count: int) -> list[tuple[str, str]]:
    random = Random(seed)
    prompts = [PLAIN, PLAIN, f"{PLAIN}\nFailed: exception"]
    return [
        (f"{PLAIN}\nExample:\n{program}" if random.random() < 0.2 else random.choice(prompts), program)
        for program in (draw(random) for _ in range(count))
    ]


def request_for(
    text: str = PLAIN, n: int = 1, seed: int = 0, temperature: float = 1.0, max_tokens: int = 48
) -> SampleRequest:
    return SampleRequest(({"role": "user", "content": text},), n, temperature, max_tokens, seed)


def moved(base: Path, seed: int = 0, **settings: object) -> LocalPolicy:
    """A policy whose adapter really changes the base."""
    import torch

    policy = LocalPolicy.load(base, lora=LoraConfig(seed=seed, **settings), trainable=True)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in (p for name, p in policy.model.named_parameters() if "lora_B" in name):
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return policy
