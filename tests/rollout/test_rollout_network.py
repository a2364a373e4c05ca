"""Scaffolds that read granted services: from the real sandbox, through the host, a real server at the other end."""

from __future__ import annotations

import json
import posixpath
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sia_flow.addresses import Grant, parse_url
from sia_flow.canonical import digest_bytes
from sia_flow.lineage.records import Trajectory
from sia_flow.lineage.store import Store
from sia_flow.loop.lab import Lab
from sia_flow.protocols import Completion, SampleRequest
from sia_flow.rollout.engine import plan_work
from sia_flow.rollout.fetching import KEPT, MAX_FETCHES
from sia_flow.rollout.network.client import Client
from sia_flow.rollout.requests import RefusedRequest
from sia_flow.spec.load import load_experiments
from tests.flows.world import make_project
from tests.rollout.conftest import OVERRIDES
from tests.rollout.web import Said, Web, serving

TRY = """
def solve(job):
    said = []
    for wanted in {calls}:
        try:
            said.append(repr(eval(wanted)))
        except RuntimeError as error:
            said.append("refused: " + str(error))
    return "\\n".join(said)
"""


class Mute:
    """A policy that is never asked."""

    version = "mute"

    def __init__(self, at_once: int = 0) -> None:
        self.at_once = at_once

    def hold(self) -> Mute:
        """Return itself."""
        return self

    def sample(self, requests: Sequence[SampleRequest]) -> list[list[Completion]]:
        """Refuse."""
        raise AssertionError(requests)


class Answering:
    """What the server answers; tests change it."""

    def __init__(self) -> None:
        self.words = "words"
        self.together: threading.Barrier | None = None

    def __call__(self, handler: BaseHTTPRequestHandler) -> Said:
        if self.together is not None:
            self.together.wait(20)
        if handler.path.startswith("/docs/gone"):
            return Said(b"no such page", 404)
        return Said(f"{self.words} at {handler.path}".encode())


@pytest.fixture(scope="module")
def answering() -> Answering:
    return Answering()


@pytest.fixture(scope="module")
def server(answering: Answering) -> Iterator[Web]:
    with serving(answering) as web:
        yield web


@pytest.fixture
def web(server: Web, answering: Answering) -> Web:
    server.seen.clear()
    answering.words, answering.together = "words", None
    return server


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory, server: Web) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp("reading")
    granting = [*OVERRIDES, f"sandbox.network=[{server.url}/docs/]"]
    (experiment,) = load_experiments(make_project(root, started=False), granting)
    with Lab(experiment, root, Store(root / ".sia-flow/store")) as opened:
        yield opened


def roll(lab: Lab, calls: Sequence[str], count: int = 1, step: str | None = None, at_once: int = 0) -> list[Trajectory]:
    work = plan_work(lab.instances("train", 1), count, "network")
    source = TRY.format(calls=list(calls))
    return lab.engine("train", step).run({"scaffold.py": source}, Mute(at_once), work)


def one(lab: Lab, *calls: str) -> Trajectory:
    (found,) = roll(lab, calls)
    assert (found.status, found.error) == ("OK", "")
    return found


def test_a_scaffold_gets_a_page_and_the_record_has_it(reading: Lab, web: Web) -> None:
    url = f"{web.url}/docs/a?q=1"
    found = one(reading, f"job.fetch({url!r}, headers={{'Accept': 'text/plain'}})", f"job.fetch('{web.url}/docs/gone')")
    page = {"status": 200, "url": url, "headers": {"content-type": "text/plain"}, "text": "words at /docs/a?q=1"}
    first, second = (found.answer or "").split("\n")
    assert first == repr(page)
    assert "'status': 404" in second
    assert [(call.name, call.after_turn) for call in found.tools] == [("fetch", 0), ("fetch", 0)]
    assert found.tools[0].arguments == {"url": url, "headers": {"Accept": "text/plain"}}
    assert found.tools[0].result == page
    assert Trajectory.model_validate(json.loads(found.model_dump_json())) == found


def test_of_a_long_page_the_record_has_the_beginning_and_the_digest(
    reading: Lab, web: Web, answering: Answering
) -> None:
    answering.words = "\u00fc" * 500_000
    found = one(reading, f"len(job.fetch('{web.url}/docs/a')['text'])")
    whole = f"{answering.words} at /docs/a"
    assert found.answer == str(len(whole))
    result = dict(found.tools[0].result)
    assert result["text"] == whole[:KEPT]
    assert (result["sha256"], result["characters"]) == (digest_bytes(whole.encode()), len(whole))


@pytest.mark.parametrize(
    ("call", "words", "kept"),
    [
        ("job.fetch('{web}/secret')", "is not granted; it must lie within", True),
        ("job.fetch('https://api.example.org/')", "is not granted", True),
        ("job.fetch('file:///etc/passwd')", "is no address to read", True),
        ("job.fetch('{web}/docs/a b')", "has to be escaped", True),
        ("job.fetch('{web}/docs/a', headers={{'Authorization': 'x'}})", "headers", False),
        ("job.fetch('{web}/docs/a', headers={{'accept': 'a\\r\\nX-A: b'}})", "headers", False),
        ("job.fetch(5)", "url", False),
        ("job.fetch('')", "url", False),
        ("job._wire.call('fetch', {{'url': '{web}/docs/a', 'method': 'POST'}})", "method", False),
    ],
)
def test_what_is_not_granted_is_refused_inside(reading: Lab, web: Web, call: str, words: str, *, kept: bool) -> None:
    found = one(reading, call.format(web=web.url))
    assert (found.answer or "").startswith("refused: fetch: "), found.answer
    assert words in (found.answer or "")
    assert web.seen == []
    assert [words in call.result["refused"] for call in found.tools] == [True] * kept


def test_where_nothing_is_granted_nothing_is_read(lab: Lab, web: Web) -> None:
    found = one(lab, f"job.fetch('{web.url}/docs/a')")
    assert (found.answer or "").startswith("refused: fetch: nothing is granted; the user may name services")
    assert (web.seen, found.tools) == ([], ())
    assert "network" not in lab.inputs
    assert "network" not in lab.isolation.model_dump(mode="json")


def test_a_grant_is_in_the_steps_keys_and_in_the_records(reading: Lab, lab: Lab, web: Web) -> None:
    assert {**reading.inputs, "network": None} == {**lab.inputs, "network": None}
    assert len(reading.inputs["network"]) == 64
    assert reading.isolation.network == (f"{web.url}/docs/",)
    assert f"scaffolds could read {web.url}/docs/" in reading.isolation.words


def test_calls_of_a_rollout_are_bounded_and_leave_the_tools_theirs(reading: Lab, web: Web) -> None:
    calls = [f"job.fetch('{web.url}/docs/a')['status']"] * MAX_FETCHES
    found = one(reading, *calls, *calls[:1], "job.tools.score_visible(program='x')['valid']")
    answers = (found.answer or "").split("\n")
    assert answers[:MAX_FETCHES] == ["200"] * MAX_FETCHES
    assert f"more than {MAX_FETCHES} calls" in answers[MAX_FETCHES]
    assert answers[-1] == "False"
    assert len(web.seen) == MAX_FETCHES


@pytest.mark.parametrize("at_once", [0, 4], ids=["rounds", "each for itself"])
def test_rollouts_are_answered_at_the_same_time(reading: Lab, web: Web, answering: Answering, at_once: int) -> None:
    """The server answers only when two requests are there."""
    answering.together = threading.Barrier(2)
    found = roll(reading, [f"job.fetch('{web.url}/docs/%d' % job.seed)['text']"], 4, at_once=at_once)
    assert [t.answer for t in found] == [repr(f"words at /docs/{t.seed}") for t in found]
    assert not answering.together.broken


def test_a_step_that_is_begun_again_shows_what_it_showed(reading: Lab, web: Web, answering: Answering) -> None:
    calls = [f"job.fetch('{web.url}/docs/a')", f"job.fetch('{web.url}/docs/a')", f"job.fetch('{web.url}/docs/gone')"]
    first = roll(reading, calls, 2, "step")
    assert len(web.seen) == 6
    answering.words = "changed"
    assert roll(reading, calls, 2, "step") == first
    assert len(web.seen) == 6
    other = roll(reading, calls, 2, "another step")
    assert len(web.seen) == 12
    assert all("changed" in str(t.tools[0].result) for t in other)
    # Another request at the same place is none that was answered.
    assert "changed" in str(roll(reading, [calls[0].replace("/a", "/b")], 2, "step")[0].tools[0].result)


def test_a_failure_that_was_told_is_told_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    answers = [Said(b"", 500)] * 3
    with serving(lambda _: answers.pop() if answers else Said(b"well")) as web:
        root = tmp_path_factory.mktemp("failing")
        granting = [*OVERRIDES, f"sandbox.network=[{web.url}]"]
        (experiment,) = load_experiments(make_project(root, started=False), granting)
        with Lab(experiment, root, Store(root / ".sia-flow/store")) as lab:
            first, again = (roll(lab, [f"job.fetch('{web.url}/')"], 1, "step") for _ in range(2))
    assert first == again
    assert "gave no answer (tries: 3): it answered 500" in (first[0].answer or "")
    assert len(web.seen) == 3


# --- no address outside of the grant is ever asked for ---------------------------------------------------------------

PIECES = [
    "/docs", "/docs/", "docs", "/", "//", "..", ".", "%2e%2e", "%2E.", "%2f", "%5c", "\\", ";", ";a=b", "?", "#", "@",
    "%25", "%252e%252e%252f", "%c0%ae", "%ef%bc%8f", "%e2%80%a6", "\u2025", "\u3002", "secret", "a", "%00", "%0d%0a",
    "%", " ", "\t", "\r\n", "[", "]", ":", "%64ocs", "/docs/../secret", "/docs/..;/secret", "&x=", "%2e%2e%5csecret",
    "/docs/..%2fsecret", "/docs/%2e%2e%5csecret", "/docs/a/..;b/..;b/secret",
]  # fmt: skip
HEADS = [
    "http://127.0.0.1:{own}", "http://127.0.0.1:{other}", "http://127.0.0.1", "http://localhost:{own}", "http://127.1:{own}",
    "http://2130706433:{own}", "http://[::ffff:127.0.0.1]:{own}", "http://127.0.0.1:{own}@127.0.0.1:{other}",
    "http://127.0.0.1:{other}\\@127.0.0.1:{own}", "HTTP://127.0.0.1:{own}", "//127.0.0.1:{other}",
    "http://127.0.0.1:{other}#@127.0.0.1:{own}", "http:127.0.0.1:{other}", "http:/127.0.0.1:{other}",
    "https://127.0.0.1:{own}", "http://127.0.0.1.:{own}", "http://a@127.0.0.1:{own}", "",
]  # fmt: skip


def readings(path: str) -> Iterator[str]:
    """Yield the paths that a server might take a path for."""
    for _ in range(3):
        for form in (path, unicodedata.normalize("NFKC", path)):
            bare = "/".join(part.partition(";")[0] for part in form.replace("\\", "/").split("/"))
            yield posixpath.normpath("/" + bare.lstrip("/"))
        path = unquote(path, errors="replace")


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Web, Web, Client]]:
    """A server of which /docs is granted, one of which nothing is, and what reads the first."""

    def moving(handler: BaseHTTPRequestHandler) -> Said:
        wanted = handler.path.partition("to=")[2]
        return Said(b"", 302, {"location": unquote(wanted)}) if wanted else Said(b"here")

    with serving(moving) as own, serving(moving) as other:
        yield own, other, Client([Grant(parse_url(f"{own.url}/docs"))], pause=0.0)


@settings(max_examples=300, deadline=None, phases=(Phase.generate,), suppress_health_check=list(HealthCheck))
@given(
    head=st.just(HEADS[0]) | st.sampled_from(HEADS),
    tail=st.lists(st.sampled_from(PIECES), max_size=6).map("".join),
    moved=st.booleans(),
)
def test_no_request_leaves_the_grant(pair: tuple[Web, Web, Client], head: str, tail: str, *, moved: bool) -> None:
    """Neither asked for nor redirected to, however it is spelt."""
    own, other, client = pair
    text = head.format(own=own.port, other=other.port) + tail
    if moved:
        escaped = "".join(f"%{byte:02x}" for byte in text.encode())
        text = f"{own.url}/docs?to={escaped}"
    own.seen.clear()
    try:
        client.read(client.admit(text), {})
    except RefusedRequest:
        pass
    else:
        assert own.seen
    assert other.seen == []
    for target in own.seen:
        for path in readings(target.partition("?")[0]):
            assert path == "/docs" or path.startswith("/docs/"), target
