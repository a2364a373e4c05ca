"""Reading the web for a scaffold: what is granted and nothing else, bounded, on a real server."""

from __future__ import annotations

import functools
import gzip
import ssl
import zlib
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_network
from pathlib import Path

import pytest

from sia_flow.addresses import Grant, parse_url
from sia_flow.rollout.network.answers import Page
from sia_flow.rollout.network.bodies import LIMIT
from sia_flow.rollout.network.client import REDIRECTS, TRIES, Client
from sia_flow.rollout.requests import RefusedRequest
from tests.rollout.web import Said, Web, serving

NAME = "docs.example.org"
HTML = {"content-type": "text/html; charset=utf-8"}


def script(handler: BaseHTTPRequestHandler) -> Said | None:
    path = handler.path.partition("?")[0].removeprefix("/docs")
    if path.startswith("/moved/"):
        left = int(path.split("/")[2])
        return Said(b"", 302, {"location": f"/docs/moved/{left - 1}" if left else "/docs/text"})
    if path.startswith("/status/"):
        return Said(b"words", int(path.split("/")[2]))
    return {
        "/text": Said(
            "Gr\u00fc\u00dfe".encode(), headers={**HTML, "set-cookie": "a=b", "x-secret": "1", "etag": '"7"'}
        ),
        "/controls": Said(b"a\x00b\x1b[31mc\r\n\td\xc2\x9be", headers=HTML),
        "/latin": Said("Gr\u00fc\u00dfe".encode("latin-1"), headers={"content-type": "text/plain; charset=ISO-8859-1"}),
        "/picture": Said(b"\x89PNG\xff\xfe", headers={"content-type": "image/png"}),
        "/packed": Said(gzip.compress(b"packed words"), headers={"content-encoding": "gzip"}),
        "/cut": Said(gzip.compress(b"packed words" * 9)[:-9], headers={"content-encoding": "gzip"}),
        "/brotli": Said(b"?", headers={"content-encoding": "br"}),
        "/bomb": Said(bomb(), headers={"content-encoding": "gzip"}),
        "/fits": Said(b"x" * LIMIT),
        "/big": Said(b"x" * (LIMIT + 1)),
        "/out": Said(b"", 302, {"location": f"http://127.0.0.1:{handler.server.server_address[1] + 1}/docs/text"}),
        "/above": Said(b"", 302, {"location": "/secret"}),
        "/loop": Said(b"", 302, {"location": "/docs/loop"}),
        "/odd": Said(b"", 302, {"location": "http://[/"}),
    }.get(path, Said(b"nothing here", 404))


@functools.cache
def bomb() -> bytes:
    packer = zlib.compressobj(1, wbits=31)
    return b"".join([packer.compress(bytes(1 << 20)) for _ in range(64)] + [packer.flush()])


@pytest.fixture(scope="module")
def server() -> Iterator[Web]:
    with serving(script) as web:
        yield web


@pytest.fixture
def web(server: Web) -> Web:
    server.seen.clear()
    server.headers.clear()
    return server


def client(*urls: str, at: Sequence[str] = (), **parts: object) -> Client:
    networks = tuple(ip_network(text) for text in at)
    return Client([Grant(parse_url(url), networks) for url in urls], **{"pause": 0.01, **parts})  # type: ignore[arg-type]


def read(reader: Client, url: str, **headers: str) -> Page:
    return reader.read(reader.admit(url), headers)


def test_a_page_is_text_with_few_headers(web: Web) -> None:
    page = read(client(f"{web.url}/docs/"), f"{web.url}/docs/text?q=a%20b", accept="text/html")
    assert (page.status, page.text, page.url) == (200, "Gr\u00fc\u00dfe", f"{web.url}/docs/text?q=a%20b")
    assert page.headers == {"content-type": HTML["content-type"], "etag": '"7"'}
    assert web.seen == ["/docs/text?q=a%20b"]
    (sent,) = web.headers
    assert sent["host"] == web.url.removeprefix("http://")
    assert sent["accept"] == "text/html"
    assert set(sent) == {"host", "accept", "user-agent", "accept-encoding", "connection"}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("controls", "a\ufffdb\ufffd[31mc\r\n\td\ufffde"),
        ("latin", "Gr\u00fc\u00dfe"),
        ("packed", "packed words"),
        ("fits", "x" * LIMIT),
        ("absent", "nothing here"),
        (f"moved/{REDIRECTS - 1}", "Gr\u00fc\u00dfe"),
    ],
)
def test_a_body_is_read_whole(web: Web, path: str, text: str) -> None:
    assert read(client(f"{web.url}/docs/"), f"{web.url}/docs/{path}").text == text


@pytest.mark.parametrize(
    ("path", "words", "requests"),
    [
        ("picture", "no text", 1),
        ("brotli", "packed as 'br'", 1),
        ("big", f"more than {LIMIT} bytes", 1),
        ("bomb", f"more than {LIMIT} bytes", 1),
        ("loop", f"redirects more than {REDIRECTS} times", REDIRECTS + 1),
        ("out", "is not granted; what it redirects to must lie within", 1),
        ("above", "/secret is not granted", 1),
        ("odd", "is no address", 1),
        ("cut", "ends too early", TRIES),
        ("status/503", "it answered 503", TRIES),
        ("status/429", "it answered 429", TRIES),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason(web: Web, path: str, words: str, requests: int) -> None:
    with pytest.raises(RefusedRequest, match="(?s)" + words.replace("(", "\\(")):
        read(client(f"{web.url}/docs"), f"{web.url}/docs/{path}")
    assert len(web.seen) == requests


def test_a_bomb_is_never_held_unpacked(web: Web) -> None:
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(RefusedRequest):
        read(client(f"{web.url}/docs"), f"{web.url}/docs/bomb")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(bomb()) < LIMIT < peak < 8 * LIMIT


def test_a_service_that_fails_once_is_asked_again() -> None:
    answers = [Said(b"", 500), Said(b"well")]
    with serving(lambda _: answers.pop(0)) as web:
        assert read(client(web.url), web.url).text == "well"


@pytest.mark.parametrize("drip", ["headers", "body", "nothing"])
def test_a_slow_service_costs_no_more_than_the_deadline(drip: str) -> None:
    def slowly(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nx-a: " if drip == "headers" else b"")
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n" if drip == "body" else b"")
        while not web.over.wait(0.02):
            handler.wfile.write(b"" if drip == "nothing" else b"a")

    told: list[str] = []
    with serving(slowly) as web:
        reader = client(web.url, seconds=0.5, warn=told.append)
        for _ in range(2):
            with pytest.raises(RefusedRequest, match=r"gave no answer \(tries: 1\)"):
                read(reader, web.url)
    assert [text.partition(",")[0] for text in told] == [f"{web.url}"]


def test_nobody_there_is_a_refusal() -> None:
    with serving(script) as gone:
        url = gone.url
    with pytest.raises(RefusedRequest, match=r"gave no answer \(tries: 3\): .*refused"):
        read(client(url), url)


def test_the_environment_sends_nothing_elsewhere(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving(script) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        reader = client(f"{web.url}/docs")
        for _ in range(2):
            read(reader, f"{web.url}/docs/text")
        assert proxy.seen == []
    assert all({"authorization", "cookie"}.isdisjoint(sent) for sent in web.headers)


# --- names and addresses ------------------------------------------------------------------------------------------


def test_a_public_name_that_resolves_to_an_inner_address_is_refused(web: Web) -> None:
    reader = client(f"http://{NAME}:{web.port}", resolve=lambda *_: ["127.0.0.1"])
    with pytest.raises(RefusedRequest, match=r"resolves to 127\.0\.0\.1, which is not public and not granted"):
        read(reader, f"http://{NAME}:{web.port}/docs/text")
    assert web.seen == []


def test_one_inner_address_among_public_ones_closes_the_name(web: Web) -> None:
    reader = client(f"http://{NAME}:{web.port}", resolve=lambda *_: ["127.0.0.1", "10.0.0.7"], at=["127.0.0.0/8"])
    with pytest.raises(RefusedRequest, match=r"resolves to 10\.0\.0\.7"):
        read(reader, f"http://{NAME}:{web.port}/docs/text")
    assert web.seen == []


def test_the_address_that_was_checked_is_the_one_that_is_reached(web: Web) -> None:
    """A name that changes its address from one look to the next is looked up once for each request."""
    answers = iter([["127.0.0.1"], ["127.0.0.2"]])
    asked: list[tuple[str, int]] = []

    def resolve(host: str, port: int) -> Sequence[str]:
        asked.append((host, port))
        return next(answers)

    reader = client(f"http://{NAME}:{web.port}", resolve=resolve, at=["127.0.0.1"])
    assert read(reader, f"http://{NAME}:{web.port}/docs/text").status == 200
    assert asked == [(NAME, web.port)]
    assert web.headers[0]["host"] == f"{NAME}:{web.port}"
    with pytest.raises(RefusedRequest, match=r"resolves to 127\.0\.0\.2"):
        read(reader, f"http://{NAME}:{web.port}/docs/text")


def test_a_redirect_is_resolved_and_checked_anew() -> None:
    moved = Said(b"", 302, {"location": "/again"})
    answers = iter([["127.0.0.1"], ["169.254.169.254"]])
    with serving(lambda _: moved) as web:
        reader = client(f"http://{NAME}:{web.port}", resolve=lambda *_: next(answers), at=["127.0.0.0/8"])
        with pytest.raises(RefusedRequest, match=r"resolves to 169\.254\.169\.254"):
            read(reader, f"http://{NAME}:{web.port}/")
    assert web.seen == ["/"]


def test_a_name_that_does_not_resolve_is_a_refusal() -> None:
    def resolve(host: str, port: int) -> Sequence[str]:
        raise OSError(f"no {host}:{port}")

    with pytest.raises(RefusedRequest, match=r"cannot be resolved: no docs\.example\.org:80"):
        read(client(f"http://{NAME}", resolve=resolve), f"http://{NAME}/")


@pytest.mark.parametrize(("held", "words"), [(NAME, None), ("other.example.org", "mismatch|doesn't match|not valid")])
def test_a_certificate_has_to_be_that_of_the_name(
    certificate: Callable[[str], Path], held: str, words: str | None
) -> None:
    path = certificate(held)
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(path)
    trusting = ssl.create_default_context(cafile=path)
    with serving(script, shown) as web:
        url = f"https://{NAME}:{web.port}/docs/text"
        reader = client(url, tls=trusting, resolve=lambda *_: ["127.0.0.1"], at=["127.0.0.1"])
        if words is None:
            assert read(reader, url).status == 200
            strict = client(url, resolve=lambda *_: ["127.0.0.1"], at=["127.0.0.1"])
            with pytest.raises(RefusedRequest, match="certificate verify failed"):
                read(strict, url)
        else:
            with pytest.raises(RefusedRequest, match=words):
                read(reader, url)
            assert web.seen == []


@pytest.fixture
def certificate(tmp_path: Path) -> Callable[[str], Path]:
    """Return what writes key and certificate of a name, signed by itself, to one file."""
    x509 = pytest.importorskip("cryptography.x509")
    from datetime import UTC, datetime, timedelta

    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def made(name: str) -> Path:
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = x509.CertificateBuilder().subject_name(who).issuer_name(who).public_key(key.public_key())
        builder = builder.serial_number(1).not_valid_before(now - timedelta(days=1))
        builder = builder.not_valid_after(now + timedelta(days=1))
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        form = serialization.PrivateFormat.PKCS8
        secret = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        path = tmp_path / f"{name}.pem"
        path.write_bytes(secret + pem)
        return path

    return made
