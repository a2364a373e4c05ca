"""What is different between two generations: source, adapter, figures with their interval, instances.

Invariant: equal generations give an empty difference; an interval is given only where both were measured on the same
instances, and its words say what was redrawn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from sia_flow.lineage.records import Generation, Score
from sia_flow.lineage.store import Store
from sia_flow.report.comparison import bootstrap_interval
from sia_flow.scaffold.diff import unified_diff

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class MetricChange:
    """How the mean reward on a split changed from one generation to the other."""

    split: Literal["train", "select"]
    old: float
    new: float
    low: float | None
    """Ends of the interval of `new - old`; none where the instances differ."""
    high: float | None
    fixed: tuple[str, ...]
    """Instances whose mean reward rose by more than both standard errors together."""
    broken: tuple[str, ...]
    """Instances whose mean reward fell so."""
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Metric -> means over the valid answers, old and new."""


@dataclass(frozen=True, slots=True)
class TensorChange:
    """How one tensor of an adapter changed."""

    name: str
    old: float
    """Frobenius norm; 0 where the tensor is not there."""
    new: float
    delta: float
    """Frobenius norm of the difference."""


@dataclass(frozen=True, slots=True)
class Difference:
    """All that is different."""

    scaffold: str
    """Unified diff, empty where the scaffolds are equal."""
    adapters: tuple[str | None, str | None]
    tensors: tuple[TensorChange, ...]
    changes: tuple[MetricChange, ...]
    digests: dict[str, tuple[str, str]]
    """Name -> digests, old and new, of base, data and verifier where they differ."""

    @property
    def same(self) -> bool:
        """Whether both agents are the same and were measured alike."""
        measured = all(c.old == c.new and c.low in (0.0, None) and c.high in (0.0, None) for c in self.changes)
        return not (self.scaffold or self.tensors or self.digests) and self.adapters[0] == self.adapters[1] and measured


def difference(store: Store, old: Generation, new: Generation) -> Difference:
    """Return what is different between two generations of a store."""
    objects = store.objects
    digests = {name: (getattr(old, name), getattr(new, name)) for name in ("base", "data", "verifier")}
    return Difference(
        scaffold=unified_diff(objects.get_sources(old.scaffold), objects.get_sources(new.scaffold)),
        adapters=(old.adapter, new.adapter),
        tensors=tensor_changes(store, old.adapter, new.adapter),
        changes=(metric_change(old.train, new.train, "train"), metric_change(old.select, new.select, "select")),
        digests={name: pair for name, pair in digests.items() if pair[0] != pair[1]},
    )


def metric_change(old: Score, new: Score, split: Literal["train", "select"]) -> MetricChange:
    """Compare two scores of a split; the interval is a bootstrap over the rollouts of each instance."""
    low = high = None
    if set(old.rewards) == set(new.rewards):
        low, high = (0.0, 0.0) if old == new else bootstrap_interval([(new, old)], LEVEL)
    moved = {name: _moved(old.rewards[name], new.rewards[name]) for name in old.rewards if name in new.rewards}
    names = sorted(set(old.metrics) & set(new.metrics))
    return MetricChange(
        split=split,
        old=old.mean,
        new=new.mean,
        low=low,
        high=high,
        fixed=tuple(name for name, sign in moved.items() if sign > 0),
        broken=tuple(name for name, sign in moved.items() if sign < 0),
        metrics={name: (old.metrics[name], new.metrics[name]) for name in names},
    )


def _moved(old: tuple[float, ...], new: tuple[float, ...]) -> int:
    """Return 1, -1 or 0: whether the mean of an instance's rewards moved by more than both standard errors."""
    if not old or not new:
        return 0
    gain = fmean(new) - fmean(old)
    noise = (_variance(old) + _variance(new)) ** 0.5
    return 0 if abs(gain) <= noise or gain == 0 else (1 if gain > 0 else -1)


def _variance(values: tuple[float, ...]) -> float:
    """Return the squared standard error of the mean."""
    if len(values) < 2:
        return 0.0
    centre = fmean(values)
    return sum((value - centre) ** 2 for value in values) / (len(values) - 1) / len(values)


def tensor_changes(store: Store, old: str | None, new: str | None) -> tuple[TensorChange, ...]:
    """Return the tensors of two adapters that differ, the most changed first."""
    import numpy as np

    if old == new:
        return ()
    before, after = (_tensors(store, adapter) for adapter in (old, new))
    changes = []
    for name in sorted(before.keys() | after.keys()):
        known = before[name] if name in before else after[name]
        zero = np.zeros_like(known)
        ours, theirs = after.get(name, zero), before.get(name, zero)
        delta = float(np.linalg.norm(ours - theirs)) if ours.shape == theirs.shape else float("nan")
        changes.append(TensorChange(name, float(np.linalg.norm(theirs)), float(np.linalg.norm(ours)), delta))
    return tuple(sorted((c for c in changes if c.delta != 0), key=lambda change: -change.delta))


def _tensors(store: Store, adapter: str | None) -> dict[str, NDArray[Any]]:
    from safetensors.numpy import load

    if adapter is None:
        return {}
    files = store.objects.get_tree(adapter)
    return dict(load(files["adapter_model.safetensors"]))
