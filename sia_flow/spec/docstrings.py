"""The docstring under each field of a class, read from its source when it is asked for.

Pydantic can do the same for every class as it is made; for `sia-flow validate`, which shows none of them, that would be
a sixth of its time.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Mapping


def attribute_docstrings(cls: type) -> Mapping[str, str]:
    """Return field name -> text of the string that follows its annotation, base classes included.

    Raises OSError where there is no source.
    """
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        if owner.__module__.split(".")[0] == __name__.split(".")[0]:
            found |= _own(owner)
    return found


def _own(cls: type) -> dict[str, str]:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    texts = {}
    for field, below in itertools.pairwise(tree.body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                texts[name] = inspect.cleandoc(text)
    return texts
