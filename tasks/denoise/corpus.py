"""A grammar of valid denoising programs, from which the tiny policy learns to write the language of the task.

It describes published practice and knows nothing of rewards: most programs are MAGIC, and every structural
slot departs from the usual choice with a small probability. Every program of the grammar runs and returns
the right shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from random import Random

PLAIN = "Write denoise(counts, seed)."
REASONS = (
    "exception",
    "syntax",
    "bad_shape",
    "bad_result",
    "negative",
    "non_finite",
    "guard",
    "no_answer",
    "timeout",
)

TRANSFORMS = {
    "sqrt": ("np.sqrt(x)", "y ** 2"),
    "log": ("np.log1p(x)", "np.maximum(np.expm1(y), 0)"),
    "freeman_tukey": ("kit.freeman_tukey(x)", "kit.inverse_freeman_tukey(y)"),
    "anscombe": ("kit.anscombe(x)", "kit.inverse_anscombe(y)"),
}
AVERAGES = {
    "components": "kit.diffuse_pca(p, x, t=T, n_pca=N_PCA)",
    "exact": "kit.diffuse(p, x, t=T)",
    "expression": "kit.diffuse(p, kit.library_normalize(counts), t=T)",
}
STEPS = {
    "power": ("kit.power(y, {})", (0.9, 1.05, 1.1, 1.2, 1.5)),
    "blend": ("kit.blend(y, kit.library_normalize(counts), {})", (0.05, 0.1, 0.2, 0.3, 0.5)),
    "shrink": ("kit.shrink(y, {})", (0.05, 0.1, 0.2, 0.3, 0.5)),
    "contrast": ("kit.contrast(y, {})", (0.1, 0.2, 0.3, 0.5, 1.0)),
    "low_rank": ("np.maximum(kit.low_rank(y, {}), 0)", (5, 10, 20, 50)),
}
LATE = {"genes": "kit.match_genes(y, counts)", "round": "np.round(y)"}


@dataclass(frozen=True, slots=True)
class Rarity:
    """How often each slot takes each choice: the usual ones follow published programs, others are rare."""

    transforms: tuple[float, ...] = (0.90, 0.06, 0.02, 0.02)
    averages: tuple[float, ...] = (0.50, 0.47, 0.03)
    step: float = 0.04
    late: float = 0.02


@dataclass(frozen=True, slots=True)
class Program:
    """One program of the grammar, slot by slot; a step is its name with the literal number that it takes."""

    transform: str = "sqrt"
    average: str = "components"
    steps: tuple[tuple[str, float], ...] = ()
    late: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the source of the function, 8 to 14 lines."""
        forward, inverse = TRANSFORMS[self.transform]
        lines = ["x = kit.library_normalize(counts)", f"x = {forward}"]
        lines.append("p = kit.affinity(x, knn=KNN, n_pca=N_PCA, decay=DECAY)")
        lines.append(f"y = {AVERAGES[self.average]}")
        if self.average != "expression":
            lines.append(f"y = {inverse}")
        lines += [f"y = {STEPS[name][0].format(value)}" for name, value in self.steps]
        lines.append("y = kit.rescale(y, counts)")
        lines += [f"y = {LATE[name]}" for name in self.late]
        body = "".join(f"    {line}\n" for line in [*lines, "return y"])
        return f"def denoise(counts, seed):\n{body}"


USUAL = Rarity()


def sample(random: Random, rarity: Rarity = USUAL) -> Program:
    """Draw one program."""
    steps = [draw_step(random, name) for name in STEPS if random.random() < rarity.step]
    random.shuffle(steps)
    return Program(
        _pick(random, TRANSFORMS, rarity.transforms),
        _pick(random, AVERAGES, rarity.averages),
        tuple(steps),
        tuple(name for name in LATE if random.random() < rarity.late),
    )


def draw_step(random: Random, name: str) -> tuple[str, float]:
    """Draw the literal number of a step, uniformly from its grid."""
    return name, random.choice(STEPS[name][1])


def _pick(random: Random, choices: Mapping[str, object], weights: tuple[float, ...]) -> str:
    return random.choices(list(choices), weights)[0]


def mutate(random: Random, program: Program) -> Program:
    """Return the program with one structural change, drawn without regard to what it scores."""
    slot = random.choice(("transform", "average", "step", "step", "late"))
    if slot == "transform":
        return replace(program, transform=random.choice([n for n in TRANSFORMS if n != program.transform]))
    if slot == "average":
        return replace(program, average=random.choice([n for n in AVERAGES if n != program.average]))
    if slot == "late":
        return replace(program, late=_toggle(program.late, random.choice(list(LATE))))
    return replace(program, steps=_change_steps(random, program.steps))


def pairs(seed: int, count: int) -> Iterator[tuple[str, str]]:
    """Yield (prompt, completion) pairs: 70 % plain, 20 % with an exemplar to vary, 10 % after a failure."""
    random = Random(seed)
    for _ in range(count):
        kind = random.random()
        program = sample(random)
        if kind < 0.7:
            yield PLAIN, program.text()
        elif kind < 0.9:
            varied = mutate(random, program)
            varied = mutate(random, varied) if random.random() < 0.5 else varied
            yield exemplar_prompt(program.text()), varied.text()
        else:
            yield retry_prompt(random.choice(REASONS)), program.text()


def exemplar_prompt(function: str) -> str:
    """Return the prompt that shows an earlier program's function."""
    return f"{PLAIN}\nExample:\n{function}"


def retry_prompt(reason: str) -> str:
    """Return the prompt that names why the last program failed."""
    return f"{PLAIN}\nFailed: {reason}"


def _change_steps(random: Random, steps: tuple[tuple[str, float], ...]) -> tuple[tuple[str, float], ...]:
    """Add a step that is missing; of one that is there, drop it or draw its number again."""
    name = random.choice(list(STEPS))
    if name not in dict(steps):
        place = random.randint(0, len(steps))
        return (*steps[:place], draw_step(random, name), *steps[place:])
    if random.random() < 0.5:
        return tuple(step for step in steps if step[0] != name)
    return tuple(draw_step(random, name) if step[0] == name else step for step in steps)


def _toggle(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(n for n in LATE if (n in names) != (n == name))
