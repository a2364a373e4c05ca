"""Base models by name or folder, and the digest that names their exact weights.

Invariant: a base is a local Hugging Face checkpoint whose weights are safetensors; nothing is downloaded and
no code or pickle of a checkpoint is ever run.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from sia_flow.canonical import digest
from sia_flow.errors import SpecError

BUILTIN = {"tiny-gpt-oss": "tiny-gpt-oss", "tiny-lawbench": "tiny-lawbench"}
"""Name in a spec -> folder below the models folder."""
OWN = re.compile(r"tiny-[a-z0-9][a-z0-9-]*")
"""A base that a task brings; its folder is called as it is."""

REQUIRED = ("config.json", "tokenizer.json")
OPTIONAL = ("generation_config.json", "tokenizer_config.json", "chat_template.jinja")
"""They hold the stop tokens and the chat template, which change what is sampled as much as weights do."""


def resolve_base(name_or_path: str, models_dir: Path) -> Path:
    """Return the folder of a base model.

    Args:
        name_or_path: a built-in name, or the path of a Hugging Face checkpoint folder.
        models_dir: where the built-in bases lie once `sia-flow prepare` has made them.

    Raises SpecError when there is no such folder or it is not a checkpoint that may be loaded.
    """
    if name_or_path in BUILTIN or OWN.fullmatch(name_or_path):
        folder = models_dir / BUILTIN.get(name_or_path, name_or_path)
        if not (folder / "config.json").is_file():
            raise SpecError(
                f"the base model {name_or_path} has not been built in {folder}; "
                "run `sia-flow prepare` (or `make install`)"
            )
    else:
        folder = Path(name_or_path).expanduser()
        if not folder.is_dir():
            known = ", ".join(sorted(BUILTIN))
            raise SpecError(
                f"policy.base: {name_or_path!r} is neither a built-in base ({known}) nor a folder; "
                "give the path of a local Hugging Face checkpoint"
            )
    check_checkpoint(folder)
    return folder


def check_checkpoint(folder: Path) -> None:
    """Raise SpecError unless `folder` holds a configuration, a fast tokenizer and safetensors weights."""
    missing = [name for name in REQUIRED if not (folder / name).is_file()]
    if missing:
        raise SpecError(f"{folder} is not a Hugging Face checkpoint: {', '.join(missing)} missing")
    if not weight_files(folder):
        raise SpecError(
            f"{folder} has no *.safetensors file; other weight formats can run code and are refused: "
            "convert the checkpoint"
        )


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the safetensors files of a checkpoint, by name."""
    return tuple(sorted(folder.glob("*.safetensors")))


def base_digest(folder: Path) -> str:
    """Return the SHA-256 over a checkpoint's configuration, tokenizer and weights, as 64 hex digits."""
    check_checkpoint(folder)
    names = [folder / name for name in (*REQUIRED, *OPTIONAL)]
    files = [file for file in names if file.is_file()] + list(weight_files(folder))
    return digest({file.name: _file_digest(file) for file in files})


def _file_digest(file: Path) -> str:
    stat = file.stat()
    return _hash(file, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _hash(file: Path, _size: int, _mtime_ns: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
