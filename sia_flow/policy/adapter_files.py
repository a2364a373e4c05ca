"""The files of an adapter: a normal PEFT folder with `base.json` beside it, which names the base's digest.

Invariant: equal adapters are equal bytes, so that an adapter has one digest, in memory and on disk.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sia_flow.canonical import Json, canonical_json, digest, digest_bytes
from sia_flow.errors import TrainingError
from sia_flow.files import write_atomic

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

CONFIG, WEIGHTS, BASE = "adapter_config.json", "adapter_model.safetensors", "base.json"
SCHEMA = "sia-flow/adapter@1"


def read_state(model: PeftModel) -> dict[str, Tensor]:
    """Return the adapter's tensors by their names in a PEFT file; they share memory with the model."""
    named = model.named_parameters()
    return {name.replace(".default.", "."): parameter.detach() for name, parameter in named if "lora_" in name}


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of an adapter folder. Raises TrainingError when the file is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"cannot read the adapter {folder / WEIGHTS}: {error}") from error


def pack(model: PeftModel, base_digest: str) -> dict[str, bytes]:
    """Return the files of the model's adapter, by name; equal adapters give equal bytes."""
    from safetensors.torch import save

    config = {key: _plain(value) for key, value in model.peft_config["default"].to_dict().items()}
    config |= {"base_model_name_or_path": None, "inference_mode": True}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in read_state(model).items()}
    return {
        CONFIG: canonical_json(config),
        WEIGHTS: save(tensors, metadata={"format": "pt"}),
        BASE: canonical_json({"kind": SCHEMA, "base": base_digest}),
    }


def _plain(value: object) -> Json:
    """Return a JSON value; PEFT holds sets, whose order differs between processes, and enumerations."""
    if isinstance(value, set | frozenset):
        return sorted(value)
    return cast("Json", getattr(value, "value", value))


def save(model: PeftModel, folder: Path, base_digest: str) -> None:
    """Write the model's adapter to `folder`. Raises StoreError when it cannot be written."""
    for name, data in pack(model, base_digest).items():
        write_atomic(folder / name, data)


def digest_files(files: Mapping[str, bytes]) -> str:
    """Return the digest of an adapter's files, as 64 hex digits."""
    return digest({name: digest_bytes(data) for name, data in files.items()})


def adapter_digest(folder: Path) -> str:
    """Return the digest of the adapter in `folder`. Raises TrainingError when a file is missing."""
    try:
        return digest_files({name: (folder / name).read_bytes() for name in (CONFIG, WEIGHTS, BASE)})
    except OSError as error:
        raise TrainingError(f"{folder} is not an adapter folder: {error.strerror} ({error.filename})") from error


def check_base(folder: Path, base_digest: str) -> None:
    """Raise TrainingError when the adapter says that it was made for another base."""
    if not (folder / BASE).is_file():
        return
    made_for = read_json(folder / BASE).get("base")
    if made_for != base_digest:
        raise TrainingError(
            f"the adapter {folder} was made for the base {str(made_for)[:12]}, not for {base_digest[:12]}; "
            "load the base that it was trained on, or train a new adapter"
        )


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises TrainingError when there is none."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"cannot read {file}: {error}") from error
    if not isinstance(value, dict):
        raise TrainingError(f"{file} does not hold a JSON object")
    return value
