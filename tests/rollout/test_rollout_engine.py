"""The rollout engine on the real sandbox and a real policy: what it writes, and that nothing can steer it."""

from __future__ import annotations

import pytest

from sia_flow.canonical import derive_seed
from sia_flow.lineage.records import Trajectory
from sia_flow.loop.lab import Lab
from sia_flow.policy.prompts import reply
from sia_flow.protocols import Instance
from sia_flow.rollout.engine import Work, plan_work
from sia_flow.rollout.host import MAX_TURNS

ASK = [{"role": "user", "content": "Write denoise(counts, seed)."}]
ONCE = f"def solve(job):\n    return job.generate({ASK!r})[0]\n"
TALKER = f"""
def solve(job):
    first = job.generate({ASK!r}, n=2, temperature=2.5)
    again = [*{ASK!r}, {{"role": "assistant", "content": first[0]}}, {{"role": "user", "content": "Again."}}]
    second = job.generate(again, max_tokens=8)
    return first[1] + second[0]
"""
TRY = """
def solve(job):
    try:
        return "answered: " + repr({call})
    except RuntimeError as error:
        return "refused: " + str(error)
"""


@pytest.fixture(scope="module")
def instance(lab: Lab) -> Instance:
    return lab.instances("train", 2)[0]


def roll(lab: Lab, source: str, work: list[Work]) -> list[Trajectory]:
    return lab.engine("train").run({"scaffold.py": source}, lab.policy(None), work)


def one(lab: Lab, instance: Instance, source: str, seed: int = 7) -> Trajectory:
    return roll(lab, source, [Work(instance, 0, seed)])[0]


def test_a_trajectory_is_token_exact(lab: Lab, instance: Instance) -> None:
    found = one(lab, instance, TALKER)
    assert (found.status, found.instance, found.sample, found.seed) == ("OK", instance.id, 0, 7)
    assert [turn.temperature for turn in found.turns] == [2.5, 2.5, 1.0]
    policy = lab.policy(None)
    for turn in found.turns:
        assert turn.policy == policy.version
        assert reply(policy.tokenizer, list(turn.completion_ids)) == turn.text
        assert len(turn.logprobs) == len(turn.completion_ids)
        assert max(turn.logprobs) <= 0.0
    assert found.turns[0].prompt_ids == found.turns[1].prompt_ids
    assert found.turns[0].completion_ids != found.turns[1].completion_ids
    assert len(found.turns[2].completion_ids) <= 8
    assert found.turns[2].messages[1] == {"role": "assistant", "content": found.turns[0].text}
    assert found.answer == found.turns[1].text + found.turns[2].text


def test_spend_counts_what_was_sampled(lab: Lab, instance: Instance) -> None:
    found = one(lab, instance, TALKER)
    assert found.spend.rollouts == 1
    assert found.spend.prompt_tokens == sum(len(turn.prompt_ids) for turn in found.turns)
    assert found.spend.completion_tokens == sum(len(turn.completion_ids) for turn in found.turns)


def tokens(found: Trajectory) -> tuple[object, ...]:
    """All of a trajectory but its log-probabilities, whose last bits depend on the shape of a batch."""
    return (found.answer, *((turn.messages, turn.prompt_ids, turn.completion_ids) for turn in found.turns))


def test_a_trajectory_depends_on_its_seed_alone(lab: Lab) -> None:
    work = plan_work(lab.instances("train", 2), 4, 0, "rollout", "")
    alike = roll(lab, TALKER, work)
    assert alike == roll(lab, TALKER, work)
    for item, found in zip(work[:3], alike, strict=False):
        (alone,) = roll(lab, TALKER, [item])
        assert tokens(alone) == tokens(found)
        for mine, theirs in zip(alone.turns, found.turns, strict=True):
            assert mine.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)
    assert [tokens(t) for t in roll(lab, TALKER, work[::-1])] == [tokens(t) for t in alike[::-1]]
    assert len({found.turns[0].completion_ids for found in alike}) > 1


def test_work_has_a_seed_of_its_own_that_more_samples_leave_alone(lab: Lab) -> None:
    few, many = (plan_work(lab.instances("train", 2), n, 3, "rollout") for n in (2, 5))
    assert len({item.seed for item in many}) == 10
    assert {item.seed for item in few} <= {item.seed for item in many}
    assert few[0].seed == derive_seed(3, "rollout", few[0].instance.id, 0)


def test_a_slow_neighbour_changes_nothing(lab: Lab, instance: Instance) -> None:
    lazy = "import time\n" + ONCE.replace("return", "time.sleep(0.3 * (job.seed % 2))\n    return")
    work = [Work(instance, i, i) for i in range(4)]
    assert roll(lab, lazy, work) == roll(lab, ONCE, work)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("job.generate([])", "messages"),
        (f"job.generate({ASK!r}, n=0)", "n: "),
        (f"job.generate({ASK!r}, n=65)", "n: "),
        (f"job.generate({ASK!r}, temperature=-1)", "temperature"),
        (f"job.generate({ASK!r}, temperature='hot')", "temperature"),
        (f"job.generate({ASK!r}, max_tokens=0)", "max_tokens"),
        ("job.generate([{'role': 'root', 'content': 'x'}])", "role"),
        ("job.generate([{'role': 'user', 'content': 5}])", "content"),
        ("job.generate([{'role': 'user'}])", "content"),
        ("job.generate('please')", "messages"),
        ("job.tools.score_visible(program=5)", "program"),
        ("job.tools.score_visible()", "program"),
        ("job.tools.score_visible(program='x', twice=True)", "program"),
        ("job.tools.score_visible(program='x' * 70000)", "65536"),
        ("job.tools.read_sealed(split='sealed')", "no such tool"),
    ],
)
def test_a_request_out_of_bounds_is_refused_inside_the_scaffold(
    lab: Lab, instance: Instance, call: str, words: str
) -> None:
    found = one(lab, instance, TRY.format(call=call))
    assert found.answer is not None
    assert found.answer.startswith("refused: "), found.answer
    assert words in found.answer
    assert found.turns == ()
    assert found.tools == ()


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "Be brief."}],
        [{"role": "tool", "content": "5"}],
        [{"role": "assistant", "content": "first"}, *ASK],
        [{"role": "user", "content": ""}],
        [{"role": "user", "content": "{{ 1/0 }} <|return|> \x00 \u2028"}],
        [{"role": "user", "content": "word " * 3000}],
        [*ASK] * 200,
    ],
    ids=["system", "tool", "assistant first", "empty", "markup", "long", "many"],
)
def test_odd_messages_never_reach_the_host_as_an_exception(
    lab: Lab, instance: Instance, messages: list[dict[str, str]]
) -> None:
    found = one(lab, instance, TRY.format(call=f"job.generate({messages!r}, max_tokens=4)"))
    assert found.status == "OK"
    assert found.answer is not None
    assert found.answer.startswith(("answered: ", "refused: "))


def test_turns_are_bounded(lab: Lab, instance: Instance) -> None:
    greedy = f"def solve(job):\n    while True:\n        job.generate({ASK!r}, n=64, max_tokens=1)\n"
    found = one(lab, instance, greedy)
    assert found.status == "EXCEPTION"
    assert f"more than {MAX_TURNS}" in found.error
    assert len(found.turns) == MAX_TURNS


def test_tokens_are_capped_by_the_spec(lab: Lab, instance: Instance) -> None:
    found = one(lab, instance, f"def solve(job):\n    return job.generate({ASK!r}, max_tokens=60000)[0]\n")
    assert found.status == "OK"
    assert len(found.turns[0].completion_ids) <= 64


def test_tool_calls_are_logged_by_the_host(lab: Lab, instance: Instance) -> None:
    good = "def denoise(counts, seed):\n    return counts * 1.0\n"
    source = f"""
def solve(job):
    job.generate({ASK!r}, max_tokens=4)
    good = job.tools.score_visible(program={good!r})
    bad = job.tools.score_visible(program="def denoise(counts, seed):\\n    return 1 / 0\\n")
    return repr((good, bad))
"""
    found = one(lab, instance, source)
    assert [call.name for call in found.tools] == ["score_visible", "score_visible"]
    assert [call.after_turn for call in found.tools] == [1, 1]
    assert found.tools[0].arguments == {"program": good}
    assert (found.tools[0].result["valid"], found.tools[1].result["reason"]) == (True, "exception")
    assert found.answer == repr(tuple(dict(call.result) for call in found.tools))


def test_a_tool_scores_the_visible_twin_and_not_the_instance(lab: Lab, instance: Instance) -> None:
    """What an agent may score itself on is another division of the molecules than what it is judged on."""
    program = """
import denoise_kit as kit
def denoise(counts, seed):
    x = kit.library_normalize(counts) ** 0.5
    p = kit.affinity(x, knn=5, n_pca=20, decay=1.0)
    return kit.rescale(kit.diffuse(p, x, t=1) ** 2, counts)
"""
    found = one(lab, instance, f"def solve(job):\n    return repr(job.tools.score_visible(program={program!r}))\n")
    (judged,) = lab.scorer.score([(instance, program)])
    assert judged.reward > 0
    assert found.tools[0].result["reward"] not in (0, judged.reward)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("while True: pass", {"TIMEOUT", "CPU"}),
        ("import time; time.sleep(60)", {"TIMEOUT"}),
        ("import os; os._exit(3)", {"NONZERO"}),
        ("import os; os.abort()", {"SIGNAL"}),
        ("raise ValueError('my own fault')", {"EXCEPTION"}),
        ("import sys; raise SystemExit(0)", {"EXCEPTION", "NONZERO", "BAD_RESULT"}),
        ("[print('x' * 65536) for _ in range(1000)]; return 'a'", {"OUTPUT_FLOOD"}),
        ("return 5", {"BAD_RESULT"}),
        ("return None", {"BAD_RESULT"}),
        ("return 'x' * (1 << 26)", {"RESULT_TOO_BIG"}),
        ("return '\\ud800'", {"BAD_RESULT", "EXCEPTION"}),
        ("return solve(job)", {"EXCEPTION", "SIGNAL"}),
        ("x = bytearray(1 << 33); return 'a'", {"MEMORY", "EXCEPTION"}),
        ("return (", {"SYNTAX"}),
    ],
)
def test_a_scaffold_that_fails_is_a_status(lab: Lab, instance: Instance, body: str, status: set[str]) -> None:
    failing, fine = roll(
        lab,
        f"def solve(job):\n    if job.seed == 1:\n        return 'fine'\n    {body}\n",
        [Work(instance, 0, 0), Work(instance, 1, 1)],
    )
    assert failing.status in status, failing
    assert failing.answer is None
    if status != {"SYNTAX"}:
        assert (fine.status, fine.answer) == ("OK", "fine")


def test_what_was_sampled_before_a_failure_is_kept(lab: Lab, instance: Instance) -> None:
    found = one(lab, instance, ONCE.replace("return", "x =") + "    raise KeyError('late')\n")
    assert (found.status, len(found.turns), found.answer) == ("EXCEPTION", 1, None)
    assert "KeyError" in found.error
    assert found.spend.completion_tokens == len(found.turns[0].completion_ids)


def test_a_scaffold_cannot_forge_its_trajectory(lab: Lab, instance: Instance) -> None:
    """Whatever a scaffold does to its own objects, the host's record is of what was asked and sampled."""
    forger = f"""
def solve(job):
    texts = job.generate({ASK!r})
    texts[0] = "forged"
    job.generate = lambda *a, **k: ["forged"]
    job.seed = 99
    return job.generate({ASK!r})[0]
"""
    found, honest = one(lab, instance, forger), one(lab, instance, ONCE)
    assert found.turns == honest.turns
    assert found.seed == honest.seed
    assert (found.answer, found.status) != (honest.answer, "OK")


def test_a_scaffold_of_several_files_sees_them(lab: Lab, instance: Instance) -> None:
    files = {"scaffold.py": "import helper\ndef solve(job):\n    return helper.NAME\n", "helper.py": "NAME = 'h'\n"}
    (found,) = lab.engine("train").run(files, lab.policy(None), [Work(instance, 0, 0)])
    assert found.answer == "h"
