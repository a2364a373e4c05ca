"""Why a file of the user cannot be used: a message with the remedy, and a reason code."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sia_flow.errors import TaskError


class DataError(TaskError):
    """A file that the task cannot use; `reason` is its code, which ends the message in brackets."""

    def __init__(self, path: Path, reason: str, words: str) -> None:
        super().__init__(f"{path}: {words} [{reason}]")
        self.reason = reason


FAULTS = (
    *(OSError, EOFError, zlib.error, zipfile.BadZipFile),
    *(ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError),
)


@contextmanager
def reading(path: Path, form: str) -> Iterator[None]:
    """Turn whatever a library cannot take of a file, within the block, into a DataError."""
    try:
        yield
    except FAULTS as error:
        raise DataError(path, "unreadable", f"cannot be read as {form}: {error}") from error
