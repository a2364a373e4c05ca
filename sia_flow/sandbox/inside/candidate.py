"""Runs one candidate in a process that is already confined: a program that returns an array, or a
scaffold.

Invariant: whatever the candidate does, it can say no more than one result or one bounded error.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import marshal
import os
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from types import CodeType, ModuleType
from typing import Any, NamedTuple

from . import timed
from .refusal import Refused
from .wire import Wire

TEXT_CAP = 64 << 10


class SourceFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports modules from memory, so that no writable folder is needed."""

    def __init__(self, code: Mapping[str, CodeType]) -> None:
        self._code = code

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return a spec for a module that is held in memory."""
        del path, target
        if fullname not in self._code:
            return None
        return importlib.util.spec_from_loader(fullname, self, origin=f"{fullname}.py")

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code in it."""
        exec(self._code[module.__name__], module.__dict__)  # noqa: S102 - this process exists for that


def compile_all(sources: Mapping[str, str], done: Mapping[str, str]) -> dict[str, CodeType]:
    """Compile module name -> text, but for what the host compiled already. Raises Refused(SYNTAX)."""
    code = {}
    for name, text in sources.items():
        try:
            if name in done:
                code[name] = marshal.loads(base64.b64decode(done[name]))  # noqa: S302 - the host's own, in a confined process
            else:
                code[name] = compile(text, f"{name}.py", "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            raise Refused("SYNTAX", last_line(error)) from error
    return code


def last_line(error: BaseException) -> str:
    """Return the last line of a traceback, with the candidate's own line number where there is one."""
    kind = type(error).__name__
    line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == "candidate.py":
            line = step.tb_lineno
        step = step.tb_next
    place = f" (line {line})" if line and not isinstance(error, SyntaxError) else ""
    return f"{kind}: {error}{place}"


class Tools:
    """The task's tools: `job.tools.NAME(**arguments)` asks the host."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda **arguments: self._wire.call(f"tool:{name}", arguments)


class Reply(str):  # noqa: SLOT000 - it has an attribute
    """A completion's text, with the tools that it calls, in the form of OpenAI's chat messages."""

    tool_calls: list[dict[str, Any]]

    @classmethod
    def of(cls, said: Any, number: int) -> Reply:
        """Return what the host said as a reply; calls are numbered within the rollout."""
        reply = cls(said if isinstance(said, str) else said["text"])
        calls = [] if isinstance(said, str) else said["calls"]
        reply.tool_calls = [
            {"id": f"call_{number}_{place}", "type": "function", "function": call} for place, call in enumerate(calls)
        ]
        return reply


class ScaffoldJob:
    """What `solve(job)` gets: the instance, a seed, the policy, the task's tools, and the services that are granted."""

    def __init__(self, wire: Wire, instance: dict[str, Any], seed: int) -> None:
        self.instance = instance
        self.seed = seed
        self.tools = Tools(wire)
        self._wire = wire
        self._replies = 0

    def generate(
        self,
        messages: Sequence[Mapping[str, str]],
        n: int = 1,
        temperature: float = 1.0,
        max_tokens: int | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> list[Reply]:
        """Return `n` completions of the messages by the policy, which may call the tools."""
        params = {"messages": messages, "n": n, "temperature": temperature, "max_tokens": max_tokens}
        found = self._wire.call("generate", {**params, "tools": tools} if tools else params)
        first, self._replies = self._replies, self._replies + len(found)
        return [Reply.of(said, first + place) for place, said in enumerate(found)]

    def fetch(self, url: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return what a granted service answers to a GET: `status`, `url`, `headers` and `text`."""
        found: dict[str, Any] = self._wire.call("fetch", {"url": url, "headers": dict(headers or {})})
        return found


class Work(NamedTuple):
    """One job as the host describes it, with the arrays that it may see."""

    request: Mapping[str, Any]
    arrays: Mapping[str, Any]


def run(wire: Wire, work: Work) -> None:
    """Run the candidate and report its result or its failure. Only the boundary's errors pass."""
    wire.send(b"S")
    try:
        entry = _load(work.request)
        if work.request["forms"] is not None:
            timed.serve(entry, wire, work.request["forms"])
        elif work.request["shape"] is None:
            wire.send(b"T", _scaffold(entry, wire, work.request))
        else:
            wire.send(b"A", _program(entry, work))
    except Refused as refusal:
        wire.fail(refusal.status, str(refusal))
    except MemoryError:
        wire.fail("MEMORY", "the memory limit was reached")
    except BaseException as error:  # noqa: BLE001 - boundary: a candidate's failure is a result
        wire.fail("EXCEPTION", last_line(error))


def reseed(seed: int) -> None:
    """Make every generator that the candidate did not seed itself start from the job's seed."""
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % (1 << 32))
        # The entropy of an unseeded numpy.random.default_rng() comes from this name.
        numpy.random.bit_generator.randbits = random.Random(seed).getrandbits


def _load(request: Mapping[str, Any]) -> Callable[..., Any]:
    names = {name.removesuffix(".py"): text for name, text in request["files"].items()}
    code = compile_all({**names, "candidate": request["source"]}, request.get("code", {}))
    sys.meta_path.insert(0, SourceFinder(code))
    module = ModuleType("candidate")
    module.__file__ = "candidate.py"
    sys.modules["candidate"] = module
    # Not through the import machinery: half a millisecond of page faults in a fresh fork.
    exec(code["candidate"], module.__dict__)  # noqa: S102 - this process exists for that
    entry = getattr(module, request["entry"], None)
    if not callable(entry):
        raise Refused("BAD_RESULT", f"the source defines no function {request['entry']}")
    function: Callable[..., Any] = entry
    return function


def _scaffold(entry: Callable[..., Any], wire: Wire, request: Mapping[str, Any]) -> bytes:
    answer = entry(ScaffoldJob(wire, request["instance"], request["seed"]))
    _flush()
    if not isinstance(answer, str):
        raise Refused("BAD_RESULT", f"{request['entry']} must return a string, got {type(answer).__name__}")
    try:
        text = answer.encode()
    except UnicodeEncodeError as error:
        raise Refused("BAD_RESULT", f"the answer is not Unicode text: {error.reason}") from error
    if len(text) > TEXT_CAP:
        raise Refused("RESULT_TOO_BIG", f"the answer has {len(text)} bytes, at most {TEXT_CAP} are taken")
    return text


def _program(entry: Callable[..., Any], work: Work) -> bytes:
    """Return the result's bytes: float64, C order, of exactly the declared shape."""
    import numpy as np

    request = work.request
    result = entry(*(work.arrays[name] for name in request["arrays"]), *request["arguments"])
    _flush()
    try:
        array = np.asarray(result)
    except (ValueError, TypeError) as error:
        raise Refused("BAD_RESULT", f"the result is not an array: {last_line(error)}") from error
    if array.dtype.kind not in "biuf":
        raise Refused("BAD_RESULT", f"the result must be real numbers, got dtype {array.dtype}")
    shape = tuple(request["shape"])
    if array.shape != shape:
        raise Refused("BAD_RESULT", f"the result must have shape {shape}, got {array.shape}")
    flat = np.ascontiguousarray(array, dtype=np.float64).reshape(-1)
    return flat.tobytes()


def _flush() -> None:
    """Hand over what was printed before the result, which ends the job."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()


def leave() -> None:
    """End this process without running anything that the candidate left behind."""
    _flush()
    os._exit(0)
