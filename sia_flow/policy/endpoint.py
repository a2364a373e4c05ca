"""A model server over HTTP: JSON in, JSON out, with retries for what passes by itself.

Invariant: a request that the server refuses is never repeated and becomes an error that says what to change; a
fault that may pass (429, 5xx, a broken connection) is repeated with a growing delay, then told as infrastructure.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from sia_flow.errors import InfrastructureError, SpecError

if TYPE_CHECKING:
    import urllib3

MAX_TEXT = 300
"""Characters of a server's answer that an error quotes."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a passing fault is waited for. Seconds."""

    attempts: int = 6
    first: float = 0.5
    """Delay before the second attempt; it doubles from there."""
    longest: float = 30.0
    connect: float = 10.0
    answer: float = 900.0
    """A full batch of long completions may take minutes."""

    def delay(self, attempt: int, asked: str | None) -> float:
        """Return the pause after the `attempt`-th failure: what the server asked for, else doubling, both bounded."""
        if asked is not None and asked.isdigit():
            return min(float(asked), self.longest)
        return min(self.first * 2.0 ** (attempt - 1), self.longest)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server is and how it may be used."""

    base_url: str
    """With its `/v1`."""
    model: str
    """Name under which it has the base."""
    concurrency: int = 64
    """Requests in flight, at most."""
    api_key_env: str | None = None
    patience: Patience = field(default_factory=Patience)

    @property
    def root(self) -> str:
        """The address without a trailing slash."""
        return self.base_url.rstrip("/")


class Answer(NamedTuple):
    """What a server said: its status and the JSON object, or the text as `{"message": text}`."""

    status: int
    body: Mapping[str, Any]

    @property
    def ok(self) -> bool:
        """Whether the request was carried out."""
        return self.status == 200

    @property
    def message(self) -> str:
        """What an error answer says, in one line, bounded."""
        found: Any = self.body
        for key in ("error", "message", "detail"):
            if isinstance(found, Mapping) and found.get(key):
                found = found[key]
        return " ".join(str(found).split())[:MAX_TEXT]


class Client:
    """Requests to one server; safe to use from several threads. Proxies of the environment are not used.

    On urllib3, which costs a third of httpx's processor time a request where dozens are in flight
    (`benchmarks/rollouts.py`).
    """

    def __init__(self, endpoint: Endpoint) -> None:
        import urllib3

        self.endpoint = endpoint
        patience = endpoint.patience
        self._http = urllib3.PoolManager(
            headers=_headers(endpoint),
            timeout=urllib3.Timeout(connect=patience.connect, read=patience.answer),
            maxsize=endpoint.concurrency,
            block=True,
            retries=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.clear()

    def post(self, url: str, body: Mapping[str, Any]) -> Answer:
        """Post JSON to `url`; return a success or a refusal (4xx). Raises as `_send`."""
        return self._send("POST", url, body)

    def get(self, url: str) -> Answer:
        """Get `url`; return a success or a refusal (4xx). Raises as `_send`."""
        return self._send("GET", url, None)

    def _send(self, method: str, url: str, body: Mapping[str, Any] | None) -> Answer:
        """Send until there is an answer.

        Raises SpecError for a key that the server does not take, InfrastructureError when it stays unreachable,
        overloaded or broken.
        """
        from urllib3.exceptions import HTTPError, LocationValueError

        patience, fault = self.endpoint.patience, ""
        for attempt in range(1, patience.attempts + 1):
            asked = None
            try:
                response = self._http.request(method, url, json=body)
            except LocationValueError as error:
                raise SpecError(f"policy.base_url: {url} is no address: {error}") from error
            except HTTPError as error:
                fault = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            else:
                if response.status != 429 and response.status < 500:
                    return self._checked(url, _parse(response))
                fault, asked = f"{response.status} {_parse(response).message}", response.headers.get("retry-after")
            if attempt < patience.attempts:
                time.sleep(patience.delay(attempt, asked))
        raise InfrastructureError(
            f"the model server {url} gave no answer in {patience.attempts} attempts ({fault}); "
            "see that it runs and that policy.base_url is its address"
        )

    def _checked(self, url: str, answer: Answer) -> Answer:
        if answer.status in (401, 403):
            key = self.endpoint.api_key_env
            advice = f"look at the key in {key}" if key else "name the variable with its key in policy.api_key_env"
            raise SpecError(f"the model server {url} refused the key ({answer.status} {answer.message}): {advice}")
        if 300 <= answer.status < 400:
            raise SpecError(f"{url} answered with a redirect ({answer.status}); write the address it leads to")
        return answer


def _headers(endpoint: Endpoint) -> dict[str, str]:
    if endpoint.api_key_env is None:
        return {}
    key = os.environ.get(endpoint.api_key_env)
    if not key:
        raise SpecError(f"policy.api_key_env: the environment variable {endpoint.api_key_env} is not set")
    return {"Authorization": f"Bearer {key}"}


def _parse(response: urllib3.BaseHTTPResponse) -> Answer:
    try:
        body = json.loads(response.data)
    except ValueError:
        body = {"message": response.data.decode("utf-8", "replace") or response.reason}
    return Answer(response.status, body if isinstance(body, dict) else {"message": str(body)})
