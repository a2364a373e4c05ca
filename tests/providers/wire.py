"""A server on loopback that speaks Anthropic's Messages API and OpenAI's chat completions, driven by a script.

The script is a function of a request, in one neutral form for both APIs, and gives a `Say` or a `Fault`. The server
bills what it answers, as a provider would: what it began to send counts, whether or not anyone reads it.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "Zx81+0123456789abcdef"


@dataclass(frozen=True)
class Call:
    """A tool call in an answer."""

    name: str
    arguments: Any
    raw: str | None = None
    """The arguments' text as it goes over the wire, where it is to be broken."""


@dataclass(frozen=True)
class Say:
    """What the model answers."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    stop: str | None = None
    """Anthropic's stop reason; None: what fits."""
    thinking: str = ""
    usage: tuple[int, int, int, int] | None = (100, 20, 0, 0)
    """Input, output, cache read, cache write; None: none is reported."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong instead: a status, or a connection that is cut after some events."""

    status: int = 0
    message: str = "scripted"
    cut_after: int | None = None
    garbage: bool = False
    hold: threading.Event | None = None
    """The answer waits for it."""


@dataclass
class Request:
    """A request, as the script and the tests see it."""

    api: str
    number: int
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    billed: tuple[int, int, int, int] | None = None

    @property
    def text(self) -> str:
        """Everything that was said, as JSON."""
        return json.dumps(self.body, ensure_ascii=False)

    @property
    def last(self) -> str:
        """The newest message, as JSON."""
        return json.dumps(self.body["messages"][-1], ensure_ascii=False)

    @property
    def results(self) -> list[str]:
        """The texts of the newest tool results."""
        if self.api == "openai":
            found = []
            for message in reversed(self.body["messages"]):
                if message["role"] != "tool":
                    break
                found.append(message["content"])
            return found[::-1]
        content = self.body["messages"][-1]["content"]
        return [block["content"] for block in content if block["type"] == "tool_result"]


Script = Callable[[Request], "Say | Fault"]


@dataclass
class Wire:
    """The running server."""

    script: Script
    requests: list[Request] = field(default_factory=list)
    counts: int = 0
    """Requests for a token count."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> str:
        wire = self

        class Handler(_Handler):
            server_wire = wire

        self.server = _Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self.url

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def said(self) -> list[Request]:
        """The requests that were billed."""
        return [request for request in self.requests if request.billed is not None]


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_wire: Wire

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        wire = self.server_wire
        if self.path.startswith("/v1/messages/count_tokens"):
            wire.counts += 1
            self._json(200, {"input_tokens": len(json.dumps(body)) // 4})
            return
        api = {"/v1/messages": "anthropic", "/v1/chat/completions": "openai"}.get(self.path.split("?")[0])
        if api is None:
            self._json(404, {"error": {"message": "no such path"}})
            return
        with wire.lock:
            request = Request(api, len(wire.requests), body, {k.lower(): v for k, v in self.headers.items()})
            wire.requests.append(request)
        self._answer(request, wire.script(request))

    def _answer(self, request: Request, found: Say | Fault) -> None:
        if isinstance(found, Say):
            request.billed = found.usage
            self._say(request, found)
            return
        if found.hold is not None:
            found.hold.wait(30)
            self.close_connection = True
            return
        if found.status:
            kind = {401: "authentication_error", 404: "not_found_error", 529: "overloaded_error"}.get(found.status, "x")
            error = {"type": "error", "error": {"type": kind, "message": found.message}}
            self._json(found.status, error, {"retry-after": "0.01"})
        elif found.garbage:
            request.billed = (100, 20, 0, 0)
            self._json(200, {"hello": "world"})
        else:
            request.billed = (100, 20, 0, 0)
            self._say(request, Say("never to be read"), found.cut_after)

    def _say(self, request: Request, say: Say, cut: int | None = None) -> None:
        build = _anthropic if request.api == "anthropic" else _openai
        whole, events = build(request.body["model"], say)
        if not request.body.get("stream"):
            if cut is not None:
                self._cut()
                return
            self._json(200, whole)
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number, event in enumerate(events):
            if cut is not None and number >= cut:
                self._cut()
                return
            self._chunk(event)
        self._chunk("")

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _json(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), 40):
        yield text[start : start + 40]


def _anthropic(model: str, say: Say) -> tuple[dict[str, Any], list[str]]:
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    if say.thinking:
        empty = {"type": "thinking", "thinking": "", "signature": ""}
        deltas = [{"type": "thinking_delta", "thinking": p} for p in _pieces(say.thinking)]
        blocks.append((empty, [*deltas, {"type": "signature_delta", "signature": "c2lnbmVk"}]))
    if say.text:
        blocks.append(({"type": "text", "text": ""}, [{"type": "text_delta", "text": p} for p in _pieces(say.text)]))
    for number, call in enumerate(say.calls):
        start = {"type": "tool_use", "id": f"toolu_{number}", "name": call.name, "input": {}}
        text = json.dumps(call.arguments) if call.raw is None else call.raw
        blocks.append((start, [{"type": "input_json_delta", "partial_json": p} for p in _pieces(text)]))
    stop = say.stop or ("tool_use" if say.calls else "end_turn")
    counted = say.usage or (0, 0, 0, 0)
    usage = dict(
        zip(
            ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
            counted,
            strict=True,
        )
    )
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": model}
    start = {**head, "content": [], "stop_reason": None, "stop_sequence": None, "usage": {**usage, "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}]
    for index, (block, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    ending = {"stop_reason": stop, "stop_sequence": None}
    if stop == "refusal":
        ending["stop_details"] = {"type": "refusal", "category": "cyber", "explanation": "scripted"}
    events += [{"type": "message_delta", "delta": ending, "usage": usage}, {"type": "message_stop"}]
    content = [_finished(block, deltas) for block, deltas in blocks]
    return (
        {**head, "content": content, **ending, "usage": usage},
        [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events],
    )


def _finished(block: dict[str, Any], deltas: list[dict[str, Any]]) -> dict[str, Any]:
    whole = dict(block)
    if block["type"] == "tool_use":
        with contextlib.suppress(ValueError):
            whole["input"] = json.loads("".join(delta["partial_json"] for delta in deltas))
        return whole
    for delta in deltas:
        for key in ("text", "thinking", "signature"):
            if key in delta:
                whole[key] += delta[key]
    return whole


STOPS = {"max_tokens": "length", "refusal": "content_filter", "tool_use": "tool_calls", "end_turn": "stop"}


def _openai(model: str, say: Say) -> tuple[dict[str, Any], list[str]]:
    calls = [
        {
            "index": number,
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": c.name, "arguments": json.dumps(c.arguments) if c.raw is None else c.raw},
        }
        for number, c in enumerate(say.calls)
    ]
    finish = STOPS[say.stop or ("tool_use" if say.calls else "end_turn")]
    usage = None
    if say.usage is not None:
        prompt, answer, read, write = say.usage
        usage = {
            "prompt_tokens": prompt + read + write,
            "completion_tokens": answer,
            "total_tokens": prompt + read + write + answer,
            "prompt_tokens_details": {"cached_tokens": read},
        }
    head = {"id": "c1", "created": 1, "model": model}
    message = {"role": "assistant", "content": say.text or None, "tool_calls": calls or None}
    whole = {
        **head,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": usage,
    }
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": piece} for piece in _pieces(say.text)]
    for call in calls:
        text = call["function"]["arguments"]
        deltas.append({"tool_calls": [{**call, "function": {**call["function"], "arguments": ""}}]})
        deltas += [{"tool_calls": [{"index": call["index"], "function": {"arguments": p}}]} for p in _pieces(text)]
    chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    chunks += [{"choices": [], "usage": usage}] if usage else []
    events = [f"data: {json.dumps({**head, 'object': 'chat.completion.chunk', **chunk})}\n\n" for chunk in chunks]
    return whole, [*events, "data: [DONE]\n\n"]
