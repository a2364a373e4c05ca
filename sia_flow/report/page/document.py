"""The whole page, written piece by piece.

Invariants: the file names no other resource and its policy forbids any; it is the same for the same records; it stays
below `LIMIT` bytes, for each generation's texts are cut to a share of it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from sia_flow.errors import StoreError
from sia_flow.lineage.heads import Head
from sia_flow.lineage.store import Store
from sia_flow.report.page import sections
from sia_flow.report.page.entry import entry
from sia_flow.report.page.markup import Html, tag, text
from sia_flow.report.page.source import Run, Source
from sia_flow.report.published import Cited

LIMIT = 16_000_000
"""Characters that the generations share."""
_HERE = Path(__file__).parent


def write_page(store: Store, heads: Sequence[Head], path: Path, cited: Cited | None = None) -> Path:
    """Write the page of an experiment's runs, with what is cited beside them; return `path`.

    Raises StoreError where it cannot be written.
    """
    source = Source(store, heads, cited)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(page(source))
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:
        raise StoreError(f"cannot write the page {path}: {error.strerror}") from error
    return path


def page(source: Source) -> Iterator[str]:
    """Yield the page's parts in order."""
    script = (_HERE / "script.js").read_text(encoding="utf-8")
    style = (_HERE / "style.css").read_text(encoding="utf-8")
    yield _head(source.heads[0].experiment, style, script)
    yield sections.header(source)
    yield '<main id="main">'
    for part in (sections.verdict, sections.scores, sections.graph, sections.gap):
        yield part(source)
    yield from _decisions(source)
    yield sections.provenance(source)
    yield f"</main><script>{script}</script></body></html>\n"


def _head(experiment: str, style: str, script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    nothing = "; ".join(f"{name} 'none'" for name in ("default-src", "base-uri", "form-action"))
    policy = f"{nothing}; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{text(policy)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(experiment)}: report of sia-flow</title><style>{style}</style></head>"
        '<body><a class="skip" href="#main">Skip to the verdict</a>'
    )


def _decisions(source: Source) -> Iterator[str]:
    count = sum(len(run.nodes) for run in source.runs)
    allowance = LIMIT // max(1, count)
    buttons = [
        Html(f'<button type="button" data-open="{value}" hidden class="noprint">{label}</button> ')
        for value, label in (("yes", "Open all"), ("no", "Close all"))
    ]
    yield '<section aria-labelledby="decisions">'
    yield tag("h2", "Decisions, one a generation", id="decisions") + sections.calibration(source) + "".join(buttons)
    for run in source.runs:
        yield tag("h3", _title(run), id=f"run-{run.number}")
        for generation in source.generations(run):
            yield entry(source, run, generation, allowance)
    yield "</section>"


def _title(run: Run) -> str:
    return f"{run.title}: {run.result.stopped}" if run.result else f"{run.title}: not finished"
