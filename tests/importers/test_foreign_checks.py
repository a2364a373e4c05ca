from __future__ import annotations

from pathlib import Path

import pytest

from sia_flow.admission.check import check_folder
from sia_flow.foreign.runner import ForeignRunner
from sia_flow.importers.layout import lay_out
from sia_flow.importers.read_foreign import Options, read


def codes(folder: Path, level: str) -> set[str]:
    return {finding.code for finding in check_folder(folder) if finding.level == level}


def test_a_sia_folder_is_told_its_leaks_and_games(sia_folder: Path) -> None:
    found = {finding.code: finding for finding in check_folder(sia_folder)}
    assert found["test_rows_shown"].message.startswith("SAMPLES.md shows 1 of the 40 test questions")
    assert found["test_in_train"].message.startswith("1 of 40 test questions")
    assert "one known answer alone earns accuracy 1" in found["gameable_alone"].message
    assert found["first_number_is_no_metric"].level == "warn"
    assert "gameable_repeated" in found
    assert "gameable_constant" not in found
    (sia_folder / "data/public/evaluate.py").unlink()
    assert "no_evaluator" in codes(sia_folder, "fail")


def test_a_strict_evaluator_cannot_be_gamed(sia_folder: Path) -> None:
    path = sia_folder / "data/public/evaluate.py"
    text = path.read_text().replace("right / len(given) if given else 0.0", "len(set(map(str, given))) and ok")
    text = text.replace(
        "found = {", "ids = [row['id'] for row in given]\nok = right / 40 * (len(set(ids)) == len(ids))\nfound = {"
    )
    path.write_text(text)
    assert not {code for code in codes(sia_folder, "fail") if code.startswith("gameable")}


@pytest.mark.slow
def test_a_shared_process_is_shown_to_be_forgeable(project: Path, evolve_folder: Path, competition: Path) -> None:
    evolve = lay_out(read("openevolve", evolve_folder), project)
    assert codes(evolve, "warn") >= {"forgeable", "one_objective"}
    apart = lay_out(read("mle-bench", competition, Options(name="linefit")), project)
    assert "forgeable" not in codes(apart, "warn")
    assert codes(apart, "fail") == set()


@pytest.mark.slow
def test_a_scorer_that_pays_for_all_labels_is_not_admitted(project: Path, inspect_file: Path) -> None:
    (inspect_file.parent / "sums.jsonl").write_text(
        "\n".join(f'{{"q": "Is {i} even?", "a": "{"yes" if i % 2 == 0 else "no"}"}}' for i in range(40))
    )
    inspect_file.write_text(inspect_file.read_text().replace("scorer=match()", "scorer=includes()"))
    folder = lay_out(read("inspect", Path(f"{inspect_file}@sums")), project)
    assert codes(folder, "fail") == {"all_labels_pays"}
    assert "constant_baseline" in codes(folder, "warn")


def test_what_an_evaluator_says_is_bounded() -> None:
    files = {"evaluator.py": b"def evaluate(path):\n    return {'combined_score': eval(open(path).read())}\n"}
    with ForeignRunner(files, ()) as runner:

        def call(program: str) -> tuple[str, object]:
            reply = runner.call("openevolve", file="evaluator.py", program=program)
            return reply.reason, (reply.value or {}).get("metrics")

        assert call("1 + 1") == ("ok", {"combined_score": 2.0})
        assert call("float('nan')") == ("ok", {})
        assert call("float('inf')") == ("ok", {})
        assert call("'text'") == ("ok", {})
        assert call("10 ** 400") == ("ok", {})
        assert call("[1, 2]") == ("ok", {})
        assert call("__import__('socket').create_connection(('127.0.0.1', 9))")[0] == "exception"
        assert call("open('/etc/passwd').read()")[0] == "exception"
        assert call("__import__('os').kill(1, 9) or __import__('os')._exit(3)")[0] in {"nonzero", "signal", "exception"}


@pytest.mark.parametrize(
    ("call", "completion", "target", "value"),
    [
        ("match()", "So it is 12.", "12", 1.0),
        ("match()", "12 is it", "12", 0.0),
        ('match(location="begin")', "12 is it", "12", 1.0),
        ("match(numeric=True)", "The sum: $1,200.00", "1200", 1.0),
        ('match(location="any", numeric=True)', "first 12 then 13", "12", 1.0),
        ("includes()", "It is PARIS, of course", "paris", 1.0),
        ("includes(ignore_case=False)", "It is PARIS", "paris", 0.0),
        ("exact()", "The answer!", "answer", 1.0),
        ("f1()", "red fish", "red bird", 0.5),
        ('pattern(r"=(\\d+)")', "so x=42", "42", 1.0),
        ('answer("letter")', "ANSWER: B", "B", 1.0),
        ('answer("line")', "ANSWER: the red one", "the red one", 1.0),
        ("choice()", "ANSWER: A, C", "AC", 1.0),
        ("choice()", "A", "B", 0.0),
    ],
)
def test_inspects_scorers_do_as_documented(call: str, completion: str, target: str, value: float) -> None:
    source = (
        "from inspect_ai import Task, task\nfrom inspect_ai.dataset import MemoryDataset, Sample\n"
        "from inspect_ai.scorer import answer, choice, exact, f1, includes, match, pattern\n\n"
        f"@task\ndef one():\n    return Task(MemoryDataset([Sample('q', target={target!r})]), scorer={call})\n"
    )
    with ForeignRunner({"one.py": source.encode()}, ()) as runner:
        reply = runner.call("inspect_score", file="one.py", task="one", sample=0, completion=completion)
    assert reply.value is not None, reply.error
    assert reply.value["metrics"]["score"] == value
