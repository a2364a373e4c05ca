"""Program jobs: what comes back is an array of the declared form, or a reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sia_flow.errors import InfrastructureError
from sia_flow.protocols import ArraySpec, Image, Job
from tests.sandbox.jobs import IMAGE, LIMITS, one, program


def test_result_is_the_array_bit_for_bit(session):
    outcome = one(session, program("return np.sqrt(x) / 3"))
    assert outcome.status == "OK"
    assert outcome.value.dtype == np.float64
    np.testing.assert_array_equal(outcome.value, np.sqrt(IMAGE.arrays["x"]) / 3)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ("x.tolist()", IMAGE.arrays["x"]),
        ("x.astype(np.float32)", IMAGE.arrays["x"]),
        ("x.T.copy().T", IMAGE.arrays["x"]),
        ("x > 2", IMAGE.arrays["x"] > 2),
        ("x * np.nan", np.full((2, 3), np.nan)),
    ],
)
def test_array_like_numbers_become_float64(session, result, expected):
    outcome = one(session, program(f"return {result}"))
    assert outcome.status == "OK"
    np.testing.assert_array_equal(outcome.value, np.asarray(expected, dtype=np.float64))


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ("None", "dtype object"),
        ("np.array([[1, 'a', None]] * 2, dtype=object)", "dtype object"),
        ("x + 1j", "dtype complex128"),
        ("'text'", "dtype <U4"),
        ("x[:1]", "got (1, 3)"),
        ("[[1], [2, 3]]", "not an array"),
        ("np.zeros(3_000_000)", "got (3000000,)"),
    ],
)
def test_wrong_form_is_a_bad_result_that_says_what_was_got(session, result, said):
    outcome = one(session, program(f"return {result}"))
    assert outcome.status == "BAD_RESULT"
    assert said in outcome.error
    assert outcome.value is None


def test_a_module_of_the_image_was_warmed_with_the_arrays(session):
    body = "import toolkit\nassert toolkit.SEEN == ['counts', 'x']\nreturn x * toolkit.FACTOR"
    np.testing.assert_array_equal(one(session, program(body)).value, IMAGE.arrays["x"] * 3)


def test_arrays_keep_their_dtype_and_cannot_be_written(session):
    job = Job(
        "def f(c):\n    assert c.dtype.name == 'int32'\n    c[0] = 7\n    return c",
        "f",
        ("counts",),
        returns=ArraySpec((4,)),
    )
    outcome = one(session, job)
    assert outcome.status == "EXCEPTION"
    assert "read-only" in outcome.error


def test_memory_made_writable_by_force_is_the_job_s_own_copy(session):
    body = (
        "import ctypes\nlibc = ctypes.CDLL(None)\naddress = x.ctypes.data\n"
        "assert libc.mprotect(ctypes.c_void_p(address & ~4095), 4096, 3) == 0\n"
        "ctypes.c_double.from_address(address).value = 99.0\nreturn x"
    )
    assert one(session, program(body)).value[0, 0] == 99.0
    np.testing.assert_array_equal(one(session, program("return x")).value, IMAGE.arrays["x"])


def test_arguments_and_files_reach_the_candidate(session):
    job = Job(
        "from helper import twice\ndef f(x, factor):\n    return twice(x) * factor",
        "f",
        ("x",),
        arguments=(5,),
        returns=ArraySpec((2, 3)),
        files={"helper.py": "def twice(x):\n    return x * 2"},
    )
    np.testing.assert_array_equal(one(session, job).value, IMAGE.arrays["x"] * 10)


@pytest.mark.parametrize("source", ["def f(x:\n  return x", "x = '\\ud800" + "\x00", "return 1"])
def test_source_that_does_not_compile_is_a_syntax_failure(session, source):
    assert one(session, Job(source, "f", ("x",), returns=ArraySpec((2, 3)))).status == "SYNTAX"


def test_a_source_without_the_entry_says_so(session):
    outcome = one(session, Job("g = 1", "f", ("x",), returns=ArraySpec((2, 3))))
    assert (outcome.status, outcome.error) == ("BAD_RESULT", "the source defines no function f")


def test_exception_gives_its_last_line_bounded_and_printable(session):
    outcome = one(session, program("raise ValueError('bad \\x1b[31m' + 'y' * 10_000)"))
    assert outcome.status == "EXCEPTION"
    assert outcome.error.startswith("ValueError: bad  [31myyy")
    assert len(outcome.error) <= 500
    assert "\x1b" not in outcome.error


def test_exception_names_the_candidate_s_line(session):
    assert one(session, program("return x / [1, 2, 'a']")).error.endswith("(line 4)")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("raise SystemExit(0)", "EXCEPTION"),
        ("os._exit(0)", "BAD_RESULT"),
        ("os._exit(3)", "NONZERO"),
        ("import ctypes\nctypes.string_at(0)", "SIGNAL"),
        ("os.closerange(0, 4000)\nreturn x", "BAD_RESULT"),
        ("class E(Exception):\n    def __str__(self):\n        raise RuntimeError\nraise E", "BAD_RESULT"),
    ],
)
def test_leaving_without_a_result_never_passes(session, body, status):
    assert one(session, program(body)).status == status


@pytest.mark.parametrize(
    "draw", ["np.random.rand()", "np.random.default_rng().random()", "__import__('random').random()"]
)
def test_generators_follow_the_job_s_seed(session, draw):
    jobs = [program(f"return x + {draw}", seed=seed) for seed in (1, 1, 2)]
    first, again, other = session.run(jobs, LIMITS)
    np.testing.assert_array_equal(first.value, again.value)
    assert first.value[0, 0] != other.value[0, 0]


def test_string_hashes_do_not_vary_between_sessions(sandbox):
    values = []
    for _ in range(2):
        with sandbox.open(IMAGE) as session:
            values.append(one(session, program("return x + hash('word') % 1000")).value)
    np.testing.assert_array_equal(values[0], values[1])


def test_printed_text_is_kept_up_to_the_limit(session):
    outcome = one(session, program("print('z' * 5000)\nreturn x"), replace(LIMITS, output=1000))
    assert outcome.status == "OK"
    assert outcome.stdout == "z" * 1000


def test_outcomes_stand_in_job_order(session):
    outcomes = session.run([program(f"return x + {number}") for number in range(20)], LIMITS)
    assert [outcome.value[0, 0] for outcome in outcomes] == list(range(20))


def test_nothing_stays_between_jobs(session):
    marks = "import builtins\nbuiltins.MARK = 1\nnp.sqrt = None\nos.environ['MARK'] = '1'\nreturn x"
    look = "import builtins\nassert not hasattr(builtins, 'MARK')\nassert 'MARK' not in os.environ\nreturn np.sqrt(x)"
    session.run([program(marks)], LIMITS)
    assert one(session, program(look)).status == "OK"


def test_unknown_array_and_other_dtype_are_refused_before_anything_runs(session):
    with pytest.raises(ValueError, match="arrays that the image has not: y"):
        one(session, Job("", "f", ("y",), returns=ArraySpec((1,))))
    with pytest.raises(ValueError, match="results are float64"):
        one(session, Job("", "f", (), returns=ArraySpec((1,), "int8")))


def test_an_image_that_cannot_be_loaded_says_why(sandbox):
    with pytest.raises(InfrastructureError, match="No module named 'no_such_module'"):
        sandbox.open(Image(preload=("no_such_module",)))
    with pytest.raises(ValueError, match="dtype object"):
        sandbox.open(Image(arrays={"o": np.array([None])}))


def test_a_closed_session_refuses(sandbox):
    session = sandbox.open(Image())
    session.close()
    session.close()
    with pytest.raises(InfrastructureError, match="closed"):
        one(session, program("return x"))
