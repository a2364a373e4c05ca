"""A tree to an Experiment: what pydantic finds becomes problems that name the line and what to write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sia_flow import __version__
from sia_flow.spec.base import DIGEST, FOLDER, KUBERNETES_NAME, LABEL, RULE, SLUG
from sia_flow.spec.models import API_VERSION, Experiment
from sia_flow.spec.nodes import Node, step
from sia_flow.spec.paths import Path, show_path
from sia_flow.spec.problems import InvalidSpecError, Problem
from sia_flow.spec.suggest import RENAMED, did_you_mean

_PATTERNS = {
    SLUG: "lower-case letters, digits and single hyphens, such as denoise-2",
    LABEL: "letters, digits and . _ + -, such as SIA-W+H",
    DIGEST: "the 64 hexadecimal digits of a digest",
    FOLDER: "a folder's whole path, such as /project",
    KUBERNETES_NAME: "at most 63 lower-case letters, digits and hyphens, such as sia-flow",
}
_LIMITS: Mapping[str, tuple[str, str]] = {
    "greater_than_equal": ("ge", "at least"),
    "less_than_equal": ("le", "at most"),
    "greater_than": ("gt", "more than"),
    "less_than": ("lt", "less than"),
}
_TYPES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "model_type": "a map of keys and values",
    "dict_type": "a map of keys and values",
    "mapping_type": "a map of keys and values",
}


def build_experiment(root: Node) -> Experiment:
    """Return the experiment that a tree describes. Raises InvalidSpecError with everything that is wrong."""
    version = _version_problem(root)
    if version:
        raise InvalidSpecError([version])
    try:
        experiment = Experiment.model_validate(root.plain())
    except ValidationError as error:
        found = [problem for detail in error.errors() for problem in _problems(root, detail)]
        raise InvalidSpecError(found) from error
    # A rule of files and not of experiments: one arm alone is what is recorded, and reproduced, of a larger whole.
    if all(arm.spend == "dearest" for arm in experiment.spec.arms):
        words = "every arm waits for what another one spends: add an arm with a budget of its own"
        raise InvalidSpecError([_problem(root, ("spec", "arms"), words)])
    return experiment


def _version_problem(root: Node) -> Problem | None:
    """Refuse another version by itself: everything else would be noise."""
    node = root.children().get("apiVersion")
    if node is None or node.value == API_VERSION:
        return None
    family, _, number = str(node.value).partition("/v")
    advice = f"write {API_VERSION}"
    if family == "sia-flow" and number.isdigit() and int(number) > 1:
        advice = f"it is newer than this sia-flow ({__version__}), which reads {API_VERSION}; upgrade sia-flow"
    return Problem(node.mark, "apiVersion", f"found {_show(node.value)}; {advice}")


def _problems(root: Node, detail: ErrorDetails) -> Iterator[Problem]:
    path = _real_path(root, detail["loc"])
    if detail["type"] == RULE:
        for issue in detail["ctx"]["issues"]:
            yield _problem(root, (*path, *issue.path), issue.message)
    elif detail["type"] == "too_short" and detail["input"]:
        return  # pydantic counts the valid entries only; the others have problems of their own
    elif detail["type"] == "extra_forbidden":
        yield _problem(root, path, _unknown_key(path), at_key=True)
    else:
        yield _problem(root, path, _message(detail))


def _problem(root: Node, path: Path, message: str, *, at_key: bool = False) -> Problem:
    """Place a message at its value, or at the innermost section that is written out."""
    node = root
    for part in path:
        child = step(node, part)
        if child is None:
            at_key = True
            break
        node = child
    return Problem(node.key if at_key else node.mark, show_path(path), message)


def _real_path(root: Node, location: tuple[str | int, ...]) -> Path:
    """Drop from pydantic's location what names a union's branch and not a key."""
    path: list[str | int] = []
    node: Node | None = root
    for index, part in enumerate(location):
        child = step(node, part) if node else None
        if child is not None or index == len(location) - 1:
            path.append(part)
        node = child if child is not None else node
    return tuple(path)


def _message(detail: ErrorDetails) -> str:
    kind, context, found = detail["type"], detail.get("ctx", {}), _show(detail["input"])
    if kind == "missing":
        return "is required; add it"
    if kind in _TYPES and detail["input"] is None:
        return f"is empty; expected {_TYPES[kind]}: fill it, or remove the key"
    if kind in _TYPES:
        return f"found {found}; expected {_TYPES[kind]}"
    if kind in _LIMITS:
        name, words = _LIMITS[kind]
        return f"found {found}; must be {words} {context[name]:,}".replace(",", "_")
    rule = _RULES.get(kind)
    return rule(detail, found) if rule else f"found {found}; {detail['msg']}"


def _literal(detail: ErrorDetails, found: str) -> str:
    allowed = detail["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
    hint = did_you_mean(str(detail["input"]), allowed.split(", "))
    return f"found {found};{hint} Allowed: {allowed}"


_RULES: Mapping[str, Callable[[ErrorDetails, str], str]] = {
    "literal_error": _literal,
    "value_error": lambda detail, _: str(detail["ctx"]["error"]),
    "too_short": lambda *_: "is empty; name at least one",
    "string_too_short": lambda *_: "is empty; fill it, or remove the key",
    "string_too_long": lambda detail, _: f"is longer than {detail['ctx']['max_length']} characters; shorten it",
    "string_pattern_mismatch": lambda detail, found: f"found {found}; use {_PATTERNS[detail['ctx']['pattern']]}",
}


def _show(value: object) -> str:
    """Return a value as the user may recognise it, bounded."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list | tuple):
        return "a map" if isinstance(value, dict) else "a list"
    text = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _unknown_key(path: Path) -> str:
    """Say what the key may have meant: a neighbour, another tool's word, or a key of another section."""
    from sia_flow.spec.schema import fields, schema_at, walk

    key = str(path[-1])
    parent = schema_at(path[:-1])
    allowed = sorted(fields(parent)) if parent else []
    hint = f' it is called "{RENAMED[key]}" here.' if RENAMED.get(key) in allowed else did_you_mean(key, allowed)
    if not hint:
        elsewhere = [show_path(other) for other in walk() if other[-1] == key]
        hint = f" it belongs to {elsewhere[0]}." if len(elsewhere) == 1 else ""
    return f"unknown key;{hint} Allowed: {', '.join(allowed)}"
