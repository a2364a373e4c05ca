"""A headless browser by its debugging protocol: load a page, press keys, ask it, print it."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Self

from websockets.sync.client import connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SECONDS = 90.0


class Browser:
    """One page of one browser."""

    def __init__(self, folder: Path) -> None:
        options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-port=0",
            "--disable-extensions",
        ]
        self.process = subprocess.Popen(
            [str(CHROMIUM), *options, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port = self._port(folder / "DevToolsActivePort")
        import urllib.request

        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as reply:
            page = next(target for target in json.load(reply) if target["type"] == "page")
        self.socket = connect(page["webSocketDebuggerUrl"], max_size=None)
        self.numbers = itertools.count(1)
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    @staticmethod
    def _port(path: Path) -> str:
        deadline = time.monotonic() + SECONDS
        while not (path.exists() and path.read_text().strip()):
            assert time.monotonic() < deadline, "the browser did not start"
            time.sleep(0.05)
        return path.read_text().splitlines()[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        self.process.kill()
        self.process.wait()

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol; return its result, and keep the events that come in between."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv(timeout=SECONDS))
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])
            self.events.append(message)

    def open(self, url: str) -> None:
        """Load a page and wait until it is there."""
        self.send("Page.navigate", url=url)
        deadline = time.monotonic() + SECONDS
        while self.ask("document.readyState + location.href") != f"complete{url}":
            assert time.monotonic() < deadline, "the page did not load"

    def ask(self, expression: str) -> Any:
        """Return the value of an expression on the page."""
        return self.send("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def becomes(self, expression: str) -> bool:
        """Wait until an expression holds: what a page does upon an event, it does after the event."""
        deadline = time.monotonic() + SECONDS
        while not self.ask(expression):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def press(self, key: str) -> None:
        """Press a key, as a person would."""
        code = {"Tab": 9, "Enter": 13}[key]
        text = "\r" if key == "Enter" else ""
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                text=text * (kind == "keyDown"),
            )

    def requests(self) -> list[str]:
        """Return the addresses that were asked for."""
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """Return what the page's console and policy complained of."""
        self.ask("1")
        texts = [e["params"]["entry"]["text"] for e in self.events if e["method"] == "Log.entryAdded"]
        return texts + [str(e["params"]) for e in self.events if e["method"] == "Runtime.exceptionThrown"]

    def pdf(self) -> bytes:
        """Return the page as it is printed."""
        return base64.b64decode(self.send("Page.printToPDF")["data"])
