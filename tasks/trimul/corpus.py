"""A grammar of kernels, from which the tiny policy learns to write the language of the task.

It describes published practice and knows nothing of rewards: of right or wrong, for the variants of the update in the
literature (incoming edges, a gate after the output's linear map, a mask on one side) stand beside the one that the
task asks for; of fast or slow, for every slot departs from the usual choice with a small probability.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from random import Random
from typing import Any

from tasks.trimul.passages import (
    CASTS,
    CONTRACTIONS,
    DIRECTIONS,
    GATES,
    LAYOUTS,
    MASKS,
    NORMS,
    PLACES,
    PROJECTIONS,
    Form,
)

PLAIN = "Write custom_kernel(data)."
REASONS = (
    "exception",
    "syntax",
    "wrong",
    "wrong_later",
    "bad_shape",
    "bad_result",
    "non_finite",
    "helpers",
    "sleeps",
    "no_answer",
    "timeout",
)

RARITY: dict[str, dict[str, float]] = {
    "cast": {"knob": 0.86, "native": 0.04, "double": 0.10},
    "layout": {"last": 0.95, "first": 0.05},
    "norm": {"layer": 0.66, "variance": 0.18, "rms": 0.12, "in_place": 0.04},
    "projection": {"einsum": 0.55, "matmul": 0.40, "stacked": 0.05},
    "gate": {"plain": 0.64, "stable": 0.15, "tanh": 0.10, "compiled": 0.06, "in_place": 0.05},
    "mask": {"both": 0.65, "left": 0.15, "none": 0.20},
    "direction": {"outgoing": 0.60, "incoming": 0.40},
    "contraction": {"einsum": 0.60, "optimized": 0.15, "rows": 0.08, "channels": 0.07, "loops": 0.05, "batched": 0.05},
    "place": {"before": 0.40, "after": 0.60},
}
"""How often each slot takes each choice: the usual ones follow published programs, others are rare."""


@dataclass(frozen=True, slots=True)
class Program:
    """One program of the grammar, slot by slot."""

    cast: str = "knob"
    layout: str = "last"
    norm: str = "layer"
    projection: str = "einsum"
    gate: str = "plain"
    mask: str = "both"
    direction: str = "outgoing"
    contraction: str = "einsum"
    place: str = "before"

    def text(self) -> str:
        """Return the source of the functions, 15 to 25 lines."""
        form = Form(LAYOUTS[self.layout], DIRECTIONS[self.direction], MASKS[self.mask])
        parts = (
            CASTS[self.cast],
            NORMS[self.norm](form),
            PROJECTIONS[self.projection](form),
            GATES[self.gate](form),
            CONTRACTIONS[self.contraction](form),
            PLACES[self.place](form, self.gate),
        )
        helpers = "".join(part.helper for part in parts)
        body = "".join(f"    {line}\n" for part in parts for line in part.lines)
        return f"{helpers}def custom_kernel(data):\n{body}"


SLOTS = tuple(slot.name for slot in fields(Program))


def sample(random: Random) -> Program:
    """Draw one program."""
    return Program(**{slot: _pick(random, RARITY[slot]) for slot in SLOTS})


def mutate(random: Random, program: Program) -> Program:
    """Return the program with one slot changed, drawn without regard to what it scores."""
    slot = random.choice(SLOTS)
    changed: dict[str, Any] = {slot: random.choice([name for name in RARITY[slot] if name != getattr(program, slot)])}
    return replace(program, **changed)


def pairs(seed: int, count: int) -> Iterator[tuple[str, str]]:
    """Yield (prompt, completion) pairs: 60 % plain, 30 % with an exemplar to vary, 10 % after a failure."""
    random = Random(seed)
    for _ in range(count):
        kind = random.random()
        program = sample(random)
        if kind < 0.6:
            yield PLAIN, program.text()
        elif kind < 0.9:
            varied = mutate(random, program)
            varied = mutate(random, varied) if random.random() < 0.5 else varied
            yield exemplar_prompt(program.text()), varied.text()
        else:
            yield retry_prompt(random.choice(REASONS)), program.text()


def base_pairs(data_dir: Path, seed: int, count: int) -> Iterator[tuple[str, str]]:
    """Yield the pairs that the task's own base is trained on; no data goes into them."""
    del data_dir
    return pairs(seed, count)


def exemplar_prompt(function: str) -> str:
    """Return the prompt that shows an earlier program's functions."""
    return f"{PLAIN}\nExample:\n{function}"


def retry_prompt(reason: str) -> str:
    """Return the prompt that names why the last program failed."""
    return f"{PLAIN}\nFailed: {reason}"


def _pick(random: Random, choices: dict[str, float]) -> str:
    return random.choices(list(choices), list(choices.values()))[0]
