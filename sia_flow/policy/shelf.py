"""Adapters on a model server: written to a folder that it sees, loaded under a name that carries their digest.

Invariant: one name means one content for ever, so that a server can hold an old adapter but never pass it off as a
new one; at most `KEPT` of ours are loaded at a time.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from sia_flow.errors import InfrastructureError, SpecError
from sia_flow.policy.adapter_files import adapter_digest
from sia_flow.policy.endpoint import Answer, Client

KEPT = 2
"""The newest adapter, and the one before it, which requests in flight may still name."""
ABSENT = (404, 405, 501)
DIGITS = 16


def served_name(digest: str) -> str:
    """Return the name under which a server has the adapter of a digest."""
    return f"sia-{digest[:DIGITS]}"


class AdapterShelf:
    """Puts adapters on one server and takes old ones down; `folder` is a path that the server sees, too."""

    def __init__(self, client: Client, folder: Path) -> None:
        self.folder = folder.resolve()
        self._client = client
        self._loaded: dict[str, str] = {}

    def put(self, digest: str, write: Callable[[Path], None]) -> str:
        """Make the server have an adapter; return the model name to ask for.

        Args:
            digest: of the adapter's files.
            write: writes them to a folder; not called where they lie already.

        Raises SpecError when the server loads no adapters or refuses this one.
        """
        name = served_name(digest)
        if name in self._loaded:
            self._loaded[name] = self._loaded.pop(name)
            return self._loaded[name]
        place = self._place(name, digest, write)
        self._loaded[name] = self._load(name, place)
        for old in list(self._loaded)[:-KEPT]:
            self._drop(old)
        return self._loaded[name]

    def forget(self) -> None:
        """Take nothing for loaded any more: the server has started anew."""
        self._loaded.clear()

    def _place(self, name: str, digest: str, write: Callable[[Path], None]) -> Path:
        place = self.folder / name
        if place.is_dir() and adapter_digest(place) == digest:
            return place
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=self.folder))
            # Servers often run as somebody else.
            draft.chmod(0o755)
            write(draft)
            for file in draft.iterdir():
                file.chmod(0o644)
            shutil.rmtree(place, ignore_errors=True)
            draft.rename(place)
        except OSError as error:
            raise InfrastructureError(f"cannot lay out an adapter in {place}: {error.strerror or error}") from error
        return place

    def _load(self, name: str, place: Path) -> str:
        """Ask as vLLM is asked, then as SGLang is, whose names for adapters have the base's before them."""
        root, model = self._client.endpoint.root, self._client.endpoint.model
        body = {"lora_name": name, "lora_path": str(place)}
        answer = self._client.post(f"{root}/load_lora_adapter", body)
        asked = name
        if answer.status in ABSENT and root.endswith("/v1"):
            answer, asked = self._client.post(f"{root.removesuffix('/v1')}/load_lora_adapter", body), f"{model}:{name}"
        if answer.status in ABSENT:
            raise SpecError(
                f"the model server {root} loads no adapters, which training and adapted generations need; start vLLM "
                "with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 (SGLang: --enable-lora)"
            )
        if not _done(answer):
            raise SpecError(
                f"the model server {root} refused the adapter {place}: {answer.message}; see that it sees this path "
                "(policy.adapters) and takes adapters of this rank (--max-lora-rank)"
            )
        return asked

    def _drop(self, name: str) -> None:
        """Unload an adapter and remove its files; a server that has lost it already has done so itself."""
        root = self._client.endpoint.root
        base = root.removesuffix("/v1") if ":" in self._loaded.pop(name) else root
        self._client.post(f"{base}/unload_lora_adapter", {"lora_name": name})
        shutil.rmtree(self.folder / name, ignore_errors=True)


def _done(answer: Answer) -> bool:
    return (answer.ok and answer.body.get("success", True) is True) or "already" in answer.message.lower()
