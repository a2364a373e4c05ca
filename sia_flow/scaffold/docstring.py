"""The docstring of a scaffold's module, where agents record what they read.

Invariant: the code below the docstring stays byte for byte; the note cannot end the docstring early.
"""

from __future__ import annotations

import ast

from sia_flow.scaffold.source import insert_lines, parse, replace_span


def append_docstring(source: str, note: str) -> str:
    """Return `source` with `note` as the last paragraph of its module docstring, which is made where missing.

    Raises ScaffoldError for a source that does not parse.
    """
    note = note.replace("\\", "/").replace('"""', "'''").rstrip('"')
    tree = parse(source)
    first = tree.body[0] if tree.body else None
    if not isinstance(first, ast.Expr) or ast.get_docstring(tree, clean=False) is None:
        return insert_lines(source, 1, [*f'"""{note}\n"""'.split("\n"), ""])
    text = ast.get_source_segment(source, first) or ""
    if not text.startswith('"""'):
        text = '"""' + str(ast.get_docstring(tree)).replace("\\", "\\\\").replace('"""', "'''") + '"""'
    return replace_span(source, first, f'{text[:-3].rstrip()}\n\n{note}\n"""')
