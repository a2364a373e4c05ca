"""The scorers that need no model, by their documented behaviour."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ._inert import Inert

CORRECT, INCORRECT, PARTIAL, NOANSWER = "C", "I", "P", "N"
VALUES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0, "yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0}
ANSWERS = {
    "letter": r"(?i)ANSWER\s*:\s*([A-Za-z])(?![A-Za-z])",
    "word": r"(?i)ANSWER\s*:\s*(\w+)",
    "line": r"(?i)ANSWER\s*:\s*([^\n]+)",
}
Scorer = Any


class Target(Sequence[str]):
    """The right answers of a sample."""

    def __init__(self, target: str | Sequence[str]) -> None:
        self.target = [target] if isinstance(target, str) else [str(one) for one in target]

    @property
    def text(self) -> str:
        """Return all answers as one text."""
        return "".join(self.target)

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, index: Any) -> Any:
        return self.target[index]


class Score:
    """A value with words about it."""

    def __init__(self, value: Any, answer: str | None = None, explanation: str | None = None, **_unused: Any) -> None:
        self.value = value
        self.answer = answer
        self.explanation = explanation


def as_number(value: Any) -> float:
    """Return a score's value as a number; of several values the mean. Raises ValueError."""
    if isinstance(value, dict | list | tuple):
        parts = [as_number(one) for one in (value.values() if isinstance(value, dict) else value)]
        return sum(parts) / len(parts)
    if isinstance(value, str):
        found = VALUES.get(value, VALUES.get(value.lower()))
        return float(value) if found is None else found
    return float(value)


def scorer(*_arguments: Any, **_settings: Any) -> Any:
    """Return a scorer's function, marked with its name."""

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        def make(*arguments: Any, **settings: Any) -> Any:
            made = function(*arguments, **settings)
            made.scorer_name = function.__name__
            return made

        return make

    return mark


def metric(*arguments: Any, **_settings: Any) -> Any:
    """Return the function as it is: what is reported over samples is ours."""
    return arguments[0] if arguments and callable(arguments[0]) else lambda function: function


accuracy = mean = stderr = std = var = bootstrap_stderr = grouped = Inert()


def _by(judge: Callable[[str, str], bool], name: str) -> Any:
    """Return a scorer that is right where `judge(completion, answer)` holds for any of the answers."""

    async def score(state: Any, target: Target) -> Score:
        text = state.output.completion
        right = any(judge(text, one) for one in target)
        return Score(CORRECT if right else INCORRECT, answer=text, explanation=text)

    score.scorer_name = name  # type: ignore[attr-defined]
    return score


def includes(ignore_case: bool = True) -> Any:  # noqa: FBT001 - the form of task files
    """Right where the answer stands anywhere in the completion."""
    fold = str.casefold if ignore_case else str
    return _by(lambda text, one: fold(one) in fold(text), "includes")


def match(location: str = "end", *, ignore_case: bool = True, numeric: bool = False) -> Any:
    """Right where the answer stands at the begin, the end, anywhere, or exactly; numbers compare as numbers."""
    fold = str.casefold if ignore_case else str

    def judge(text: str, one: str) -> bool:
        text, one = _bare(fold(text)), _bare(fold(one))
        if numeric:
            words = [_number(word) for word in text.split()]
            numbers = [word for word in words if re.fullmatch(r"[-+]?\d*\.?\d+(e[-+]?\d+)?", word)]
            text, one = (
                {"begin": " ".join(numbers[:1]), "end": " ".join(numbers[-1:])}.get(location, text),
                _number(one),
            )
            if location == "any":
                return one in numbers
        tests = {"begin": text.startswith, "end": text.endswith, "any": text.__contains__, "exact": text.__eq__}
        return text == one if numeric else bool(tests[location](one))

    return _by(judge, "match")


def exact() -> Any:
    """Right where the completion is the answer, but for case, articles, punctuation and spaces."""
    return _by(lambda text, one: _words(text) == _words(one), "exact")


def f1(answer_fn: Callable[[str], str] | None = None, stop_words: Sequence[str] | None = None) -> Any:
    """F1 over words, the best over the answers."""
    dropped = set(stop_words or ())

    async def score(state: Any, target: Target) -> Score:
        text = (answer_fn or str)(state.output.completion)
        mine = [word for word in _words(text) if word not in dropped]
        return Score(max(_overlap(mine, [w for w in _words(one) if w not in dropped]) for one in target), answer=text)

    score.scorer_name = "f1"  # type: ignore[attr-defined]
    return score


def pattern(pattern: str, ignore_case: bool = True, match_all: bool = False) -> Any:  # noqa: FBT001
    """Right where a group of the pattern's match is the answer."""
    flags = re.IGNORECASE if ignore_case else 0
    fold = str.casefold if ignore_case else str

    def judge(text: str, one: str) -> bool:
        found = re.search(pattern, text, flags)
        groups = [fold(group) for group in (found.groups() or (found.group(0),)) if group is not None] if found else []
        hits = [group == fold(one) for group in groups]
        return bool(hits) and (all(hits) if match_all else any(hits))

    return _by(judge, "pattern")


def answer(pattern: str) -> Any:
    """Right where `ANSWER: ...` gives the answer as a letter, a word or a line."""

    def judge(text: str, one: str) -> bool:
        found = re.search(ANSWERS[pattern], text)
        return found is not None and _bare(found.group(1).casefold()) == _bare(one.casefold())

    return _by(judge, "answer")


def choice() -> Any:
    """Right where the letters after `ANSWER:`, or the bare letters, are those of the target."""

    async def score(state: Any, target: Target) -> Score:
        text = state.output.completion
        found = re.findall(r"(?i)ANSWER\s*:\s*([A-Za-z](?:\s*,\s*[A-Za-z])*)(?![A-Za-z])", text) or [text]
        letters = set(re.findall(r"\b[A-Z]\b", found[-1].upper()))
        right = letters == {one.upper() for one in target.text if one.isalpha()}
        return Score(CORRECT if right else INCORRECT, answer=text, explanation=text)

    score.scorer_name = "choice"  # type: ignore[attr-defined]
    return score


def _needs_model(*_arguments: Any, **_settings: Any) -> Any:
    async def score(_state: Any, _target: Target) -> NoReturn:
        raise RuntimeError("this scorer asks a model; it is not taken over, give the task another scorer")

    score.scorer_name = "model_graded"  # type: ignore[attr-defined]
    return score


model_graded_qa = model_graded_fact = _needs_model


def __getattr__(name: str) -> Inert:
    if name.startswith("__"):
        raise AttributeError(name)
    return Inert()


def _bare(text: str) -> str:
    return text.strip().strip(string.punctuation + string.whitespace)


def _number(text: str) -> str:
    """Return a number without currency, separators and a trailing zero fraction."""
    plain = text.strip().strip("$€£%*_=\"'()[]").replace(",", "").rstrip(".")
    return re.sub(r"\.0+$", "", plain)


def _words(text: str) -> list[str]:
    plain = "".join(char for char in text.casefold() if char not in string.punctuation)
    return [word for word in plain.split() if word not in {"a", "an", "the"}]


def _overlap(mine: Sequence[str], theirs: Sequence[str]) -> float:
    common = sum((Counter(mine) & Counter(theirs)).values())
    return 2 * common / (len(mine) + len(theirs)) if common else 0.0
