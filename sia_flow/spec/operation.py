"""Where and when an experiment runs: the sandbox, the tracker, the schedule, the processes, the work pool."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, Strict, field_validator, model_validator

from sia_flow.spec.base import FOLDER, KUBERNETES_NAME, Issue, Section, rule_error
from sia_flow.spec.network import NetworkGrant, refuse_repeated
from sia_flow.spec.suggest import did_you_mean
from sia_flow.spec.units import Duration, Size

_CRON_FIELDS = ("minute", "hour", "day of month", "month", "day of week")
_CRON_ITEM = re.compile(r"(\*|\w{1,3}(-\w{1,3})?)(/\d{1,3})?", re.ASCII)


class SandboxSpec(Section):
    """What a candidate program may use, and how well it must be held."""

    minimum_level: Annotated[int, Field(ge=0, le=3)] = 1
    """Isolation that the machine must offer: 3 bubblewrap or podman + cgroup, 2 bubblewrap or podman, 1 Landlock, 0
    limits."""
    # What held the candidates is stamped into every record, so by what name it was asked for is in no digest.
    backend: Literal["auto", "bubblewrap", "podman", "landlock"] = Field(default="auto", exclude=True)
    """What holds candidates: `auto` takes the strongest that holds on the machine; a name takes that one, or refuses
    with the reason. Changes no result."""
    wall: Duration = 10.0
    """Wall time of one candidate program, in seconds or with a unit."""
    memory: Size = 1 << 30
    """Memory of one candidate program, in bytes or with a unit."""
    # Left out of the resolved spec where nothing is granted, so that records from before it was there keep their keys.
    network: Annotated[tuple[NetworkGrant, ...], Strict(strict=False), Field(max_length=64)] = Field(
        default=(), exclude_if=lambda grants: not grants, examples=["[api.example.org]"]
    )
    """Services that scaffolds may read through the host, on every split. Not set: none."""

    _apart = field_validator("network")(refuse_repeated)


class Track(Section):
    """What goes to MLflow."""

    uri: Annotated[str, Field(min_length=1, examples=["http://127.0.0.1:5000"])] | None = None
    """MLflow tracking URI. Not set: the project's own database under mlruns/."""
    traces: Annotated[int, Field(ge=0, le=10_000)] = 8
    """Trajectories of each generation that are logged as traces: the best, the worst and failed ones."""


class Schedule(Section):
    """When the experiment runs by itself: a cron line or an interval."""

    cron: Annotated[str, Field(examples=['"0 3 * * 1"'])] | None = None
    """Cron line of five fields: minute, hour, day of month, month, day of week."""
    interval: Duration | None = None
    """Time between two starts, in seconds or with a unit."""
    timezone: str = "UTC"
    """IANA time zone in which the cron line is read."""

    @field_validator("cron")
    @classmethod
    def _cron(cls, line: str | None) -> str | None:
        """Refuse what cannot be a cron line; the scheduler checks the ranges."""
        fields = (line or "* * * * *").split()
        if len(fields) != len(_CRON_FIELDS):
            raise ValueError(f'"{line}" has {len(fields)} fields; a cron line has 5: {", ".join(_CRON_FIELDS)}')
        for name, field in zip(_CRON_FIELDS, fields, strict=True):
            if not all(_CRON_ITEM.fullmatch(item) for item in field.split(",")):
                raise ValueError(f'"{field}" is no {name} of a cron line; write for example "0 3 * * 1" (quoted)')
        return line

    @field_validator("timezone")
    @classmethod
    def _zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:
            hint = did_you_mean(name, available_timezones())
            raise ValueError(f'unknown time zone "{name}";{hint} Write for example Europe/Berlin') from error
        return name

    @model_validator(mode="after")
    def _one(self) -> Schedule:
        if (self.cron is None) == (self.interval is None):
            raise rule_error([Issue((), "needs exactly one of cron and interval")])
        return self


class Spread(Section):
    """Workers that run several arms and seeds at once."""

    type: Literal["processes", "dask", "ray"] = "processes"
    """Where they run: processes of this machine, a Dask cluster or a Ray cluster that shares the project's folder."""
    jobs: Annotated[int, Field(ge=1, le=10_000, examples=[2])] | None = None
    """How many at once. Not set: as many as there are cores, or workers of the cluster."""
    address: Annotated[str, Field(min_length=1)] | None = None
    """Scheduler of the cluster, for dask and ray alone: host:port, with tcp:// before it for Dask. Not set: one is
    started on this machine for the run."""
    share: bool = True
    """Whether a worker that has nothing else to do takes parts of another's rollouts and verification; with `jobs` set
    there may then be more workers than arms and seeds."""


class Pool(Section):
    """Where the runs of a deployment start: the work pool that `sia-flow deploy` hands the spec to."""

    type: Literal["process", "kubernetes"] = "process"
    """What starts a run: a worker's machine as a process of its own, or a Kubernetes cluster as a Job."""
    image: Annotated[str, Field(min_length=1, examples=["registry.example.org/sia-flow:0.1"])] | None = None
    """Container image with Python and sia-flow, for kubernetes alone."""
    project: Annotated[str, Field(pattern=FOLDER)] = "/project"
    """Folder of the project in the image, for kubernetes alone."""
    claim: Annotated[str, Field(pattern=KUBERNETES_NAME, examples=["sia-flow"])] | None = None
    """PersistentVolumeClaim that is mounted as the project's folder, for kubernetes alone."""
    store: Annotated[str, Field(min_length=1, examples=["s3://group/denoise"])] | None = None
    """URL from which a run takes the records before it starts, and to which it brings its own, meanwhile and at its
    end. Not set: the project's folder outlives the run."""
    secret: Annotated[str, Field(pattern=KUBERNETES_NAME, examples=["agents"])] | None = None
    """Secret whose entries are environment variables of the run, keys of paid agents say; for kubernetes alone."""
    namespace: Annotated[str, Field(pattern=KUBERNETES_NAME)] = "default"
    """Namespace of the Jobs, for kubernetes alone."""
    cpus: Annotated[float, Field(gt=0, le=1024, examples=[8])] | None = None
    """Processors that a Job asks for, for kubernetes alone."""
    memory: Annotated[Size, Field(examples=["64GiB"])] | None = None
    """Memory that a Job asks for and is held to, for kubernetes alone, in bytes or with a unit."""
    gpus: Annotated[int, Field(ge=1, le=64, examples=[1])] | None = None
    """GPUs that a Job gets, for kubernetes alone."""

    @model_validator(mode="after")
    def _rules(self) -> Pool:
        issues = list(self._broken())
        if issues:
            raise rule_error(issues)
        return self

    def _broken(self) -> Iterator[Issue]:
        if self.type == "kubernetes":
            if self.image is None:
                yield Issue(("image",), "a Job needs an image with Python and sia-flow")
            if self.claim is None and self.store is None:
                yield Issue((), "needs claim or store: what a pod wrote is gone with it")
            return
        # By value, since a spec that is written whole names every field.
        for name, field in sorted(type(self).model_fields.items()):
            if name not in {"type", "store"} and getattr(self, name) != field.default:
                yield Issue((name,), "is for pools of type kubernetes alone")
