"""The paper's cases, out of the pinned `sia-agent` wheel: fetched from the package registry, checked by hash, read.

Invariant: nothing of the wheel is installed or imported, and no byte of it is used whose hash is not the one here.
The texts are CAIL2018's (court records, terms unclear): they stay in the ignored data folder.
"""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sia_flow.canonical import digest_bytes
from sia_flow.errors import TaskError

PACKAGE, VERSION = "sia-agent", "0.6.0"
SHA256 = "10a186ea66d83a7278d911e913fb6a964cb48a8795625814b736e220a4b56961"
WHEEL_VARIABLE = "SIA_FLOW_LAWBENCH_WHEEL"
"""Environment variable with the path of a wheel that was fetched by hand, for machines without a registry."""
FOLDER = "sia/tasks/lawbench/data"
SECONDS = 300
LONGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Cases:
    """The published division, as it is shipped."""

    classes: tuple[str, ...]
    train: tuple[tuple[str, str], ...]
    """(text, label)"""
    test: tuple[tuple[str, str], ...]


def published() -> Cases:
    """Return the paper's cases. Raises TaskError that says how to get the wheel where it cannot be had."""
    given = os.environ.get(WHEEL_VARIABLE)
    if given:
        return read_wheel(Path(given))
    with tempfile.TemporaryDirectory(prefix="sia-flow-lawbench-") as folder:
        return read_wheel(download(Path(folder)))


def download(folder: Path) -> Path:
    """Fetch the wheel with pip into `folder`. Raises TaskError where the registry does not give it."""
    command = [sys.executable, "-m", "pip", "download", f"{PACKAGE}=={VERSION}", "--no-deps", "--only-binary=:all:"]
    command += ["--quiet", "--disable-pip-version-check", "--dest", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"pip ended with {done.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        done, reason = None, str(error)
    wheels = sorted(folder.glob("*.whl"))
    if done is None or done.returncode or not wheels:
        what = f"{PACKAGE} {VERSION} was not fetched"
        raise TaskError(f"the cases of lawbench cannot be had: {what} ({reason}). {REMEDY}")
    return wheels[0]


REMEDY = (
    f"Fetch it where there is a registry (`pip download {PACKAGE}=={VERSION} --no-deps`), set {WHEEL_VARIABLE} to its "
    "path and run `sia-flow prepare data lawbench` again; or try the made-up cases: --set spec.task.data=synthetic"
)


def read_wheel(path: Path, sha256: str = SHA256) -> Cases:
    """Read the cases out of a wheel. Raises TaskError for another file than the pinned one."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TaskError(f"the wheel {path} cannot be read: {error.strerror}. {REMEDY}") from error
    found = digest_bytes(content)
    if found != sha256:
        raise TaskError(f"{path} is not {PACKAGE} {VERSION}: its SHA-256 is {found}, not {sha256}. {REMEDY}")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        train = _table(archive, "training_data/train.csv", ("id", "text", "label"))
        texts = {row[0]: row[1] for row in _table(archive, "public/test.csv", ("id", "text"))}
        labels = {row[0]: row[1] for row in _table(archive, "private/test.csv", ("id", "label"))}
        classes = tuple(json.loads(archive.read(f"{FOLDER}/public/classes.json")))
    if texts.keys() != labels.keys():
        raise TaskError(f"{path}: the ids of test.csv and of its labels differ")
    test = tuple((texts[name], labels[name]) for name in texts)
    return Cases(classes, tuple((text, label) for _, text, label in train), test)


def _table(archive: zipfile.ZipFile, name: str, columns: Sequence[str]) -> list[tuple[str, ...]]:
    csv.field_size_limit(LONGEST)
    with archive.open(f"{FOLDER}/{name}") as file:
        rows = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8", newline=""))
        return [tuple(row[column] for column in columns) for row in rows]
