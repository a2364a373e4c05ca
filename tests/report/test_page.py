"""The report as one HTML page: whole, closed, escaped, bounded, and used in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sia_flow.lineage.heads import Head, heads, write_head
from sia_flow.lineage.jsonl import dump_lines
from sia_flow.lineage.records import Decision, Edit, Generation, Trajectory, Turn, Verdict
from sia_flow.lineage.results import ArmResult
from sia_flow.lineage.store import Step, StepOutput, Store
from sia_flow.report.page.chart import Line, Point, chart, ticks
from sia_flow.report.page.document import write_page
from sia_flow.report.page.markup import Html, pre, tag, text
from sia_flow.report.page.source import choose
from sia_flow.report.published import TaskFigures
from tests.report.browser import CHROMIUM, Browser

HOSTILE = (
    "</pre></script><script>document.title='owned'</script><img src=http://evil.example/x onerror=alert(1)>\u202e\x1b"
)


class Wellformed(HTMLParser):
    """Checks that tags close as they opened, and collects names and addresses."""

    VOID = frozenset({"meta", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.addresses: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        for name, value in attrs:
            if name in ("href", "src", "action", "data", "xlink:href"):
                self.addresses.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            assert not name.startswith("on"), name
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag


@pytest.fixture
def store(tmp_path: Path, generation: Callable[..., Generation], result: Callable[..., ArmResult]) -> Store:
    """Two arms of three generations; what models wrote in them is hostile."""
    store = Store(tmp_path / "store")
    turn = Turn(
        messages=({"role": "user", "content": HOSTILE},),
        text=HOSTILE,
        prompt_ids=(1,),
        completion_ids=(2,),
        logprobs=(-0.1,),
        temperature=1.0,
        finish="stop",
        policy="base",
    )
    found = [Trajectory(instance=f"i{n} {HOSTILE}", sample=n, seed=n, turns=(turn,), answer=HOSTILE) for n in range(4)]
    reasons = ("ok", "ok", f"x{HOSTILE}", "syntax")
    verdicts = [Verdict(reward=0.1 * n, valid=r == "ok", reason=r, feedback=HOSTILE) for n, r in enumerate(reasons)]
    oid, vid = (store.objects.put_bytes(dump_lines(records)) for records in (found, verdicts))
    verify = store.run(Step("verify", 1, {}, {}, 0), lambda: StepOutput({"verdicts": vid}))
    for number, arm in enumerate(("SIA-H", "SIA-W+H")):
        ids = []
        for index in range(3):
            scaffold = store.objects.put_tree({"scaffold.py": f"KNN: int = {5 + index}\n# {HOSTILE}\n".encode()})
            edit = Edit(kind="constants", name=HOSTILE, summary=HOSTILE, files={})
            decision = Decision(lever="harness", reason=HOSTILE, forecast=0.02, report=HOSTILE * 3, edits=(edit,))
            made = generation(
                index,
                0.1 + 0.02 * index * (number + 1),
                weights=index == 2,
                id=f"{number}{index:063x}",
                parent=f"{number}{index - 1:063x}" if index else None,
                scaffold=scaffold,
                trajectories=oid,
                steps={"verify train": verify.key},
                accepted=index != 1,
                verdict=HOSTILE,
                **({"decision": decision} if index == 1 else {}),
            )
            store.put_generation(made)
            ids.append(made.id)
        ended = result(arm, 0, 0.1 + 0.02 * number, generations=tuple(ids), incumbent=ids[2], key=f"{number}")
        store.put_arm(ended)
        spec = {"metadata": {"name": "denoise", "description": HOSTILE}, "spec": {"task": {"name": "denoise"}}}
        head = Head(experiment="denoise", arm=arm, seed=0, generations=tuple(ids), result=ended.key, spec=spec)
        write_head(store, head)
    return store


@pytest.fixture
def page(store: Store, tmp_path: Path) -> Path:
    return write_page(store, heads(store, "denoise"), tmp_path / "report.html")


def test_the_page_is_whole_and_names_nothing_outside(page: Path) -> None:
    parser = Wellformed()
    parser.feed(page.read_text().removeprefix("<!doctype html>"))
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    assert parser.addresses
    assert {address[0] for address in parser.addresses} == {"#"}
    assert {address[1:] for address in parser.addresses} <= set(parser.ids)
    assert parser.names.isdisjoint({"img", "iframe", "object", "link", "form"})


def test_what_a_model_wrote_is_shown_and_never_run(page: Path) -> None:
    source = page.read_text()
    assert source.count("<script>") == 1
    assert "\u202e" not in source
    assert "\x1b" not in source
    assert "&lt;script&gt;document.title=" in source
    assert "<img" not in source
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', source)
    assert policy is not None
    assert policy[1].startswith("default-src &#x27;none&#x27;")


def test_the_page_says_what_a_reader_looks_for(page: Path) -> None:
    source = page.read_text()
    for words in (
        "SIA-W+H is better than SIA-H on sealed",
        "All agents",
        "Forecast and outcome by kind of pull",
        "Selected against sealed",
        "forecast gain</dt><dd>+0.0200",
        "Scaffold diff",
        '<span class="add">+KNN: int = 6</span>',
        "best: reward 0.1000",
        "failed: syntax",
        "The resolved spec",
        "sia-flow reproduce denoise/SIA-H/seed-0",
    ):
        assert words in source, words
    assert source.count('class="generation"') == 6


def test_equal_records_give_an_equal_page(store: Store, page: Path, tmp_path: Path) -> None:
    again = write_page(store, heads(store, "denoise"), tmp_path / "again.html")
    assert again.read_bytes() == page.read_bytes()


def test_what_others_published_stands_beside_ours(store: Store, page: Path, tmp_path: Path) -> None:
    theirs = TaskFigures(metric="m", figures={"SIA-H": 0.5}, others={"A <B>": 2.0}, differs=("on *other* data",))
    cited = write_page(store, heads(store, "denoise"), tmp_path / "cited.html", ("Someone", theirs)).read_text()
    assert '<th scope="col">paper</th>' in cited
    assert "A &lt;B&gt; (paper)" in cited
    assert "<li>on *other* data</li>" in cited
    assert "paper</th>" not in page.read_text()


def test_a_run_that_is_not_finished_has_a_page_too(store: Store, tmp_path: Path) -> None:
    for path in (store.root / "arms").iterdir():
        path.unlink()
    source = write_page(store, heads(store, "denoise"), tmp_path / "r.html").read_text()
    assert "Not finished, so not compared: SIA-H seed 0, SIA-W+H seed 0." in source


def test_long_texts_are_cut_and_say_so() -> None:
    assert text("x" * 50, 10) == "x" * 10 + " [cut: 50 characters in all]"
    assert "[cut: 300 characters in all]" in pre("y" * 300, 100)


def test_markup_is_escaped_once() -> None:
    assert tag("p", "<b>", Html("<i>x</i>"), title='"') == '<p title="&quot;">&lt;b&gt;<i>x</i></p>'
    assert text("\ud800") == "?"


def test_trajectories_are_chosen_by_outcome() -> None:
    outcomes = [(0.1, "ok"), (0.3, "ok"), (0.0, "syntax"), (0.0, "guard"), (0.0, "timeout"), (0.2, "ok")]
    verdicts = [Verdict(reward=reward, valid=reason == "ok", reason=reason) for reward, reason in outcomes]
    shown = [
        ("best", 1),
        ("failed: guard", 3),
        ("failed: syntax", 2),
        ("worst that is valid", 0),
        ("failed: timeout", 4),
    ]
    assert choose(verdicts) == shown
    assert choose([]) == []


def test_a_chart_leaves_out_what_is_not_a_number() -> None:
    line = Line("a", [Point(0, float("nan")), Point(1, 0.5), Point(2, 0.7)])
    assert "nan" not in chart("t", "x", "y", [line])
    assert "nothing was measured" in chart("t", "x", "y", [Line("a", [])])
    assert ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(-3, 41)[0] == 0


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_in_a_browser_by_keyboard_and_on_paper(page: Path, tmp_path: Path) -> None:
    with Browser(tmp_path / "profile") as browser:
        browser.open(page.as_uri())
        assert browser.ask("document.title") == "denoise: report of sia-flow"
        assert browser.ask("document.querySelectorAll('details[open]').length") == 0
        browser.press("Tab")
        assert browser.ask("document.activeElement.className") == "skip"
        for _ in range(60):
            browser.press("Tab")
            if browser.ask("document.activeElement.getAttribute('href')") == "#r0-g1":
                break
        assert "SIA-H seed 0 @1, harness" in browser.ask("document.activeElement.getAttribute('aria-label')")
        browser.press("Enter")
        assert browser.becomes("location.hash == '#r0-g1'")
        assert browser.becomes("document.querySelector('#r0-g1').open")
        assert browser.becomes("document.activeElement.tagName == 'SUMMARY'")
        assert browser.ask("getComputedStyle(document.activeElement).outlineStyle") != "none"
        # No box of the page is wider than the window.
        assert browser.ask("document.documentElement.scrollWidth <= innerWidth")
        printed = browser.pdf()
        assert printed.startswith(b"%PDF")
        assert len(re.findall(rb"/Type\s*/Page\b", printed)) > 2
        assert browser.ask("document.querySelectorAll('details.generation[open]').length") == 6
        assert browser.complaints() == []
        assert set(browser.requests()) == {page.as_uri()}


def test_what_scaffolds_could_read_stands_at_the_top(store: Store, page: Path, tmp_path: Path) -> None:
    for head in heads(store, "denoise"):
        spec = dict(head.spec or {})
        spec["spec"] = {**spec["spec"], "sandbox": {"network": [{"url": "https://api.example.org/"}]}}
        write_head(store, head.model_copy(update={"spec": spec}))
    source = write_page(store, heads(store, "denoise"), tmp_path / "read.html").read_text()
    top = source.partition("<nav")[0]
    assert "Scaffolds may read https://api.example.org/ through the host, on every split" in top
    assert "answers of the sealed split included" in top
    assert "through the host" not in page.read_text()
