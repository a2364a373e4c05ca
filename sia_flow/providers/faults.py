"""What goes wrong at a provider, told apart once: by what to do, and by whether it may have been billed.

Both SDKs name their errors alike, so one table serves them. Invariant: no message carries a key.
"""

from __future__ import annotations

import re

from sia_flow.errors import InfrastructureError, ProviderError
from sia_flow.providers.settings import ModelSettings


class MissingKeyError(ProviderError):
    """The environment has no key."""


class WrongKeyError(ProviderError):
    """The provider refuses the key, or what it may do."""


class UnknownModelError(ProviderError):
    """The provider has no such model."""


class RefusedRequestError(ProviderError):
    """The provider refuses the request as it stands: a feature that the model lacks, say."""


class UnansweredError(InfrastructureError):
    """No answer came, after all retries; worth another try later."""

    def __init__(self, message: str, *, billed: bool) -> None:
        super().__init__(message)
        self.billed = billed
        """Whether the provider may have billed the call."""


def fault_of(error: Exception, settings: ModelSettings, key: str) -> ProviderError | UnansweredError:
    """Return what an SDK's or its transport's error means; `key` is what its words must not hold."""
    status = getattr(error, "status_code", None)
    words = _clean(error, key)
    said = f"{settings.type} said: {words}"
    if status in (401, 403):
        return WrongKeyError(f"the key in ${settings.api_key_env} is refused ({status}); {said}")
    if status == 402:
        return WrongKeyError(f"the account of the key in ${settings.api_key_env} cannot pay (402); {said}")
    if status == 404:
        where = settings.base_url or f"the address of {settings.type}"
        return UnknownModelError(f"no model {settings.model!r} at {where} (404); check model and base_url; {said}")
    if isinstance(status, int) and 400 <= status < 500 and status not in (408, 409, 429):
        return RefusedRequestError(
            f"{settings.model} refuses the request ({status}); drop from the spec what this model does not know "
            f"(temperature, thinking, effort, output: schema) or lower evidence; {said}"
        )
    if isinstance(status, int) and status >= 400:
        tries = settings.retries + 1
        return UnansweredError(f"{settings.model} did not answer in {tries} tries ({status}); {said}", billed=False)
    connected = not _never_connected(error)
    what = "the connection broke" if connected else "no connection"
    return UnansweredError(f"{settings.model}: {what}: {words}", billed=connected)


def _never_connected(error: BaseException | None) -> bool:
    """Say whether the transport never reached the server, by the error or what caused it."""
    while error is not None:
        if type(error).__name__ in ("ConnectError", "ConnectTimeout"):
            return True
        error = error.__cause__
    return False


def _clean(error: Exception, key: str) -> str:
    """Return an error's words on one line, bounded, without the key and what looks like one."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = text.replace(key, "[key]") if key else text
    return re.sub(r"\b(sk|key|Bearer)[-_ ][A-Za-z0-9_-]{8,}", "[key]", text)[:400]
