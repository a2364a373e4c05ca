from __future__ import annotations

from collections import Counter
from itertools import islice
from random import Random

import numpy as np
import pytest

from tasks.denoise import corpus, kit

FLAT = corpus.Rarity((1, 1, 1, 1), (1, 1, 1), 0.4, 0.3)


def run(function: str, counts: np.ndarray) -> np.ndarray:
    scope = {"np": np, "kit": kit, "KNN": 5, "T": 3, "N_PCA": 20, "DECAY": 1.0}
    exec(function, scope)
    return scope["denoise"](counts, 0)


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    random = np.random.default_rng(2)
    return random.poisson(random.gamma(0.5, 2.0, (30, 25))).astype(float) + (np.arange(25) == 0)


def test_every_program_runs_and_returns_the_right_shape(counts: np.ndarray) -> None:
    random = Random(4)
    for _ in range(300):
        program = corpus.sample(random, FLAT)
        for candidate in (program, corpus.mutate(random, program)):
            found = run(candidate.text(), counts)
            assert found.shape == counts.shape, candidate
            assert np.isfinite(found).all(), candidate
            assert found.min() >= 0, candidate


def test_the_usual_program_is_magic() -> None:
    lines = corpus.Program().text().splitlines()
    assert lines[0] == "def denoise(counts, seed):"
    assert lines[-1] == "    return y"
    assert lines[2] == "    x = np.sqrt(x)"
    assert lines[4:7] == [
        "    y = kit.diffuse_pca(p, x, t=T, n_pca=N_PCA)",
        "    y = y ** 2",
        "    y = kit.rescale(y, counts)",
    ]


def test_rarity_is_what_it_says() -> None:
    random = Random(0)
    found = [corpus.sample(random) for _ in range(20_000)]
    steps = Counter(name for p in found for name, _ in p.steps)
    assert set(steps) == set(corpus.STEPS)
    for count in steps.values():
        assert count / len(found) == pytest.approx(corpus.USUAL.step, abs=0.006)
    literals = Counter(value for p in found for name, value in p.steps if name == "power")
    assert set(literals) == set(corpus.STEPS["power"][1])
    assert Counter(p.average for p in found)["expression"] / len(found) == pytest.approx(0.03, abs=0.006)
    plain = [p for p in found if not p.steps and not p.late and p.average != "expression" and p.transform == "sqrt"]
    assert len(plain) / len(found) > 0.6


def test_pairs_have_the_forms_that_scaffolds_use() -> None:
    found = list(corpus.pairs(3, 4000))
    kinds = Counter("plain" if p == corpus.PLAIN else p[len(corpus.PLAIN) :].split(":")[0].strip() for p, _ in found)
    assert kinds["plain"] / len(found) == pytest.approx(0.7, abs=0.03)
    assert kinds["Example"] / len(found) == pytest.approx(0.2, abs=0.03)
    assert kinds["Failed"] / len(found) == pytest.approx(0.1, abs=0.03)
    for prompt, completion in found:
        assert completion.startswith("def denoise(counts, seed):\n")
        assert completion.endswith("    return y\n")
        if "Example:" in prompt:
            shown = prompt.removeprefix(f"{corpus.PLAIN}\nExample:\n")
            assert shown.startswith("def denoise")
            changed = set(shown.splitlines()) ^ set(completion.splitlines())
            assert len(changed) <= 12


def test_an_exemplar_is_nearly_always_varied() -> None:
    pairs = [(p, c) for p, c in corpus.pairs(5, 3000) if "Example:" in p]
    same = [1 for p, c in pairs if p.endswith(c)]
    assert len(same) / len(pairs) < 0.06


def test_a_seed_names_a_stream() -> None:
    assert list(corpus.pairs(1, 50)) == list(islice(corpus.pairs(1, 500), 50))
    assert list(corpus.pairs(1, 50)) != list(corpus.pairs(2, 50))


def test_one_change_is_one_change() -> None:
    random = Random(7)
    for _ in range(500):
        before = corpus.sample(random, FLAT)
        after = corpus.mutate(random, before)
        slots = [n for n in ("transform", "average", "steps", "late") if getattr(before, n) != getattr(after, n)]
        assert len(slots) <= 1
        assert abs(len(before.steps) - len(after.steps)) <= 1
