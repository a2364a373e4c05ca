"""The command line in several processes, for bases that fit on no one device: `training.engine: fsdp`.

    accelerate launch --config_file flows/accelerate/fsdp2.yaml flows/sharded.py apply SPEC --engine local

The first process runs the command; the others follow its weight updates and do nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from sia_flow.policy.local import LocalPolicy


def load(base: str, dtype: str, lora: Mapping[str, Any]) -> LocalPolicy:
    """Return the trainable policy that a following process holds its shards of."""
    from sia_flow.policy.adapters import LoraConfig
    from sia_flow.policy.local import LocalPolicy

    kept = cast("Literal['float32', 'auto']", dtype)
    return LocalPolicy.load(Path(base), lora=LoraConfig(**lora), trainable=True, dtype=kept)


def main() -> None:
    """Run the command line in the leading process, follow in the others."""
    from sia_flow.training.backends.follower import follow
    from sia_flow.training.backends.processes import joined

    with joined() as leader:
        if not leader:
            follow(load)
            return
        from sia_flow.cli.main import main as command

        command()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
