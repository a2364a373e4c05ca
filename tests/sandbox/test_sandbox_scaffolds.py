"""Scaffold jobs: calls are answered in lockstep rounds, and what a scaffold sends is hostile."""

from __future__ import annotations

import pytest

from sia_flow.protocols import Job
from tests.sandbox.jobs import LIMITS, one, scaffold


class Host:
    """Answers every call by what is asked, and keeps the rounds."""

    def __init__(self):
        self.rounds = []

    def __call__(self, calls):
        self.rounds.append([(call.job, call.method) for call in calls])
        return [self.answer(call) for call in calls]

    def answer(self, call):
        if call.method == "generate":
            return [f"text of {call.job}"] * call.params["n"]
        if call.method == "tool:refused":
            return PermissionError("budget exhausted")
        return {"given": call.params}


def test_a_scaffold_gets_instance_seed_policy_and_tools(session):
    body = (
        "texts = job.generate([{'role': 'user', 'content': 'hi'}], n=2, temperature=0.5, max_tokens=7)\n"
        "tool = job.tools.look(depth=3)\n"
        "return json.dumps([job.instance, job.seed, texts, tool])"
    )
    outcome = session.run([scaffold(body, seed=9)], LIMITS, Host())[0]
    assert outcome.value == '[{"id": "i"}, 9, ["text of 0", "text of 0"], {"given": {"depth": 3}}]'


def test_parameters_of_generate_arrive_as_they_were_given(session):
    seen = []

    def serve(calls):
        seen.extend(call.params for call in calls)
        return [["x"]] * len(calls)

    body = "return job.generate([{'role': 'user', 'content': 'h\\u00e9'}])[0]"
    assert session.run([scaffold(body)], LIMITS, serve)[0].value == "x"
    messages = [{"role": "user", "content": "hé"}]
    assert seen == [{"messages": messages, "n": 1, "temperature": 1.0, "max_tokens": None}]


def test_rounds_begin_only_when_every_live_job_waits(session):
    """Job 1 is slow, job 2 calls once, job 3 never: the rounds are the same whatever the timing."""
    bodies = [
        "job.generate([])\njob.generate([])\nreturn 'a'",
        "sum(range(3_000_000))\njob.generate([])\njob.tools.look()\nreturn 'b'",
        "job.generate([])\nreturn 'c'",
        "return 'd'",
    ]
    for _ in range(3):
        host = Host()
        outcomes = session.run([scaffold(body) for body in bodies], LIMITS, host)
        assert [outcome.value for outcome in outcomes] == ["a", "b", "c", "d"]
        assert host.rounds == [
            [(0, "generate"), (1, "generate"), (2, "generate")],
            [(0, "generate"), (1, "tool:look")],
        ]


def test_an_exception_as_answer_is_raised_inside(session):
    body = "try:\n    job.tools.refused()\nexcept RuntimeError as error:\n    return str(error)"
    assert session.run([scaffold(body)], LIMITS, Host())[0].value == "budget exhausted"


def test_calls_without_a_host_are_refused(session):
    outcome = one(session, scaffold("return job.generate([])[0]"))
    assert outcome.status == "EXCEPTION"
    assert "no host" in outcome.error


def test_waiting_for_the_host_costs_no_wall_time(session):
    """The host spends more than the limit on its answer, and the scaffold is alive afterwards."""
    limits = type(LIMITS)(wall=0.5, cpu=4.0, memory=LIMITS.memory)
    cycles = 0

    def serve(calls):
        nonlocal cycles
        spinner = one_second_of_work()
        cycles += spinner
        return [["done"]] * len(calls)

    outcome = session.run([scaffold("return job.generate([])[0]")], limits, serve)[0]
    assert (outcome.status, outcome.value) == ("OK", "done")
    assert cycles > 0


def one_second_of_work():
    import time

    end, cycles = time.monotonic() + 1.0, 0
    while time.monotonic() < end:
        cycles += 1
    return cycles


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("return 7", "BAD_RESULT", "must return a string, got int"),
        ("return 'y' * 70_000", "RESULT_TOO_BIG", "70000 bytes"),
        ("return '\\ud800'", "BAD_RESULT", "surrogates"),
        ("job.generate([{'x': float('nan')}])", "EXCEPTION", "JSON"),
        ("job.generate([{'x': '\\ud800'}])", "EXCEPTION", "surrogates"),
        ("job.generate(['y' * 300_000])", "RESULT_TOO_BIG", "a message of"),
        ("os.write(3, b'\\xff\\xff\\xff\\xffT')", "RESULT_TOO_BIG", "a message of"),
        ("os.write(3, b'\\x01\\0\\0\\0Z')", "BAD_RESULT", "no frame"),
        ("os.write(3, b'\\x01\\0\\0\\0S')", "BAD_RESULT", "twice"),
        ("os.write(3, b'\\x02\\0\\0\\0C{')", "BAD_RESULT", "not JSON"),
        ("os.write(3, b'\\x02\\0\\0\\0T\\xff')", "BAD_RESULT", "not UTF-8"),
        ("os.write(3, b'\\x03\\0\\0\\0E{}')", "BAD_RESULT", "no known failure"),
        ("getattr(job.tools, 'bad name')()", "BAD_RESULT", "no method"),
    ],
)
def test_what_breaks_the_protocol_is_the_candidate_s_failure(session, body, status, said):
    outcome = session.run(
        [scaffold(body + "\nimport time\ntime.sleep(60)" if "write" in body else body)], LIMITS, Host()
    )[0]
    assert outcome.status == status
    assert said in outcome.error


def test_endless_calls_end(session):
    outcome = session.run([scaffold("while True:\n    job.generate([])")], LIMITS, Host())[0]
    assert (outcome.status, outcome.error) == ("TIMEOUT", "more than 1000 calls of the host")


def test_a_hanging_scaffold_does_not_spoil_the_others(session):
    limits = type(LIMITS)(wall=1.0, cpu=4.0, memory=LIMITS.memory)
    bodies = ["import time\ntime.sleep(60)", "return job.generate([])[0]"]
    outcomes = session.run([scaffold(body) for body in bodies], limits, Host())
    assert [outcome.status for outcome in outcomes] == ["TIMEOUT", "OK"]


def test_a_failing_host_leaves_a_usable_session(session):
    def serve(calls):
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        session.run([scaffold("job.generate([])")], LIMITS, serve)
    with pytest.raises(ValueError, match="0 answers to 1 calls"):
        session.run([scaffold("job.generate([])")], LIMITS, lambda calls: [])
    assert one(session, scaffold("return 'here'")).value == "here"


def test_many_scaffolds_run_at_once(session):
    host = Host()
    outcomes = session.run([scaffold("return job.generate([])[0]")] * 40, LIMITS, host)
    assert [outcome.value for outcome in outcomes] == [f"text of {number}" for number in range(40)]
    assert [len(calls) for calls in host.rounds] == [40]


def test_threads_of_a_scaffold_take_turns(session):
    body = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(4) as pool:\n"
        "    found = list(pool.map(lambda k: job.tools.echo(k=k)['given']['k'], range(8)))\n"
        "return str(found)"
    )
    outcome = session.run([scaffold(body)], LIMITS, Host())[0]
    assert outcome.value == str(list(range(8)))


def test_files_are_importable(session):
    job = Job("import part\ndef solve(job):\n    return part.WORD", "solve", files={"part.py": "WORD = 'w'"})
    assert one(session, job).value == "w"
