"""Answers that must not pay: what a lazy or cheating agent would hand in."""

from __future__ import annotations

from sia_flow.verify.probes import Probe


def probes() -> tuple[Probe, ...]:
    """Return the probes of the task; none knows the case that it is handed in for."""
    every = "".join(f"train-{row},盗窃\n" for row in range(200))
    return (
        Probe("null", None),
        Probe("empty", ""),
        Probe("header alone", "id,label\n"),
        Probe("no charge", "train-0,none of them"),
        Probe("all ids at once", every),
        Probe("a label without an id", "盗窃"),
        Probe("not a CSV", '"'),
        Probe("markup", "<label>盗窃</label>"),
    )
