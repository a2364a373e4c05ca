"""Loading: short specs are complete, and each problem names its line, what is wrong and what to write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from sia_flow.errors import SpecError
from sia_flow.spec.load import load_experiments
from sia_flow.spec.problems import InvalidSpecError

Write = Callable[..., Path]


def problems(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_experiments(path, overrides)
    assert caught.value.exit_code == 3
    return str(caught.value).splitlines()


def test_the_smallest_spec_has_every_default(write: Write) -> None:
    (experiment,) = load_experiments(write())
    spec = experiment.spec
    assert experiment.apiVersion == "sia-flow/v1"
    assert [(arm.name, arm.levers) for arm in spec.arms] == [
        ("SIA-H", ("harness",)),
        ("SIA-W+H", ("harness", "weights")),
    ]
    assert spec.seeds == (0,)
    assert (spec.rollouts.instances, spec.rollouts.samples, spec.rollouts.workers) == (4, 32, 2)
    assert (spec.policy.base, spec.policy.lora.targets) == ("tiny-gpt-oss", ("attention", "experts"))
    assert (spec.training.algorithm, spec.training.learning_rate, spec.training.max_kl) == (
        "auto",
        None,
        20.0,
    )
    assert (spec.sandbox.memory, spec.sandbox.wall, spec.budget.generations) == (1 << 30, 10.0, 6)
    assert spec.schedule is None
    assert spec.budget.usd is None


def test_an_experiment_cannot_be_changed(write: Write) -> None:
    (experiment,) = load_experiments(write())
    with pytest.raises(ValidationError):
        experiment.spec.budget.generations = 9  # type: ignore[misc]


def test_the_spec_that_ships_is_valid() -> None:
    root = Path(__file__).resolve().parents[2]
    for path in sorted((root / "specs").glob("*.yaml")):
        assert load_experiments(path)


def test_an_unknown_key_is_placed_and_explained(write: Write) -> None:
    path = write("""\
        metadata: {name: a}
        spec:
          task: {name: denoise}
          budget:
            generation: 3
        """)
    (found,) = problems(path)
    assert found == (
        'spec.yaml:5:5: spec.budget.generation: unknown key; did you mean "generations"? '
        "Allowed: generations, gpu, prices, roles, rollouts, tokens, total, usd, wall"
    )


CASES = {
    "budget: {steps: 3}": '3:12: spec.budget.steps: unknown key; it is called "generations" here.',
    "mode: sia": "3:3: spec.mode: unknown key; it belongs to spec.task.mode.",
    "seeds: [0, x]": '3:14: spec.seeds[1]: found "x"; expected a whole number',
    "seeds: [true]": "3:11: spec.seeds[0]: found true; expected a whole number",
    "seeds: [1.0]": "3:11: spec.seeds[0]: found 1.0; expected a whole number",
    "seeds: 3": "3:10: spec.seeds: found 3; expected a list",
    "seeds: []": "3:10: spec.seeds: is empty; name at least one",
    "seeds: [-1]": "3:11: spec.seeds[0]: found -1; must be at least 0",
    "seeds: [0, 1, 0]": "3:17: spec.seeds[2]: the seed 0 stands here twice: remove one",
    "arms: [SIA-X]": '3:10: spec.arms[0]: unknown arm "SIA-X"; did you mean',
    "arms: [SIA-H, {name: sia-h, levers: [weights]}]": '3:17: spec.arms[1]: the arm "sia-h" stands',
    "arms: [{name: a}]": "3:10: spec.arms[0]: the arm pulls no lever: add levers",
    "arms: [{name: a, levers: [harnes]}]": '3:29: spec.arms[0].levers[0]: found "harnes"; did you',
    "arms: [{name: SIA-W, levers: [harness]}]": '3:10: spec.arms[0]: "SIA-W" is the short name',
    "arms: [{name: b, levers: [harness], control: best-of-n}]": "3:10: spec.arms[0]: best-of-n only samples",
    "arms: [{name: b, control: no-feedback}]": "3:10: spec.arms[0]: the arm pulls no lever",
    "arms: [{name: b, levers: [harness, harness]}]": "3:28: spec.arms[0].levers: names a lever twice",
    "arms: [{name: 'a/b', levers: [harness]}]": '3:17: spec.arms[0].name: found "a/b"; use letters',
    "budget: {wall: soon}": '3:18: spec.budget.wall: found "soon"; expected a duration',
    "budget: {generations: 0}": "3:25: spec.budget.generations: found 0; must be at least 1",
    "budget: {usd: -1}": "3:17: spec.budget.usd: found -1; expected dollars such as $5",
    "sandbox: {memory: lots}": '3:21: spec.sandbox.memory: found "lots"; expected a size',
    "training: {learning_rate: .nan}": "3:29: spec.training.learning_rate: found nan; expected a finite",
    "training: {learning_rate: fast}": '3:29: spec.training.learning_rate: found "fast"; expected a number',
    "training: {samples: 2}": "3:23: spec.training.samples: auto compares the samples",
    "training: {algorithm: gpro}": '3:25: spec.training.algorithm: found "gpro"; did you mean "grpo"?',
    "verify: {select: {samples: 1}}": "3:30: spec.verify.select.samples: the paired gate needs",
    "track:": "3:9: spec.track: is empty; expected a map of keys and values: fill it, or remove the key",
    "schedule: {}": "3:13: spec.schedule: needs exactly one",
    "schedule: {cron: '0 3 * * 1', interval: 1h}": "3:13: spec.schedule: needs exactly one",
    "schedule: {cron: '0 3 * *'}": '3:20: spec.schedule.cron: "0 3 * *" has 4 fields',
    "schedule: {cron: 'a; b c d e'}": '3:20: spec.schedule.cron: "a;" is no minute',
    "schedule: {interval: 1h, timezone: Europe/Berln}": 'did you mean "Europe/Berlin"?',
    "policy: {lora: {targets: [attention, attention]}}": "3:28: spec.policy.lora.targets: names a target",
    "policy: {base: ''}": "3:18: spec.policy.base: is empty; fill it, or remove the key",
    "agents: {meta: {type: claude}}": '3:25: spec.agents.meta.type: found "claude"; Allowed: builtin',
}


@pytest.mark.parametrize("line", CASES)
def test_a_wrong_line_is_placed_and_explained(write: Write, line: str) -> None:
    (found,) = problems(write(f"metadata: {{name: a}}\nspec:\n  {line}\n  task: {{name: denoise}}\n"))
    assert found.startswith("spec.yaml:3:")
    assert CASES[line] in found


@pytest.mark.parametrize(
    "line",
    [
        "training: {algorithm: reinforce_kl, samples: 1}",
        "accept: {gate: always}\n  verify: {select: {samples: 1}}",
        "training: {samples: 1}\n  arms: [SIA-H]",
        "budget: {usd: unlimited, wall: 1h30m}",
        "schedule: {cron: '*/15 0-6,12 * JAN-MAR mon', timezone: Europe/Berlin}",
        "arms: [no-feedback, {name: blind, levers: [weights], control: no-feedback}]",
    ],
)
def test_a_rule_does_not_refuse_more_than_it_must(write: Write, line: str) -> None:
    assert load_experiments(write(f"metadata: {{name: a}}\nspec:\n  {line}\n  task: {{name: denoise}}\n"))


def test_levers_in_any_order_are_the_same_arm(write: Write) -> None:
    text = "metadata: {{name: a}}\nspec: {{task: {{name: t}}, arms: [{{name: b, levers: [{}]}}]}}\n"
    one, two = (load_experiments(write(text.format(levers)))[0] for levers in ("harness, weights", "weights, harness"))
    assert one == two


def test_all_problems_come_at_once_in_order_of_lines(write: Write) -> None:
    path = write("""\
        kind: Experimnt
        metadata: {name: A b, name: b}
        specs: {}
        spec:
          seeds: [x]
          budget: {wall: 1 parsec, tokens: 0}
        """)
    lines = [line.split(": ")[0] for line in problems(path)]
    assert lines == [f"spec.yaml:{place}" for place in ("1:7", "2:18", "2:23", "3:1", "4:1", "5:11", "6:18", "6:36")]


def test_many_problems_are_capped_and_counted(write: Write) -> None:
    keys = "\n".join(f"zz{number}: 1" for number in range(30))
    found = problems(write(f"{keys}\nmetadata: {{name: a}}\nspec: {{task: {{name: t}}}}\n"))
    assert len(found) == 21
    assert found[-1] == "... and 10 more problems"


def test_what_is_missing_is_placed_at_its_section(write: Write) -> None:
    assert problems(write("metadata: {name: a}\nspec:\n  seeds: [0]\n")) == [
        "spec.yaml:2:1: spec.task: is required; add it"
    ]


@pytest.mark.parametrize(
    ("version", "advice"),
    [
        ("sia-flow/v2", "newer than this sia-flow"),
        ("sia-flow/v0", "write sia-flow/v1"),
        ("v1", "write sia-flow/v1"),
        ("", "found nothing; write sia-flow/v1"),
    ],
)
def test_another_version_is_the_only_problem(write: Write, version: str, advice: str) -> None:
    (found,) = problems(write(f"apiVersion: {version}\nnonsense: 1\n"))
    assert found.startswith("spec.yaml:1:")
    assert advice in found


@pytest.mark.parametrize(("text", "word"), [("", "is empty"), ("# only\n", "is empty"), ("- a\n", "is no map")])
def test_a_file_without_keys_is_refused(write: Write, text: str, word: str) -> None:
    assert word in problems(write(text))[0]


def test_a_missing_file_names_its_neighbours(write: Write) -> None:
    write(name="specs/denoise.yaml")
    (found,) = problems(Path("specs/denoize.yaml"))
    assert "No such file" in found
    assert 'did you mean "specs/denoise.yaml"?' in found


def test_a_folder_and_bytes_are_no_spec(write: Write, tmp_path: Path) -> None:
    write()
    assert "spec.yaml" in problems(tmp_path)[0]
    Path("bytes.yaml").write_bytes(b"a: \xff\n")
    assert "not UTF-8 text (byte 3)" in problems(Path("bytes.yaml"))[0]
    Path("large.yaml").write_bytes(b"#" * (1 << 20) + b"\n")
    assert "it is no spec" in problems(Path("large.yaml"))[0]


def test_problems_can_be_read_by_programs(write: Write) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        load_experiments(write("metadata: {name: a}\nspec: {task: {name: t}, seeds: 1}\n"))
    (problem,) = caught.value.problems
    assert (problem.mark.source, problem.mark.line, problem.mark.column) == ("spec.yaml", 2, 32)
    assert problem.path == "spec.seeds"
