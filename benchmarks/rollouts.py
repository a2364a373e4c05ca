"""Rollouts in flight: scaffolds of three turns against a model server that answers after a set time, side by side in
lockstep rounds and each at its own pace.

The server is a process of its own that samples nothing: it waits and gives the same 24 tokens. Sandboxed scaffolds,
the real client, a tool call a turn. `ideal` is rollouts x turns x the mean wait, over the requests in flight.
`python benchmarks/rollouts.py [--rollouts 256] [--in-flight 64] [--wait 0.05] [--faults 0.05]`
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import urllib3

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sia_flow.lineage.records import Trajectory, Verdict  # noqa: E402
from sia_flow.policy.endpoint import Endpoint, Patience  # noqa: E402
from sia_flow.policy.served import ServedPolicy  # noqa: E402
from sia_flow.protocols import Image, Instance, Limits  # noqa: E402
from sia_flow.rollout.engine import RolloutEngine, plan_work  # noqa: E402
from sia_flow.sandbox import open_sandbox  # noqa: E402

BASE = ROOT / "models" / "tiny-gpt-oss"
TURNS = 3
TOKENS = list(range(24))
SCAFFOLD = f"""
def solve(job):
    said = [{{"role": "user", "content": "Write a program."}}]
    for _ in range({TURNS}):
        text = job.generate(said)[0]
        found = job.tools.score_visible(program=text)
        said = [said[0], {{"role": "assistant", "content": text}}, {{"role": "user", "content": found["reason"]}}]
    return text
"""


@dataclass(frozen=True, slots=True)
class Ways:
    """How the server answers."""

    wait: float
    """Mean seconds."""
    spread: bool
    """Whether waits are drawn from an exponential distribution, as completions of very different lengths take."""
    faults: float
    """Share of requests that are answered by 503."""


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ways: Ways, chance: random.Random) -> None:
    """Answer the requests of one connection."""
    logprobs = [-0.5] * len(TOKENS)
    choice = {"index": 0, "text": "", "finish_reason": "length", "token_ids": TOKENS}
    whole = {"choices": [{**choice, "logprobs": {"tokens": [], "token_logprobs": logprobs}}]}
    while head := await reader.readuntil(b"\r\n\r\n"):
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        fault = chance.random() < ways.faults
        if not fault:
            await asyncio.sleep(chance.expovariate(1 / ways.wait) if ways.spread else ways.wait)
        body = json.dumps({"error": "busy"} if fault else whole).encode()
        status = b"503 Busy" if fault else b"200 OK"
        writer.write(b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body))


def serve(ways: Ways, port: Connection) -> None:
    """Serve until killed; tell the port."""
    chance = random.Random(0)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await talk(reader, writer, ways, chance)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1024)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


@contextlib.contextmanager
def serving(ways: Ways) -> Iterator[str]:
    """Serve for the length of the block; give the address."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(ways, theirs))
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}/v1"
    finally:
        process.kill()
        process.join()


class InRounds:
    """The served policy as one that wants whole batches."""

    def __init__(self, served: ServedPolicy) -> None:
        self.served = served
        self.version = served.version
        self.at_once = 0

    def hold(self) -> InRounds:
        """Return itself."""
        return self

    def sample(self, requests: Sequence[Any]) -> list[list[Any]]:
        """Ask for all and wait for the last."""
        return self.served.sample(requests)


def verdicts(items: Sequence[tuple[Instance, str | None]]) -> list[Verdict]:
    """Score nothing."""
    return [Verdict(reward=0.0, valid=True, reason="OK") for _ in items]


def measure(ways: Ways, rollouts: int, in_flight: int, repeats: int) -> None:
    """Print seconds of both modes, taken in turn."""
    ideal = rollouts * TURNS * ways.wait / in_flight
    work = plan_work([Instance("i", "train", {"name": "i"}, {}, None)], rollouts, "bench")
    seconds: dict[str, list[float]] = {"rounds": [], "each at its own pace": []}
    with serving(ways) as url, open_sandbox().open(Image()) as session:
        patience = Patience(first=0.05)
        served = ServedPolicy.connect(Endpoint(url, "tiny", in_flight, patience=patience), BASE, BASE, lambda: None)  # type: ignore[arg-type, return-value]
        engine = RolloutEngine(session, verdicts, Limits(), len(TOKENS))
        for _ in range(repeats + 1):
            for name, sampler in (("rounds", InRounds(served)), ("each at its own pace", served)):
                start = time.perf_counter()
                found: list[Trajectory] = engine.run({"scaffold.py": SCAFFOLD}, sampler, work)
                seconds[name].append(time.perf_counter() - start)
                whole = [t for t in found if t.status == "OK" and len(t.turns) == TURNS]
                assert len(whole) == rollouts, f"{rollouts - len(whole)} rollouts are lost"
    waits = "exponential waits" if ways.spread else "equal waits"
    print(f"{rollouts} rollouts, {in_flight} in flight, {waits} of {ways.wait:g} s, {ways.faults:.0%} faults:", end=" ")
    print(f"ideal {ideal:.2f} s")
    for name, values in seconds.items():
        middle = statistics.median(values[1:])
        print(f"  {name:22s} {middle:6.2f} s   {ideal / middle:4.0%} of the ideal rate")
    ratio = statistics.median(a / b for a, b in zip(*(values[1:] for values in seconds.values()), strict=True))
    print(f"  ratio {ratio:.2f}")


def compare_clients(ways: Ways, requests: int, in_flight: int, repeats: int) -> None:
    """Print the processor time of one request by urllib3, which the client uses, and by httpx, taken in turn."""
    body = {"model": "tiny", "prompt": TOKENS, "n": 1, "max_tokens": len(TOKENS)}
    used: dict[str, list[float]] = {"urllib3": [], "httpx": []}
    with serving(ways) as root, ThreadPoolExecutor(in_flight) as threads:
        url = f"{root}/completions"
        pool = urllib3.PoolManager(maxsize=in_flight, block=True, retries=False)
        limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
        client = httpx.Client(limits=limits, timeout=60, trust_env=False)
        ask: dict[str, Callable[[int], Any]] = {
            "urllib3": lambda _: json.loads(pool.request("POST", url, json=body).data),
            "httpx": lambda _: client.post(url, json=body).json(),
        }
        for _ in range(repeats + 1):
            for name, function in ask.items():
                start = time.process_time()
                list(threads.map(function, range(requests)))
                used[name].append((time.process_time() - start) * 1e3 / requests)
    middle = {name: statistics.median(values[1:]) for name, values in used.items()}
    words = ", ".join(f"{name} {value:.2f} ms" for name, value in middle.items())
    print(
        f"processor time of a request, {in_flight} in flight: {words}, ratio {middle['httpx'] / middle['urllib3']:.2f}"
    )


def main() -> None:
    """Print both modes for equal and for spread waits, without and with faults, two clients, and our memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=256)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--wait", type=float, default=0.05)
    parser.add_argument("--faults", type=float, default=0.05)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    for spread, faults in ((False, 0.0), (True, 0.0), (False, options.faults)):
        measure(Ways(options.wait, spread, faults), options.rollouts, options.in_flight, options.repeats)
    compare_clients(Ways(options.wait, False, 0.0), 3 * options.rollouts, options.in_flight, options.repeats)
    print(f"largest resident set {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
