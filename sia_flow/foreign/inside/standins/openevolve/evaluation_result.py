"""A result with texts beside its metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class EvaluationResult:
    """Metrics, and artifacts that are shown to the model."""

    metrics: Mapping[str, Any]
    artifacts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, metrics: Mapping[str, Any]) -> EvaluationResult:
        """Return a result without artifacts."""
        return cls(metrics)

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics."""
        return dict(self.metrics)
