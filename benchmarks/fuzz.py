"""Throws hostile bytes at everything that reads what it did not write: result parser, spec loader, record readers.

A target may give a value or one of the errors that its reader promises; anything else, a hang included, is a finding.
With atheris installed (a venv of its own) the bytes follow the code's branches; without it they are mutated seeds.

Usage: fuzz.py [TARGET|all] [SECONDS]   (default: all 60)
"""

from __future__ import annotations

import atexit
import functools
import gzip
import importlib
import io
import os
import random
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402
import numpy as np  # noqa: E402
from pydantic import ValidationError  # noqa: E402

from sia_flow.addresses import PORTS, AddressError, parse_url  # noqa: E402
from sia_flow.errors import SiaFlowError  # noqa: E402
from sia_flow.lineage.check import check_store  # noqa: E402
from sia_flow.lineage.heads import heads  # noqa: E402
from sia_flow.lineage.jsonl import load_lines  # noqa: E402
from sia_flow.lineage.mirror import pull  # noqa: E402
from sia_flow.lineage.records import Trajectory, Verdict  # noqa: E402
from sia_flow.lineage.repair import mend  # noqa: E402
from sia_flow.lineage.store import Store  # noqa: E402
from sia_flow.rollout.network.bodies import BrokenBodyError, read_body, read_text  # noqa: E402
from sia_flow.rollout.requests import RefusedRequest  # noqa: E402
from sia_flow.sandbox.frames import FrameError, FrameReader  # noqa: E402
from sia_flow.sandbox.strict_json import HostileJsonError, parse  # noqa: E402
from sia_flow.spec.load import load_experiments  # noqa: E402
from sia_flow.verify.apart import wire  # noqa: E402
from sia_flow.verify.manifest import read_manifest  # noqa: E402


def _room() -> int:
    handle = os.memfd_create("room")
    os.ftruncate(handle, wire.PARTS * wire.ROOM)
    return handle


PLACE = Path(tempfile.mkdtemp(prefix="sia-flow-fuzz-"))
atexit.register(shutil.rmtree, PLACE, ignore_errors=True)
ROOM = wire.RoomReader(_room())
SLOW = 5.0
"""Seconds after which one input counts as a hang."""


def result(data: bytes) -> None:
    """Strict JSON: the one error, or a value that can be written again."""
    try:
        parse(data)
    except HostileJsonError:
        return


def frames(data: bytes) -> None:
    """A job's frames, however they are cut."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        reader = FrameReader(ours, {b"C": 64, b"E": 512, b"T": 64}, {b"S": 0, b"A": 48})
        try:
            for start in range(0, min(len(data), 512), 16):
                theirs.send(data[start : start + 16])
                while reader.next() is not None:
                    pass
        except FrameError:
            return


def spec(data: bytes) -> None:
    """A spec file."""
    path = PLACE / "spec.yaml"
    path.write_bytes(data)
    try:
        load_experiments(path)
    except SiaFlowError:
        return


def manifest(data: bytes) -> None:
    """A task's table of contents."""
    path = PLACE / "task" / "task.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    try:
        read_manifest(path)
    except SiaFlowError:
        return


def lines(data: bytes) -> None:
    """Trajectories and verdicts as they lie in the store."""
    for kind in (Trajectory, Verdict):
        try:
            load_lines(data, kind)
        except ValidationError:
            continue


def store(data: bytes) -> None:
    """Every kind of record, and a folder's listing, of the same bytes; then a check and a repair."""
    found = Store(PLACE / "store")
    oid = found.objects.put_bytes(data)
    listing = found.objects.path(oid)
    places = ["steps/aa/a.json", "generations/a.json", "arms/a.json", "heads/e/a/seed-0.json", "seals.jsonl"]
    paths = [found.root / place for place in places] + [listing.with_name(f"{listing.name}.dir")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    readers: list[Callable[[], object]] = [
        lambda: found.find("aa"),
        lambda: found.generation("a"),
        lambda: found.arm("a"),
        lambda: heads(found),
        lambda: found.objects.get_tree(f"{oid}.dir"),
    ]
    for read in readers:
        try:
            read()
        except SiaFlowError:
            continue
    mend(found, check_store(found).faults)
    for path in (*paths, listing):
        path.unlink(missing_ok=True)


def address(data: bytes) -> None:
    """A web address: what is taken, other readers read alike, and its own spelling means the same."""
    try:
        found = parse_url(data.decode("latin-1"))
    except AddressError:
        return
    split, other = urlsplit(str(found)), httpx.URL(str(found))
    seen = {(split.scheme, split.hostname, split.port), (other.scheme, other.raw_host.decode().strip("[]"), other.port)}
    port = found.port if found.port != PORTS[found.scheme] else None
    if seen != {(found.scheme, found.host, port)} or parse_url(str(found)) != found:
        raise AssertionError(f"{data!r} is read as {found}, elsewhere as {seen}")


def verifier(data: bytes) -> None:
    """A message of a verifier's process, with and without the memory that is shared with it."""
    for reader in (None, ROOM):
        stream = io.BytesIO(data)
        try:
            wire.unpack(functools.partial(_fill, stream), reader)
        except (wire.WireError, EOFError):
            continue


def _fill(stream: io.BytesIO, buffer: memoryview) -> None:
    if stream.readinto(buffer) < len(buffer):
        raise EOFError


def page(data: bytes) -> None:
    """What a service answers: the first line says how it is packed, the rest is the body."""
    kind, _, body = data.partition(b"\n")
    names = kind.decode("latin-1")
    try:
        read_text(read_body([body[:40], body[40:]], {"content-encoding": names.partition(" ")[0]}), names)
    except (RefusedRequest, BrokenBodyError):
        return


def mirror(data: bytes) -> None:
    """Files of records at another place, all of the same bytes, brought here."""
    place = PLACE / "there"
    records = [f"store/{name}" for name in ("heads/e/a/seed-0.json", "steps/aa/a.json", "generations/a.json")]
    for name in (*records, "lines/o/store/seals.jsonl", "lines/o/spend/e/a.jsonl", "answers/aa/a.json"):
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (place / "store/VERSION").write_text("1\n")
    try:
        pull(PLACE / "here", str(place))
    except SiaFlowError:
        return


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "result": result,
    "frames": frames,
    "spec": spec,
    "manifest": manifest,
    "lines": lines,
    "store": store,
    "address": address,
    "verifier": verifier,
    "page": page,
    "mirror": mirror,
}
SEEDS: Mapping[str, tuple[bytes, ...]] = {
    "result": (b'{"a": [1, 2.5e3, true, null, "x\\u00e9"]}', b'[[[{"k": -1}]]]', b'"\\ud800"'),
    "frames": (b"\x01\0\0\0S\x05\0\0\0Cabcd", b"\x31\0\0\0A" + bytes(48), b"\xff\xff\xff\xffT"),
    "spec": (
        (ROOT / "specs" / "denoise.yaml").read_bytes(),
        b"metadata: {name: a}\nspec: {task: {name: b}, matrix: {seeds: [[0], [1]]}}\n",
        b"extends: other.yaml\na: &a [1, 2]\nb: *a\n",
    ),
    "manifest": ((ROOT / "tasks" / "denoise" / "task.yaml").read_bytes(),),
    "lines": (
        b'{"instance":"a","sample":0,"seed":1,"turns":[],"tools":[],"answer":"x","status":"OK","error":"","spend":{}}\n',
        b'{"reward":0.5,"valid":true,"reason":"ok","metrics":{"m":1.0},"feedback":""}\n',
    ),
    "store": (
        b'[{"md5": "d41d8cd98f00b204e9800998ecf8427e", "relpath": "a"}]',
        b'{"kind":"sia-flow/head@1","experiment":"e","arm":"a","seed":0,"generations":["a"],"result":"a"}',
        b'{"key":"a","step":"s","version":1,"params":{},"inputs":{},"seed":0,"outputs":{"o":"x"},"kind":"sia-flow/step@1"}',
        b'{"path":"a","sha256":"b"}\n',
    ),
    "address": (
        b"https://user.example.org:8443/a/b%2Fc?q=1&r=%20#top",
        b"http://[2001:db8::1]:80/",
        b"http://127.0.0.1:8000/x;y/..%2e/",
        b"https://xn--bcher-kva.example/",
    ),
    "verifier": (
        b"".join(wire.pack({"ok": {"reward": 0.5, "deep": [[1], None]}}, [np.ones((2, 3)), np.zeros((0, 4), "i1")])),
        wire.HEAD.pack(33, 0, 0) + b'{"arrays": [["<f8", [0, 7777]]]}  ',
        wire.HEAD.pack(40, 8, 1) + b'{"a": 1, "arrays": [["<f8", [1]]]}      ',
    ),
    "page": (
        b"gzip text/html; charset=utf-8\n" + gzip.compress(b"<p>caf\xc3\xa9</p>"),
        b" text/plain; charset=utf-16\n" + "a\x07b".encode("utf-16"),
        b"identity application/json\n" + b'{"a": 1}' * 20,
    ),
    "mirror": (
        b'{"kind":"sia-flow/head@1","experiment":"e","arm":"a","seed":0,"generations":["a"],"result":"a"}',
        b'{"path":"a","sha256":"b"}\n{"id":"1","call":"c","usd":1.0,"state":"open","tokens":3}\n',
    ),
}


def mutated(draw: random.Random, seeds: tuple[bytes, ...]) -> bytes:
    """Return a seed with some of its bytes changed, cut, doubled or spliced with another one."""
    data = bytearray(draw.choice(seeds))
    for _ in range(draw.randint(1, 8)):
        place, other = draw.randrange(len(data) + 1), draw.choice(seeds)
        kind = draw.randrange(4)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del data[place : place + draw.randint(1, 20)]
        elif kind == 2:
            data[place:place] = data[place : place + draw.randint(1, 20)] * draw.randint(1, 30)
        else:
            data[place:place] = other[draw.randrange(len(other)) :][:40]
    return bytes(data)


def timed(target: Callable[[bytes], None], data: bytes) -> None:
    """Run one input. Raises what the target must not raise, and TimeoutError for a hang."""
    started = time.monotonic()
    target(data)
    if time.monotonic() - started > SLOW:
        raise TimeoutError(f"{len(data)} bytes took {time.monotonic() - started:.1f} s: {data[:200]!r}")


def guided(name: str, seconds: int) -> None:
    """Fuzz by coverage, with atheris; it ends the process."""
    import atheris  # type: ignore[import-not-found, unused-ignore]

    corpus = PLACE / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS[name]):
        (corpus / str(number)).write_bytes(seed)
    options = [f"-max_total_time={seconds}", f"-timeout={SLOW:.0f}", "-max_len=4096", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], lambda data: timed(TARGETS[name], bytes(data)))
    atheris.Fuzz()


def instrumented() -> ModuleType:
    """Return this module once more, with the branches of all that it imports of sia_flow marked."""
    import atheris  # type: ignore[import-not-found, unused-ignore]

    for name in [name for name in sys.modules if name.startswith("sia_flow")]:
        del sys.modules[name]
    with atheris.instrument_imports(include=["sia_flow"]):
        return importlib.import_module("benchmarks.fuzz")


def main() -> None:
    """Fuzz one target by coverage, or all by mutation."""
    name = sys.argv[1] if len(sys.argv) > 1 else "all"
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    if name != "all":
        instrumented().guided(name, seconds)
    for chosen, target in TARGETS.items():
        draw, runs = random.Random(0), 0
        end = time.monotonic() + seconds / len(TARGETS)
        while time.monotonic() < end:
            timed(target, mutated(draw, SEEDS[chosen]))
            runs += 1
        print(f"{chosen:10} {runs:8d} inputs, no finding")


if __name__ == "__main__":
    main()
