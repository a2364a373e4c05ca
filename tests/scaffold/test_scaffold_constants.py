"""The block of constants: parsed strictly, edited one value at a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sia_flow.errors import ScaffoldError
from sia_flow.scaffold.constants import add_constant, constant_values, parse_constants, set_constants

SOURCE = '''"""Text with a marker inside: # tune: begin"""

PREFIX = "é"  # é: columns count bytes
# tune: begin
KNN: int = 5               # 2..30
TEMPERATURE: float = 1.0   # 0.5..1.5
DECAY: float = 1.0         # 0.5..20 log
MODE: str = "plain"        # plain | exemplar
# tune: end

def solve(job):
    return "# tune: end"
'''
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "KNN": st.integers(2, 30),
        "TEMPERATURE": st.floats(0.5, 1.5),
        "DECAY": st.floats(0.5, 20.0),
        "MODE": st.sampled_from(["plain", "exemplar"]),
    },
)


def with_line(line):
    return f"# tune: begin\n{line}\n# tune: end\n"


def test_the_block_is_read_with_types_bounds_and_scale():
    knn, temperature, decay, mode = parse_constants(SOURCE)
    assert (knn.name, knn.kind, knn.value, knn.low, knn.high, knn.log) == ("KNN", "int", 5, 2, 30, False)
    assert (temperature.kind, temperature.value) == ("float", 1.0)
    assert (decay.low, decay.high, decay.log) == (0.5, 20, True)
    assert (mode.value, mode.choices) == ("plain", ("plain", "exemplar"))
    assert knn.line == SOURCE.split("\n").index("KNN: int = 5               # 2..30") + 1


def test_a_source_without_a_block_has_no_constants():
    assert parse_constants('X: int = 3  # 1..5\ntext = "# tune: begin"\n') == ()


@given(VALUES)
def test_setting_is_read_back_and_touches_only_the_lines_named(values):
    edited = set_constants(SOURCE, values)
    assert constant_values(edited) == {**constant_values(SOURCE), **values}
    old, new = SOURCE.split("\n"), edited.split("\n")
    assert len(old) == len(new)
    changed = [a.split(":")[0] for a, b in zip(old, new, strict=True) if a != b]
    assert set(changed) == {name for name, value in values.items() if value != constant_values(SOURCE)[name]}


@given(VALUES)
def test_setting_back_restores_the_source_byte_for_byte(values):
    assert set_constants(set_constants(SOURCE, values), constant_values(SOURCE)) == SOURCE


def test_two_constants_on_lines_of_several_values_are_set_at_once():
    edited = set_constants(SOURCE, {"MODE": "exemplar", "KNN": 12})
    assert 'MODE: str = "exemplar"        # plain | exemplar' in edited
    assert "KNN: int = 12               # 2..30" in edited


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"KNM": 3}, "did you mean 'KNN'"),
        ({"ZEBRA": 3}, "there is KNN, TEMPERATURE, DECAY, MODE"),
        ({"KNN": 31}, "out of range 2..30"),
        ({"KNN": 5.0}, "not of type int"),
        ({"KNN": True}, "not of type int"),
        ({"DECAY": float("nan")}, "out of range"),
        ({"DECAY": float("inf")}, "out of range"),
        ({"DECAY": "1.0"}, "not of type float"),
        ({"MODE": "exampler"}, "did you mean 'exemplar'"),
    ],
)
def test_a_value_that_does_not_belong_is_refused(values, message):
    with pytest.raises(ScaffoldError, match=message):
        set_constants(SOURCE, values)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (with_line("KNN: int = 5"), "2: KNN needs its range"),
        (with_line("KNN = 5  # 2..30"), "2: the block of constants holds only lines such as"),
        (with_line("KNN: int = 50  # 2..30"), "2: KNN = 50 is out of range"),
        (with_line("KNN: int = 2 + 3  # 2..30"), "plain number or string"),
        (with_line("KNN: int = 5.5  # 2..30"), "not of type int"),
        (with_line("KNN: bool = True  # 0..1"), "not an int, float or str"),
        (with_line("KNN: int = 5  # 30..2"), "must rise"),
        (with_line("D: float = 1.0  # 0..2 log"), "above 0"),
        (with_line('M: str = "c"  # a | b'), "none of the choices"),
        (with_line("K: int = 5  # 2..30\nK: int = 6  # 2..30"), "stands there twice"),
        ("# tune: begin\nK: int = 5  # 2..30\n", "one `# tune: begin` and then one `# tune: end`"),
        ("# tune: end\n# tune: begin\n", "1: the block of constants is one"),
        ("K: int = (\n", "'\\(' was never closed"),
        ("# tune: begin\r\n# tune: end\r\n", "carriage return"),
    ],
)
def test_a_malformed_block_is_refused_with_its_line(source, message):
    with pytest.raises(ScaffoldError, match=message):
        parse_constants(source)


def test_a_constant_is_added_at_the_end_of_the_block():
    edited = add_constant(SOURCE, "TRIES: int = 2  # 1..4")
    assert constant_values(edited) == {**constant_values(SOURCE), "TRIES": 2}
    assert edited.replace("TRIES: int = 2  # 1..4\n", "") == SOURCE


@pytest.mark.parametrize(
    ("source", "declaration", "message"),
    [
        (SOURCE, "KNN: int = 2  # 1..4", "stands there twice"),
        (SOURCE, "TRIES: int = 9  # 1..4", "out of range"),
        ("def solve(job): ...\n", "TRIES: int = 2  # 1..4", "no block of constants"),
    ],
)
def test_a_constant_that_cannot_be_added_is_refused(source, declaration, message):
    with pytest.raises(ScaffoldError, match=message):
        add_constant(source, declaration)
