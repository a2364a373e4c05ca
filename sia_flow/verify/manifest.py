"""What task.yaml says: strict, so that a misspelt key is an error that names the file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sia_flow.errors import TaskError

Reference = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\.py:[A-Za-z_][A-Za-z0-9_]*$")]
"""`FILE.py:NAME`, in the task's folder."""
FileName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\.(py|md)$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Answer(_Strict):
    """The form of an answer."""

    type: Literal["program", "text"]
    """A `program` runs in the sandbox; a `text` is read by a `sia_flow.verify.texts.TextVerifier`."""
    entry: str = ""
    """Function that the program defines."""
    timed: bool = False
    """Whether a program is worth what its speed is; its verifier is a `sia_flow.verify.timed.TimedVerifier`."""

    @model_validator(mode="after")
    def _entry_of_programs(self) -> Answer:
        if (self.type == "program") != bool(self.entry):
            raise ValueError("answer: a program needs its entry, and only a program has one")
        if self.timed and self.type != "program":
            raise ValueError("answer: only a program is timed")
        return self


class Kit(_Strict):
    """The toolkit that programs may import."""

    module: str
    file: FileName
    preload: tuple[str, ...] = ()
    warm: str | None = None
    """`module:function`, called once with the arrays before the sandbox forks."""


class Base(_Strict):
    """The task's own base model, which `sia-flow prepare` builds."""

    name: Annotated[str, Field(pattern=r"^tiny-[a-z0-9][a-z0-9-]*$")]
    """What a spec calls it, and its folder below models/."""
    pairs: Reference
    """`FILE.py:NAME`: (data folder, seed, count) -> (prompt, completion) pairs."""
    tokenizer: Literal["pieces", "characters"] = "pieces"
    count: Annotated[int, Field(ge=1)] = 16000
    """Pairs to draw."""
    steps: Annotated[int, Field(ge=1)] = 500
    """Optimizer steps."""
    hidden: Annotated[int, Field(ge=16)] = 64
    pieces: Annotated[int, Field(ge=0)] = 512
    """Pieces of text that become tokens of their own."""
    context: Annotated[int, Field(ge=64)] = 512


class Metric(_Strict):
    """What the reward is."""

    name: str
    direction: Literal["maximize"]
    floor: float


class Manifest(_Strict):
    """A task folder's table of contents."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    title: str
    description: FileName
    answer: Answer
    verifier: Reference
    modes: dict[str, str]
    """Way of scoring -> what it means."""
    mode: str
    """The mode where a spec names none."""
    data_sets: dict[str, str]
    """Data set -> what it is."""
    data: str
    """The data set where a spec names none."""
    prepare: Reference
    kit: Kit | None = None
    scaffold: str = "scaffold"
    corpus: Reference | None = None
    probes: Reference | None = None
    edits: Reference | None = None
    """Structural edits that the builtin agent knows for this task's scaffolds. Not set: those for programs."""
    tools: Reference | None = None
    """Tools of scaffolds beside `score_visible`, made from the verifier."""
    base: Base | None = None
    metric: Metric
    guards: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _defaults_exist(self) -> Manifest:
        if self.mode not in self.modes:
            raise ValueError(f"mode {self.mode!r} is not among modes: {', '.join(self.modes)}")
        if self.data not in self.data_sets:
            raise ValueError(f"data {self.data!r} is not among data_sets: {', '.join(self.data_sets)}")
        return self


def read_manifest(path: Path) -> Manifest:
    """Read a task.yaml. Raises TaskError that names the file and every fault."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = re.sub(r"\s+", " ", str(error))
        raise TaskError(f"{path} cannot be read: {reason}") from error
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors())
        raise TaskError(f"{path}: {faults}") from error
    if manifest.name != path.parent.name:
        raise TaskError(f"{path}: name is {manifest.name!r} but its folder is {path.parent.name!r}")
    return manifest
