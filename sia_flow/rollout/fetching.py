"""The host's side of `job.fetch`: what a scaffold may read is read for it, bounded, kept and logged.

Invariants: no socket is opened in the sandbox; what a scaffold got stands in its trajectory, shortened and with the
digest of the whole; a step that is begun again shows its scaffolds what it showed them before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sia_flow.addresses import Url
from sia_flow.canonical import Json, digest, digest_bytes
from sia_flow.lineage.records import ToolCall
from sia_flow.rollout.network import AT_ONCE
from sia_flow.rollout.network.answers import Answer, Answers, Page
from sia_flow.rollout.requests import RefusedRequest, parse_fetch

if TYPE_CHECKING:
    from sia_flow.rollout.network.client import Client

MAX_FETCHES = 32
"""Calls of one rollout."""
KEPT = 2000
"""Characters of a page that its trajectory has."""


class NotGranted(RefusedRequest):
    """A scaffold's request is well formed, but no grant covers it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that is within the grants."""

    url: Url
    headers: Mapping[str, str]
    call: str
    """Digest of rollout, number and request."""


class Fetching:
    """Reads pages for the rollouts of one step."""

    def __init__(self, client: Client, answers: Answers) -> None:
        self._client = client
        self._answers = answers

    def ask(self, params: Mapping[str, Any], rollout: Json, number: int) -> Asked:
        """Return call `number`, from 0, of a rollout. Raises RefusedRequest, NotGranted where no grant covers it."""
        if number >= MAX_FETCHES:
            raise RefusedRequest(f"fetch: more than {MAX_FETCHES} calls in one rollout")
        wanted = parse_fetch(params)
        try:
            url = self._client.admit(wanted.url)
        except RefusedRequest as error:
            raise NotGranted(f"fetch: {error}") from error
        headers = {str(name): value for name, value in wanted.headers.items()}
        return Asked(url, headers, digest(["sia-flow/fetch@1", rollout, number, str(url), headers]))

    def answer(self, asked: Iterable[Asked]) -> list[Answer]:
        """Return one answer a call, in order; each is kept before any is returned. Raises StoreError."""
        calls = list(asked)
        if len(calls) == 1:
            return [self._one(calls[0])]
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fetch") as pool:
            return list(pool.map(self._one, calls))

    def _one(self, asked: Asked) -> Answer:
        answer = self._answers.find(asked.call)
        if answer is not None:
            return answer
        try:
            answer = Answer(page=self._client.read(asked.url, asked.headers))
        except RefusedRequest as error:
            answer = Answer(refused=f"fetch: {error}")
        self._answers.put(asked.call, answer)
        return answer


def told(answer: Answer) -> dict[str, Any] | RefusedRequest:
    """Return what the scaffold gets."""
    return RefusedRequest(answer.refused) if answer.page is None else answer.page.model_dump(mode="json")


def logged(params: Mapping[str, Any], answer: Answer, after_turn: int) -> ToolCall:
    """Return what the trajectory keeps of a call: of a long page the beginning, and what the whole was."""
    result: dict[str, Any] = {"refused": answer.refused}
    if answer.page is not None:
        result = answer.page.model_dump(mode="json") | _shortened(answer.page)
    return ToolCall(name="fetch", arguments=dict(params), result=result, after_turn=after_turn)


def _shortened(page: Page) -> dict[str, Any]:
    whole = {"sha256": digest_bytes(page.text.encode()), "characters": len(page.text)}
    return {"text": page.text[:KEPT], **whole} if len(page.text) > KEPT else {}
