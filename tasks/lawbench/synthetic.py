"""Made-up cases of the same form, so that tests need no court record: charges that share most of their words.

Invariant: equal arguments give equal cases. Neighbouring charges come in families whose members differ by few words,
as theft and robbery do.
"""

from __future__ import annotations

from random import Random

from tasks.lawbench.wheel import Cases

FAMILY = 3
"""Charges that share half of their words."""
WORDS = 6
LENGTH = (20, 60)


def generate(classes: int = 12, train: int = 24, test: int = 4, seed: int = 0) -> Cases:
    """Return `train` and `test` cases of each of `classes` charges."""
    random = Random(seed)
    common = [_word(random) for _ in range(40)]
    families = [[_word(random) for _ in range(WORDS)] for _ in range(-(-classes // FAMILY))]
    own = [[_word(random) for _ in range(WORDS)] for _ in range(classes)]
    labels = tuple(f"charge {number}" for number in range(classes))

    def text(number: int) -> str:
        pools = (common, families[number // FAMILY], own[number])
        count = random.randint(*LENGTH)
        return "".join(random.choice(random.choices(pools, (0.8, 0.12, 0.08))[0]) for _ in range(count))

    return Cases(
        labels,
        tuple((text(number), labels[number]) for number in range(classes) for _ in range(train)),
        tuple((text(number), labels[number]) for number in range(classes) for _ in range(test)),
    )


def _word(random: Random) -> str:
    return "".join(chr(random.randint(0x4E00, 0x4E00 + 400)) for _ in range(random.choice((2, 2, 3))))
