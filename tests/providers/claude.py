"""A scripted model for whole experiments: it reads, tries, writes a scaffold, and pulls one lever a generation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.providers.wire import Call, Fault, Request, Say

Turn = Callable[[Request], "Say | Fault"]
USAGE = (1000, 200, 0, 0)


def role(request: Request) -> str:
    """Return which agent asks."""
    return "meta" if "You are the Meta-Agent" in request.text else "feedback"


def turn(request: Request) -> int:
    """Return how many answers there were in this talk."""
    return sum(message["role"] == "assistant" for message in request.body["messages"])


def generation(request: Request) -> int:
    """Return the last generation that the evidence names."""
    return int(request.text.split("Last made: generation ")[1].split(".")[0])


def change(name: str, find: str, replace: str, files: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return an edit of scaffold.py by one patch."""
    whole = [{"path": path, "text": text} for path, text in (files or {}).items()]
    patches = [{"path": "scaffold.py", "find": find, "replace": replace}] if find else []
    return {"name": name, "summary": f"It does {name}.", "files": whole, "patches": patches}


def package(scaffold: Mapping[str, Any]) -> str:
    """Return the Meta-Agent's answer."""
    return json.dumps({"notes": "A sound start.", "scaffold": scaffold})


def verdict(lever: str, *edits: Mapping[str, Any], algorithm: str | None = None, **more: Any) -> str:
    """Return the Feedback-Agent's answer."""
    answer = {
        "analysis": f"The evidence speaks for {lever}.",
        "lever": lever,
        "reason": f"The {lever} lever promises most.",
        "forecast": 0.01,
        "algorithm": algorithm,
        "rate": None,
        "edits": list(edits),
    }
    return json.dumps({**answer, **more})


META = change("more samples", "T: int = 3  # 1..12", "T: int = 4  # 1..12")
FIRST = change("wider", "KNN: int = 5  # 2..30", "KNN: int = 7  # 2..30")
SECOND = change("cooler", "TEMPERATURE: float = 1.0  # 0.5..1.5", "TEMPERATURE: float = 0.8  # 0.5..1.5")

FUTURE = "from __future__ import annotations"
MISSING = change("numpy", FUTURE, f"{FUTURE}\n\nimport absent_package")


def claude(decisions: Sequence[Say | str]) -> Turn:
    """Return a script: the Meta-Agent tries its scaffold first; decision number g is that after generation g."""

    def script(request: Request) -> Say | Fault:
        if role(request) == "meta":
            calls = (Call("read_file", {"path": "scaffold.py"}), Call("try_change", {"change": META}))
            return Say("Let me look.", calls, thinking="hm", usage=USAGE) if turn(request) == 0 else done(package(META))
        if turn(request) == 0:
            asked = {"generation": generation(request), "outcome": "all", "order": "worst", "page": 0}
            return Say("Let me see.", (Call("list_rollouts", asked),), usage=USAGE)
        found = decisions[min(generation(request), len(decisions) - 1)]
        return done(found) if isinstance(found, str) else found

    return script


def done(text: str) -> Say:
    """Return a closing answer."""
    return Say(text, usage=USAGE)
