"""Pages of the site that are written from something else: the overview, both references, changes, contributing.

Invariant: nothing here is committed twice; the README of the repository is the first page of the site.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[1]


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the written pages to those that lie in docs/."""
    from mkdocs.structure.files import File

    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def pages() -> dict[str, str]:
    """Return path in the site -> Markdown."""
    sys.path.insert(0, str(ROOT))
    try:
        from sia_flow.cli.reference import command_reference
        from sia_flow.spec.reference import spec_reference
    finally:
        sys.path.remove(str(ROOT))
    return {
        "index.md": from_root("README.md"),
        "changelog.md": from_root("CHANGELOG.md"),
        "contributing.md": from_root("CONTRIBUTING.md"),
        "reference/spec.md": spec_reference(),
        "reference/commands.md": command_reference(),
    }


def from_root(name: str) -> str:
    """Return a page of the repository's root with its links as they are seen from docs/."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
    return re.sub(r"\]\((CHANGELOG|CONTRIBUTING)\.md", lambda found: f"]({found[1].lower()}.md", text)
