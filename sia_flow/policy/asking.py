"""How a server is asked: by token ids where it takes them, by chat messages where it does not.

Invariant: which of the two is found out once, on the first request; every request gets as many completions as it
asked for, also from a server that gives one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sia_flow.canonical import derive_seed
from sia_flow.errors import InfrastructureError, SpecError
from sia_flow.policy.endpoint import Answer, Client
from sia_flow.policy.wire import Choice, chat_body, choices, token_body
from sia_flow.protocols import SampleRequest

UNKNOWN = 404
UNDECIDED = -2e-2
"""A likeliest token above this log-probability hardly moves with the temperature."""
MOVED = 0.02
"""Nats by which it must at least fall from temperature 1 to 2; noise of 16-bit kernels stays below."""


PROBES = 16


class LostModelError(SpecError):
    """The server does not know the model by the name that it was asked for."""


class Asker:
    """Asks one server for completions of one of its models.

    Attributes:
        model: name that the server knows the weights by.
        by_tokens: whether it takes token ids; None until `settle`.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.model = client.endpoint.model
        self.by_tokens: bool | None = None
        self._scaled: bool | None = None

    def settle(self, request: SampleRequest, prompt: Sequence[int]) -> None:
        """Find out how the server wants to be asked. Raises SpecError when it takes neither form."""
        if self.by_tokens is not None:
            return
        trial = replace(request, n=1, max_tokens=1)
        first = self._post(trial, prompt, 1, 0, by_tokens=True)
        if first.ok and choices(first.body):
            self.by_tokens = True
            return
        second = self._post(trial, prompt, 1, 0, by_tokens=False)
        if not (second.ok and choices(second.body)):
            raise self._refused(second if first.status == UNKNOWN else first)
        self.by_tokens = False

    def ask(self, request: SampleRequest, prompt: Sequence[int]) -> list[Choice]:
        """Return `n` completions.

        Raises LostModelError when the server has no such model, SpecError when it refuses otherwise,
        InfrastructureError for nonsense.
        """
        found: list[Choice] = []
        while len(found) < request.n:
            seed = derive_seed(request.seed, "served", len(found))
            answer = self._post(request, prompt, request.n - len(found), seed, by_tokens=bool(self.by_tokens))
            if not answer.ok:
                raise self._refused(answer)
            fresh = choices(answer.body)
            if not fresh:
                raise InfrastructureError(f"{self.client.endpoint.root} gave no completion: {answer.message}")
            self._check_model(answer)
            found += fresh
        return found[: request.n]

    def scales(self, prompt: Sequence[int], ids: Sequence[int]) -> bool:
        """Say whether log-probabilities are of the distribution at the request's temperature.

        vLLM gives those at temperature 1 unless it runs with `--logprobs-mode processed_logprobs`. Found out on the
        likeliest token after a prompt and the beginning of a completion; where the model is too sure of that, a
        little later in it, and where it is sure all along the answer is no for the time being.
        """
        for cut in range(min(PROBES, len(ids)) if self._scaled is None else 0):
            plain, hot = (self._top([*prompt, *ids[:cut]], temperature) for temperature in (1.0, 2.0))
            if plain is None or hot is None:
                self._scaled = False
                break
            if plain < UNDECIDED:
                self._scaled = hot < plain - MOVED
                break
        return self._scaled is True

    def _top(self, prompt: Sequence[int], temperature: float) -> float | None:
        trial = SampleRequest((), 1, temperature, 1, 0)
        answer = self._post(trial, prompt, 1, 0, by_tokens=True)
        found = choices(answer.body) if answer.ok else None
        return found[0].top if found else None

    def _post(self, request: SampleRequest, prompt: Sequence[int], n: int, seed: int, *, by_tokens: bool) -> Answer:
        root = self.client.endpoint.root
        if by_tokens:
            return self.client.post(f"{root}/completions", token_body(self.model, prompt, request, n, seed))
        return self.client.post(f"{root}/chat/completions", chat_body(self.model, request, n, seed))

    def _check_model(self, answer: Answer) -> None:
        """Raise InfrastructureError when an adapter was asked for and something else answered."""
        named = answer.body.get("model")
        if self.model != self.client.endpoint.model and named is not None and named != self.model:
            raise InfrastructureError(f"{self.client.endpoint.root} was asked for {self.model} and answered as {named}")

    def _refused(self, answer: Answer) -> SpecError:
        kind = LostModelError if answer.status == UNKNOWN else SpecError
        root = self.client.endpoint.root
        words = f"the model server {root} refused a request for {self.model!r} ({answer.status} {answer.message})"
        listed = self.client.get(f"{root}/models") if answer.status in (400, UNKNOWN) else None
        if listed is None or not listed.ok:
            return kind(f"{words}; see that policy.base_url ends with the server's /v1")
        names = [str(model.get("id")) for model in listed.body.get("data", ()) if isinstance(model, dict)]
        return kind(f"{words}; it has {', '.join(names) or 'no models'}: set policy.model")
