"""One GRPO iteration, sampling and update: ours against TRL's GRPOTrainer.

Same base, adapter shape, prompts, group size, steps and token limit; CPU seconds of one thread, the engines
in turns within one process, a fresh adapter each time. Ours includes its checkpoint of every iteration.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from sia_flow.canonical import derive_seed
from sia_flow.lineage.records import Turn
from sia_flow.policy.adapters import LoraConfig
from sia_flow.policy.local import LocalPolicy
from sia_flow.protocols import SampleRequest
from sia_flow.training.trainer import pull
from sia_flow.training.types import Episode, PullConfig

REQUEST = "Write denoise(counts, seed)."
PROMPTS = (REQUEST, *(f"{REQUEST}\nFailed: {reason}" for reason in ("exception", "syntax", "bad_shape")))


def reward(text: str) -> float:
    """Return a cheap stand-in for a verifier: how often the program calls its kit."""
    return text.count("kit.") / 10


def messages(prompt: str) -> tuple[dict[str, str], ...]:
    """Return a prompt as a chat."""
    return ({"role": "user", "content": prompt},)


class Ours:
    """Our trainer on a fresh adapter."""

    def __init__(self, base: Path, group: int, limit: int) -> None:
        self.base, self.group, self.limit = base, group, limit

    def collect(self, _: int, seed: int) -> Sequence[Episode]:
        """Return one group of episodes for each prompt."""
        requests = [SampleRequest(messages(p), self.group, 1.0, self.limit, derive_seed(seed, p)) for p in PROMPTS]
        version = self.policy.version
        return [
            Episode(str(i), (self._turn(request, one, version),), reward(one.text), valid=True)
            for i, (request, answers) in enumerate(zip(requests, self.policy.sample(requests), strict=True))
            for one in answers
        ]

    def _turn(self, request: SampleRequest, one: object, version: str) -> Turn:
        fields = {name: getattr(one, name) for name in ("text", "prompt_ids", "completion_ids", "logprobs", "finish")}
        return Turn(messages=request.messages, temperature=1.0, policy=version, **fields)

    def run(self, iterations: int) -> tuple[float, float, float]:
        """Return CPU seconds and sampled tokens of an iteration, and the last mean reward."""
        self.policy = LocalPolicy.load(self.base, lora=LoraConfig(), trainable=True)
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            update = pull(self.policy, self.collect, PullConfig(iterations=iterations), Path(folder))
            seconds = time.process_time() - start
        tokens = sum(step["tokens"] for step in update.steps)
        return seconds / iterations, tokens / iterations, update.steps[-1]["reward_mean"]


class Theirs:
    """TRL's GRPOTrainer on an adapter of the same shape."""

    def __init__(self, base: Path, group: int, limit: int) -> None:
        self.base, self.group, self.limit = base, group, limit
        self.tokens = 0
        self.rewards: list[float] = []

    def score(
        self, completions: list[list[dict[str, str]]], completion_ids: list[list[int]], **_: object
    ) -> list[float]:
        """Return the rewards of a batch, counting its tokens."""
        self.tokens += sum(len(ids) for ids in completion_ids)
        self.rewards = [reward(answer[0]["content"]) for answer in completions]
        return self.rewards

    def run(self, iterations: int) -> tuple[float, float, float]:
        """Return CPU seconds and sampled tokens of an iteration, and the last mean reward."""
        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer

        policy = LocalPolicy.load(self.base, lora=LoraConfig(), trainable=True)
        rows = [{"prompt": list(messages(p))} for p in PROMPTS] * iterations
        with tempfile.TemporaryDirectory() as folder:
            settings = GRPOConfig(
                output_dir=folder,
                per_device_train_batch_size=self.group * len(PROMPTS),
                num_generations=self.group,
                num_iterations=2,
                max_steps=2 * iterations,
                max_completion_length=self.limit,
                learning_rate=1e-3,
                lr_scheduler_type="constant",
                adam_beta2=0.95,
                beta=0.02,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                bf16=False,
                gradient_checkpointing=False,
                use_cpu=True,
                report_to=[],
                save_strategy="no",
                disable_tqdm=True,
                logging_strategy="no",
                router_aux_loss_coef=0.0,
            )
            trainer = GRPOTrainer(
                model=policy.model,
                reward_funcs=self.score,
                args=settings,
                train_dataset=Dataset.from_list(rows),
                processing_class=policy.tokenizer,
            )
            before, start = self.tokens, time.process_time()
            trainer.train()
            seconds = time.process_time() - start
        return seconds / iterations, (self.tokens - before) / iterations, statistics.mean(self.rewards)


def main() -> None:
    """Print one line a round and the ratio of the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path, nargs="?", default=Path("models/tiny-gpt-oss"))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--group", type=int, default=32)
    parser.add_argument("--limit", type=int, default=96)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TRL_EXPERIMENTAL_SILENCE="1")
    engines = {"ours": Ours(options.base, options.group, options.limit)}
    engines["trl"] = Theirs(options.base, options.group, options.limit)
    costs: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(-1, options.rounds):
        for name, engine in engines.items():
            seconds, tokens, mean = engine.run(options.iterations)
            if number < 0:
                continue
            costs[name].append(seconds)
            cost = f"{seconds:7.3f} CPU-s {tokens:7.0f} tokens an iteration"
            print(f"round {number} {name:4} {cost}, reward {mean:.3f}")
    medians = {name: statistics.median(values) for name, values in costs.items()}
    ratio = medians["trl"] / medians["ours"]
    print(f"median ours {medians['ours']:.3f}  trl {medians['trl']:.3f}  trl/ours {ratio:.2f}x")


if __name__ == "__main__":
    main()
