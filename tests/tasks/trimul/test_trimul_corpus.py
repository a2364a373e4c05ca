"""The corpus: what its programs are, and that it knows nothing of what pays."""

from __future__ import annotations

import ast
import itertools
from collections import Counter
from dataclasses import asdict, replace
from random import Random

import numpy as np
import pytest

from sia_flow.scaffold.contract import check
from sia_flow.verify.programs import REASONS as SANDBOX_REASONS
from tasks.trimul import corpus
from tasks.trimul.cases import CHECKS, draw
from tests.tasks.trimul.kernels import load, rung

RIGHT = {"mask": {"both"}, "direction": {"outgoing"}, "place": {"before"}, "norm": {"layer", "variance", "in_place"}}
PLAIN = corpus.Program()
FEW = [replace(PLAIN, **{slot: name}) for slot, names in corpus.RARITY.items() for name in names]
FIRST = [replace(program, layout="first", projection="matmul") for program in FEW]
REWORKED = dict.fromkeys(p for p in (*FEW, *FIRST) if "compiled" not in p.gate and p.contraction != "loops")


def is_right(program: corpus.Program) -> bool:
    return all(asdict(program)[slot] in names for slot, names in RIGHT.items())


def runs_right(program: corpus.Program, dtype: str = "float64") -> bool:
    kernel, reference = load(program.text(), dtype), rung("reference")
    for seed, case in enumerate(CHECKS[1:]):
        data = draw(case, seed)
        try:
            found = kernel(data)
        except ValueError:
            return False
        if found.shape != data["x"].shape or np.abs(found - reference(data)).max() > 1e-3:
            return False
    return True


def test_a_program_is_right_where_its_conventions_are_the_tasks():
    wrong = [program for program in REWORKED if runs_right(program) != is_right(program)]
    assert not wrong


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["last", "first"])
def test_compiled_passages_are_right_in_both_layouts(layout):
    assert runs_right(replace(PLAIN, layout=layout, gate="compiled", contraction="loops"), "float32")


def test_every_combination_parses_and_each_slot_shows_in_the_text():
    random = Random(0)
    for _ in range(300):
        choices = {slot: random.choice(list(names)) for slot, names in corpus.RARITY.items()}
        ast.parse(corpus.Program(**choices).text())
    texts = [program.text() for program in FEW]
    assert len(set(texts)) == len(FEW) - len(corpus.RARITY) + 1


def test_probabilities_are_those_that_are_written_down_and_most_programs_are_wrong():
    random = Random(1)
    drawn = [corpus.sample(random) for _ in range(4000)]
    for slot, names in corpus.RARITY.items():
        assert sum(names.values()) == pytest.approx(1.0)
        counts = Counter(asdict(program)[slot] for program in drawn)
        assert all(abs(counts[name] / 4000 - share) < 0.03 for name, share in names.items())
    assert 0.1 < np.mean([is_right(program) for program in drawn]) < 0.2


def test_a_mutation_changes_one_slot_each_as_often():
    random = Random(2)
    changed = Counter()
    for _ in range(900):
        before, after = asdict(PLAIN), asdict(corpus.mutate(random, PLAIN))
        (slot,) = (slot for slot in before if before[slot] != after[slot])
        changed[slot] += 1
    assert set(changed) == set(corpus.SLOTS)
    assert min(changed.values()) > 60


def test_pairs_depend_on_the_seed_alone_and_show_examples_and_failures():
    first, again, other = (list(corpus.pairs(seed, 400)) for seed in (3, 3, 4))
    assert first == again != other
    kinds = Counter(prompt.removeprefix(corpus.PLAIN).split("\n", 2)[1:2] != [] for prompt, _ in first)
    assert 100 < kinds[True] < 220
    assert any("Failed: wrong_later" in prompt for prompt, _ in first)
    assert all(prompt.startswith(corpus.PLAIN) for prompt, _ in first)
    own = {"wrong", "wrong_later", "non_finite", "helpers", "sleeps", "no_answer"}
    assert set(corpus.REASONS) <= own | set(SANDBOX_REASONS.values())


def test_the_scaffold_puts_the_knobs_before_what_the_policy_wrote(task):
    files = task.reference()
    assert check(files) == []
    space = {}
    exec(compile(files["scaffold.py"], "scaffold.py", "exec"), space)
    for program in itertools.islice(FEW, 0, None, 4):
        text = space["assemble"](space["extract"]("Here it is:\n" + program.text()))
        assert text.count("custom_kernel") == 1
        assert load(text.replace('"float64"', '"float32"'))
        assert program.text() in text
        assert text.find(space["START"]) == text.find(program.text())
