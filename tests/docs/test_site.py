"""The documentation: complete references, links that lead somewhere, and a site that loads nothing from elsewhere."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sia_flow.cli.main import COMMANDS
from sia_flow.cli.reference import command_reference
from sia_flow.spec.paths import show_path
from sia_flow.spec.reference import spec_reference
from sia_flow.spec.schema import walk

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
# What a page would fetch by itself: scripts, styles, images, frames. A link that a reader follows is none.
LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc\s*=\s*["']?(?:https?:)?//"""
    r"""|<link\b[^>]*\bhref\s*=\s*["']?(?:https?:)?//|<object\b[^>]*\bdata\s*=\s*["']?(?:https?:)?//"""
    r"""|url\(\s*["']?(?:https?:)?//|@import\s*["'](?:https?:)?//""",
    re.IGNORECASE,
)


def pages() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("site_build", ROOT / "docs" / "build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written: dict[str, str] = module.pages()
    return written | {path.name: path.read_text() for path in (ROOT / "docs").glob("*.md")}


def test_every_key_of_a_spec_stands_in_one_row_of_five_cells() -> None:
    rows = [line for line in spec_reference().splitlines() if line.startswith("| `")]
    keys = [row.split("`")[1] for row in rows]
    assert sorted(keys) == sorted(show_path(path) for path in walk())
    assert {len(re.split(r"(?<!\\)\|", row)) for row in rows} == {7}
    (wall,) = [row for row in rows if row.startswith("| `spec.sandbox.wall`")]
    assert "`10.0`" in wall
    assert "30m, 90s" in wall


def test_every_command_and_verb_has_its_options_and_no_other_process_is_needed() -> None:
    text = command_reference()
    for name in COMMANDS:
        assert f"## `sia-flow {name}`" in text
    compare = text.partition("## `sia-flow compare`")[2].partition("\n## ")[0]
    assert "| `SPEC\\|NAME` | required |" in compare
    assert "| `--json` |" in compare
    assert "## `sia-flow task check`" in text


def test_links_between_pages_lead_to_pages_and_pictures_that_are_there() -> None:
    known = pages()
    broken = [
        (name, target)
        for name, text in known.items()
        for target in LINK.findall(text)
        if not target.startswith(("http:", "https:"))
        and (plain := str((Path("/") / name).parent.joinpath(target).resolve())[1:]) not in known
        and not (ROOT / "docs" / plain).is_file()
    ]
    assert not broken


def test_every_page_stands_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    navigation = str(yaml.safe_load(text)["nav"])
    assert set(re.findall(r"'([\w/-]+\.md)'", navigation)) == set(pages())


def test_what_a_page_would_load_is_found_and_what_it_links_to_is_not() -> None:
    assert LOADED.search('<script async src="https://unpkg.com/x"></script>')
    assert LOADED.search("<link rel=stylesheet href=//fonts.example/css>")
    assert LOADED.search("a{background:url( 'http://a.example/b.png')}")
    assert not LOADED.search('<a href="https://example.org">there</a> <img src="images/a.png">')


@pytest.mark.skipif(importlib.util.find_spec("material") is None, reason="needs mkdocs-material: `make docs` has it")
def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-f", str(ROOT / "mkdocs.yml")]
    done = subprocess.run([*command, "-d", str(tmp_path / "site")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = [path for path in (tmp_path / "site").rglob("*") if path.suffix in {".html", ".css"}]
    assert len(built) > len(pages())
    assert not [(path.name, found[0]) for path in built if (found := LOADED.search(path.read_text()))]
    assert "spec.budget.usd" in (tmp_path / "site" / "reference" / "spec.html").read_text()
