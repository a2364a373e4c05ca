"""A base model that is not what an experiment ran on is refused: an experiment has one base from first to last.

Invariant: the digest is of the files as they lie there now, and what a run has used stands in its heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sia_flow.errors import SpecError
from sia_flow.lineage.heads import Head, heads
from sia_flow.lineage.store import Store


def used_bases(store: Store, experiment: str | None = None) -> Iterator[tuple[Head, str, str]]:
    """Yield each head that says which base it ran on, with the base's name in its spec and its digest then."""
    for head in heads(store, experiment):
        digest, name = head.inputs.get("base"), head.spec.get("spec", {}).get("policy", {}).get("base")
        if digest and name:
            yield head, str(name), digest


def refuse_other_base(store: Store, experiment: str, base: str, folder: Path, digest: str) -> None:
    """Raise SpecError where the experiment has runs on a base of this name that was another one."""
    for head, name, used in used_bases(store, experiment):
        if name == base and used != digest:
            raise SpecError(
                f"the base model in {folder} has changed: {head.name} ran on {used[:12]}, it is {digest[:12]} now. Put "
                "the old one back, or start an experiment of another name on the new one (--set metadata.name=NAME)"
            )


def refuse_changed_base(folder: Path, loaded: str, expected: str) -> None:
    """Raise SpecError where the base that was just loaded is not the one that the run's steps are named by."""
    if loaded != expected:
        raise SpecError(
            f"the base model in {folder} changed while the run was under way ({expected[:12]} became {loaded[:12]}): "
            "nothing was computed with it; put the old one back and run the same command again"
        )
