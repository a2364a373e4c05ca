"""One pull on recorded episodes, in this process or, started by accelerate, in several."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from sia_flow.canonical import digest  # noqa: E402
from sia_flow.lineage.jsonl import load_lines  # noqa: E402
from sia_flow.lineage.records import Turn  # noqa: E402
from sia_flow.policy.adapters import LoraConfig  # noqa: E402
from sia_flow.policy.local import LocalPolicy  # noqa: E402
from sia_flow.training.trainer import pull  # noqa: E402
from sia_flow.training.types import Engine, Episode, PullConfig, WeightUpdate  # noqa: E402

RANK = 4


def recorded(turns: Sequence[Turn], version: str) -> list[Episode]:
    """The turns as if the current policy had sampled them, with rewards that differ."""
    reward = {turn.text: int(digest(turn.text)[:4], 16) / 65536 for turn in turns}
    return [
        Episode(turn.messages[0]["content"], (turn.model_copy(update={"policy": version}),), reward[turn.text], True)
        for turn in turns
    ]


def train(base: Path, file: Path, work: Path, engine: Engine, algorithm: str) -> WeightUpdate:
    """Two iterations of two steps on the episodes in a file."""
    lora = LoraConfig(rank=RANK, alpha=8, targets=("attention", "experts"), seed=1)
    policy = LocalPolicy.load(base, lora=lora, trainable=True)
    turns = load_lines(file.read_bytes(), Turn)
    plan = PullConfig(algorithm=algorithm, engine=engine, iterations=2, epochs=2, learning_rate=1e-2, micro_batch=3)
    return pull(policy, lambda *_: recorded(turns, policy.version), replace(plan, max_kl=1e9), work)


def main() -> None:
    """Join the launch; the first process trains, the others follow."""
    from flows.sharded import load
    from sia_flow.training.backends.follower import follow
    from sia_flow.training.backends.processes import joined

    base, file, work, *algorithms = sys.argv[1:]
    with joined() as leader:
        if not leader:
            follow(load)
            return
        for algorithm in algorithms:
            train(Path(base), Path(file), Path(work) / algorithm, "fsdp", algorithm)


if __name__ == "__main__":
    main()
