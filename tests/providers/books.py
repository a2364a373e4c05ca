"""Books, caps and a meter for the tests, on a folder that outlives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sia_flow.dialogue import Ask, Message, Text
from sia_flow.providers.answers import Answers
from sia_flow.providers.caps import Caps
from sia_flow.providers.journal import Account, Entry, Journal
from sia_flow.providers.metering import Meter
from sia_flow.providers.provider import Provider, open_provider
from sia_flow.providers.settings import ModelSettings
from sia_flow.spec.loop import Budget
from tests.providers.wire import KEY, Wire

MODEL = "claude-sonnet-5-5"
ME = Account("H", 0, "feedback")


def ask(words: str) -> Ask:
    return Ask(system=("static",), messages=(Message(role="user", blocks=(Text(text=words),)),))


def model(wire: Wire, name: str = MODEL, **settings: Any) -> Provider:
    settings = {"retries": 0, "max_tokens": 1000, "timeout": 20.0, **settings}
    kind = settings.pop("type", "anthropic")
    url = wire.url + ("/v1" if kind == "openai" else "")
    return open_provider(ModelSettings(type=kind, model=name, api_key_env="K", base_url=url, **settings), {"K": KEY})


def meter(root: Path, warnings: list[str] | None = None, **budget: Any) -> Meter:
    caps = Caps(Budget.model_validate(budget))
    warn = (lambda _: None) if warnings is None else warnings.append
    return Meter(Journal(root / "spend.jsonl"), Answers(root / "answers"), caps, warn)


def entry(usd: float, tokens: int = 10, account: Account = ME, call: str = "c" * 64) -> Entry:
    return Entry("", call, account, MODEL, "open", usd, tokens)
