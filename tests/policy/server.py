"""A model server on loopback: a real tiny model behind the OpenAI wire format, with vLLM's ways or without them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from sia_flow.policy.decoding import Row, decode
from sia_flow.policy.determinism import fixed_threads
from sia_flow.policy.local import LocalPolicy
from sia_flow.policy.noise import uniforms
from sia_flow.policy.prompts import reply

KNOWN = {"model", "messages", "n", "max_tokens", "temperature", "top_p", "seed"}


@dataclass
class ModelServer:
    """What is served and how; tests read what came in and set what goes wrong."""

    base: Path
    model: str = "tiny"
    tokens: bool = True
    """Takes token ids and gives them back, as vLLM does; otherwise chat messages only, one completion a request."""
    loras: bool = True
    """Has vLLM's endpoints for adapters."""
    scaled: bool = True
    """Log-probabilities are those at the request's temperature (`--logprobs-mode processed_logprobs`)."""
    ignores_adapters: bool = False
    """Says that it has loaded an adapter and samples from the base."""
    answers_as: str | None = None
    """Name under which it answers, whatever it was asked for."""
    key: str | None = None
    failures: list[int] = field(default_factory=list)
    """Statuses of the next answers; 0 cuts the connection."""
    seen: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    loaded: dict[str, LocalPolicy] = field(default_factory=dict)
    busiest: int = 0
    """Most requests that were in the server at once."""
    url: str = ""

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.loaded[self.model] = LocalPolicy.load(self.base)

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Carry one request out."""
        if path == "/v1/models":
            return 200, {"data": [{"id": name} for name in self.loaded]}
        if path.endswith("lora_adapter") and (not self.loras or not path.startswith("/v1/")):
            return 404, {"detail": "Not Found"}
        if path == "/v1/load_lora_adapter":
            return self._load(body)
        if path == "/v1/unload_lora_adapter":
            return (200, {}) if self.loaded.pop(body["lora_name"], None) else (404, {"error": {"message": "no such"}})
        if path not in ("/v1/completions", "/v1/chat/completions"):
            return 404, {"detail": "Not Found"}
        if body["model"] not in self.loaded:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        return self._complete(body) if path == "/v1/completions" else self._chat(body)

    def _load(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if body["lora_name"] in self.loaded:
            return 400, {"error": {"message": f"The lora adapter {body['lora_name']} has already been loaded."}}
        if not Path(body["lora_path"]).is_dir():
            return 404, {"error": {"message": f"No adapter found for {body['lora_path']}"}}
        adapter = None if self.ignores_adapters else Path(body["lora_path"])
        self.loaded[body["lora_name"]] = LocalPolicy.load(self.base, adapter)
        return 200, {"message": "Success"}

    def _complete(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if not self.tokens:
            return 400, {"detail": "prompt must be a string."}
        found = [self._choice(body, i, drawn) for i, drawn in enumerate(self._draw(body, body["prompt"], body["n"]))]
        return 200, {"model": self.answers_as or body["model"], "choices": found}

    def _choice(self, body: dict[str, Any], index: int, drawn: Any) -> dict[str, Any]:
        policy = self.loaded[body["model"]]
        stopped = drawn.ids[-1] in policy._stops
        spelled = [f"token_id:{token}" for token in drawn.ids]
        return {
            "index": index,
            "text": reply(policy.tokenizer, drawn.ids),
            "finish_reason": "stop" if stopped else "length",
            "token_ids": drawn.ids,
            "logprobs": {
                "tokens": spelled,
                "token_logprobs": drawn.logprobs,
                "top_logprobs": [{spelled[0]: drawn.logprobs[0], "token_id:0": self._likeliest(body)}],
            },
        }

    def _likeliest(self, body: dict[str, Any]) -> float:
        import torch

        heat = body["temperature"] if self.scaled else 1.0
        with torch.no_grad():
            logits = self.loaded[body["model"]].model(input_ids=torch.tensor([body["prompt"]])).logits[0, -1]
        return float(torch.log_softmax(logits / (heat or 1.0), -1).max())

    def _chat(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if set(body) - KNOWN:
            return 422, {"detail": f"Unexpected fields in the request: {set(body) - KNOWN}"}
        policy = self.loaded[body["model"]]
        prompt = policy.tokenizer.apply_chat_template(
            body["messages"], add_generation_prompt=True, tokenize=True, return_dict=False
        )
        (drawn,) = self._draw(body, prompt, 1)
        finish = "stop" if drawn.ids[-1] in policy._stops else "length"
        message = {"role": "assistant", "content": reply(policy.tokenizer, drawn.ids)}
        return 200, {"model": body["model"], "choices": [{"index": 0, "message": message, "finish_reason": finish}]}

    def _draw(self, body: dict[str, Any], prompt: list[int], n: int) -> list[Any]:
        policy = self.loaded[body["model"]]
        rows = [Row(0, body["temperature"], uniforms(body["seed"], i, body["max_tokens"])) for i in range(n)]
        with self.lock, fixed_threads():
            found = decode(policy._sampling_model(), [prompt], rows, policy._stops)
            if not self.scaled and body["temperature"] not in (0.0, 1.0):
                found = [drawn._replace(logprobs=[2 * value for value in drawn.logprobs]) for drawn in found]
        return found


def handler_of(server: ModelServer) -> type[BaseHTTPRequestHandler]:
    """A request handler that speaks for `server`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply({})

        def do_POST(self) -> None:
            self._reply(json.loads(self.rfile.read(int(self.headers["content-length"]))))

        def _reply(self, body: dict[str, Any]) -> None:
            with server.lock:
                server.inside += 1
                server.busiest = max(server.busiest, server.inside)
                server.seen.append((self.path, body))
                status = server.failures.pop(0) if server.failures else None
            try:
                self._send(status, body)
            finally:
                with server.lock:
                    server.inside -= 1

        def _send(self, status: int | None, body: dict[str, Any]) -> None:
            if status == 0:
                self.connection.close()
                self.close_connection = True
                return
            if status is not None:
                answer: dict[str, Any] = {"error": {"message": "on purpose"}}
            elif server.key is not None and self.headers.get("authorization") != f"Bearer {server.key}":
                status, answer = 401, {"error": {"message": "Unauthorized"}}
            else:
                status, answer = server.answer(self.path, body)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def serving(base: Path, **ways: Any) -> Iterator[ModelServer]:
    """Serve a base on a free port for the length of the block."""
    server = ModelServer(base, **ways)
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(server))
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join(10)
