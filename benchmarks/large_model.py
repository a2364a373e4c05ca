"""A randomly initialised gpt-oss of a published shape on this machine's GPU: what sampling and a LoRA step take.

Beside each figure stands what `sia-flow plan --gpu` estimates for it. Without a GPU it says so and measures nothing;
`--rehearse` runs all of it on a CPU at a reduced width, which proves that it runs, not how fast a GPU is.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sia_flow.lineage.records import Turn
from sia_flow.plan import memory
from sia_flow.plan.devices import DEVICES, Device
from sia_flow.plan.footprint import forward_flops, step_bytes
from sia_flow.plan.memory import Load
from sia_flow.plan.shape import PUBLISHED, Shape
from sia_flow.policy import adapters
from sia_flow.policy.checkpoint import kernels
from sia_flow.policy.decoding import Row, decode
from sia_flow.training.admission import settle
from sia_flow.training.backends.peft import PeftBackend
from sia_flow.training.batch import Batch, collate
from sia_flow.training.credit import credit
from sia_flow.training.types import Episode, PullConfig
from sia_flow.training.update import update

GIB = float(1 << 30)


@dataclass
class Random:
    """A policy of random weights; only what a backend asks of one."""

    model: Any
    version: str = "random"

    def refresh(self) -> None:
        """Nothing is derived from the adapter here."""

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter as PEFT does."""
        self.model.save_pretrained(folder)


def build(shape: Shape, rank: int, targets: tuple[Any, ...], device: str) -> Random:
    """Return a model of the shape with a fresh adapter, checkpointing on."""
    from transformers import GptOssConfig, GptOssForCausalLM

    config = GptOssConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        num_local_experts=shape.experts,
        num_experts_per_tok=shape.active,
        sliding_window=shape.window,
        tie_word_embeddings=False,
    )
    asked = kernels("gpt_oss")
    config._attn_implementation = asked["attn_implementation"]  # noqa: SLF001 - no public setter before loading
    config._experts_implementation = asked["experts_implementation"]  # noqa: SLF001
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = GptOssForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    model.requires_grad_(requires_grad=False)
    wrapped = adapters.create(model.eval(), adapters.LoraConfig(rank, 2 * rank, targets))
    adapters.set_trainable(wrapped, True)
    wrapped.gradient_checkpointing_enable({"use_reentrant": False})
    wrapped.enable_input_require_grads()
    return Random(wrapped)


def timed(action: Callable[[], object], device: str, repeats: int) -> float:
    """Return the median seconds of an action, after one that is not counted."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        action()
        if device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def episodes(shape: Shape, calls: int, prompt: int, completion: int) -> Batch:
    """Return random rows with rewards that differ."""
    random = np.random.default_rng(0)
    found = []
    for i in range(calls):
        ids = random.integers(5, shape.vocab, prompt + completion).tolist()
        turn = Turn(
            messages=({"role": "user", "content": ""},),
            text="",
            prompt_ids=tuple(ids[:prompt]),
            completion_ids=tuple(ids[prompt:]),
            logprobs=(-1.0,) * completion,
            temperature=1.0,
            finish="length",
            policy="random",
        )
        found.append(Episode(str(i % 2), (turn,), float(random.random()), valid=True))
    return collate(found)


def measure(shape: Shape, arguments: argparse.Namespace, device: str, table: Device | None) -> None:
    """Print what sampling and training take."""
    start = time.perf_counter()
    policy = build(shape, arguments.rank, tuple(arguments.targets), device)
    print(f"built {shape.name}: {shape.total / 1e9:.2f}B parameters in {time.perf_counter() - start:.0f} s")
    real = sum(p.numel() for p in policy.model.parameters() if not p.requires_grad)
    print(f"parameters: {real} counted, {shape.total} estimated")
    sampling(policy, shape, arguments, device, table)
    training(policy, shape, arguments, device, table)


def sampling(policy: Random, shape: Shape, arguments: argparse.Namespace, device: str, table: Device | None) -> None:
    """Sample by our own decoder: transformers' kernels, no paged cache; a server is faster."""
    prompt = [7] * arguments.prompt
    rows = [Row(0, 1.0, np.random.default_rng(i).random(arguments.completion)) for i in range(arguments.rows)]
    seconds = timed(lambda: decode(policy.model, [prompt], rows, frozenset()), device, arguments.repeats)
    tokens = arguments.rows * arguments.completion
    print(
        f"sampling {arguments.rows} x {arguments.completion} tokens: {seconds:.2f} s, {tokens / seconds:.0f} tokens/s"
    )
    if table is not None:
        # Every expert is read in bfloat16 here, where `step_bytes` has a server's mxfp4.
        read = memory.weights(shape, "bf16") - 2.0 * shape.embedding
        print(f"  the bandwidth alone allows {arguments.rows * table.bandwidth / read:.0f} tokens/s in bf16,")
        print(f"  {arguments.rows * table.bandwidth / step_bytes(shape, arguments.rows):.0f} with experts in mxfp4")


def training(policy: Random, shape: Shape, arguments: argparse.Namespace, device: str, table: Device | None) -> None:
    """Take GRPO steps on random rows."""
    rows, length = arguments.rows, arguments.prompt + arguments.completion
    plan = PullConfig(algorithm="grpo", epochs=1, learning_rate=4e-5, micro_batch=arguments.micro)
    settings = settle(plan)
    backend = PeftBackend(policy, settings)
    batch = episodes(shape, rows, arguments.prompt, arguments.completion)
    batch = replace(
        batch, **{name: getattr(batch, name).to(device) for name in batch.__slots__ if name != "valid_rate"}
    )
    policy.model.train()

    def step() -> None:
        credited = credit(batch, backend.measure(batch), settings)
        if credited is None or update(backend, credited, settings, settings.learning_rate) is None:
            raise SystemExit("the step broke down")

    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    seconds = timed(step, device, arguments.repeats)
    flops = rows * 6 * forward_flops(shape, length)
    print(f"a GRPO step on {rows} x {length} tokens: {seconds:.2f} s, {rows * length / seconds:.0f} tokens/s")
    if table is not None:
        print(f"  {flops / seconds / 1e12:.0f} TFLOP/s, {flops / seconds / table.flops:.1%} of the peak")
    load = Load(arguments.micro, length, arguments.completion, arguments.rank, tuple(arguments.targets))
    expected = memory.training(shape, load)
    if device != "cpu":
        print(f"  peak {torch.cuda.max_memory_allocated() / GIB:.1f} GiB, estimated {expected / GIB:.1f} GiB")


def main() -> None:
    """Read the options and measure, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=sorted(PUBLISHED), default="gpt-oss-20b")
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--targets", nargs="+", choices=("attention", "experts"), default=["attention"])
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--micro", type=int, default=2, help="rows in one forward pass")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--completion", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rehearse", action="store_true", help="run on a CPU at a reduced width")
    arguments = parser.parse_args()
    shape = PUBLISHED[arguments.shape]
    if arguments.rehearse:
        torch.set_num_threads(1)
        small = replace(shape, name="reduced", layers=2, sliding=1, hidden=64, heads=4, kv_heads=1, intermediate=64)
        shape = replace(small, vocab=1000, attention_extra=4, experts=8)
        arguments.rows, arguments.prompt, arguments.completion, arguments.repeats = 4, 32, 16, 1
        measure(shape, arguments, "cpu", None)
        return
    if not torch.cuda.is_available():
        print("no GPU here: nothing was measured (--rehearse runs a reduced model on the CPU)")
        return
    name = torch.cuda.get_device_name()
    table = next((device for key, device in DEVICES.items() if key in name), None)
    free = torch.cuda.mem_get_info()[0]
    load = Load(arguments.micro, arguments.prompt + arguments.completion, arguments.completion, arguments.rank)
    if memory.training(shape, load) > free:
        print(f"{shape.name} takes {memory.training(shape, load) / GIB:.0f} GiB, {name} has {free / GIB:.0f} GiB free")
        return
    print(f"{name}, torch {torch.__version__}")
    measure(shape, arguments, "cuda", table)


if __name__ == "__main__":
    main()
