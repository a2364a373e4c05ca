"""Work pools on a Prefect server: what a worker does to start a run, as a process of its own or as a Kubernetes Job.

Invariant: a pool that is there keeps its template, since its owner may have changed it; only its limit is set.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

from sia_flow.errors import InfrastructureError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

Kind = Literal["process", "kubernetes"]
_MOUNT = "project"
KEPT_SECONDS = 300
"""How long a Job is there after its end. While that of a pod which was moved away is, a success to Kubernetes, Prefect
does not see that the run's next pod dies."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much runs at once, over all experiments of the server."""

    runs: int = 1
    """Experiments of the pool."""
    gpu: int = 1
    """Steps that sample or train on a GPU."""
    api: int = 4
    """Steps that ask a paid provider."""


@dataclass(frozen=True, slots=True)
class Pod:
    """What a Kubernetes Job is made of."""

    image: str
    namespace: str = "default"
    project: str = "/project"
    """The project's folder in the pod."""
    claim: str | None = None
    """PersistentVolumeClaim that is mounted there."""
    store: str | None = None
    """URL to which the records are brought before the pod is moved away."""
    secret: str | None = None
    """Secret whose entries become environment variables."""
    cpus: float | None = None
    memory: int | None = None
    """Bytes."""
    gpus: int | None = None

    def variables(self) -> dict[str, Any]:
        """Return the values of the pool's template."""
        found: dict[str, Any] = {"image": self.image, "namespace": self.namespace, "finished_job_ttl": KEPT_SECONDS}
        if self.claim is not None:
            found["volumes"] = [{"name": _MOUNT, "persistentVolumeClaim": {"claimName": self.claim}}]
            found["volume_mounts"] = [{"name": _MOUNT, "mountPath": self.project}]
        if self.secret is not None:
            found["env_from"] = [{"secretRef": {"name": self.secret}}]
        if self.store is not None:
            # SIGTERM is too late: Prefect then hands the run to another pod, and kills this one's at once.
            push = ["sia-flow", "store", "push", self.store, "-C", self.project]
            found["lifecycle"] = {"preStop": {"exec": {"command": push}}}
        if self.cpus is not None:
            found["cpu_request"] = f"{self.cpus:g}"
        if self.memory is not None:
            found |= {"memory_request": str(self.memory), "memory_limit": str(self.memory)}
        if self.gpus is not None:
            found["gpu_limit"] = str(self.gpus)
        return found


def make_pool(client: SyncPrefectClient, name: str, kind: Kind, limits: Limits, needs: Collection[str] = ()) -> None:
    """Make a work pool and the limits of the tags `gpu` and `api`, or set them to these figures.

    Raises InfrastructureError where a pool of that name is of another kind, or its template lacks a variable that the
    deployments set, as that of a pool which `prefect worker start` made does: Prefect would drop the value unsaid.
    """
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectNotFound

    try:
        found = client.read_work_pool(name)
        if found.type != kind:
            raise InfrastructureError(
                f"the work pool {name!r} is of type {found.type}, and the spec asks for {kind}: choose another --pool"
            )
        lacking = sorted(set(needs) - set(found.base_job_template.get("variables", {}).get("properties", {})))
        if lacking:
            raise InfrastructureError(
                f"the template of the work pool {name!r} has no place for {', '.join(lacking)}: "
                "choose another --pool, or delete it, and deploy before a worker starts"
            )
        client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=limits.runs))
    except ObjectNotFound:
        client.create_work_pool(
            WorkPoolCreate(name=name, type=kind, base_job_template=template(kind), concurrency_limit=limits.runs)
        )
    for tag, count in (("gpu", limits.gpu), ("api", limits.api)):
        reply = client.request("POST", "/concurrency_limits/", json={"tag": tag, "concurrency_limit": count})
        reply.raise_for_status()


def template(kind: Kind) -> dict[str, Any]:
    """Return a pool's base job template: Prefect's own, for Kubernetes with places for volumes, secrets and GPUs."""
    if kind == "process":
        from prefect.workers.process import ProcessWorker

        return dict(ProcessWorker.get_default_base_job_template())
    return _with_places(_published("prefect-kubernetes", "kubernetes"))


def _published(package: str, kind: str) -> dict[str, Any]:
    """Return the template of a worker that need not be installed here, from the copy that Prefect brings along."""
    views = resources.files("prefect.server.api") / "collections_data/views/aggregate-worker-metadata.json"
    found: dict[str, Any] = json.loads(views.read_text(encoding="utf-8"))
    return dict(found[package][kind]["default_base_job_configuration"])


def _with_places(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return Prefect's Kubernetes template with our variables; a place that no deployment fills is left out."""
    pod = plain["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    pod["volumes"] = "{{ volumes }}"
    container["volumeMounts"] = "{{ volume_mounts }}"
    container["envFrom"] = "{{ env_from }}"
    container["lifecycle"] = "{{ lifecycle }}"
    container["resources"]["limits"]["nvidia.com/gpu"] = "{{ gpu_limit }}"
    objects = {"type": "array", "items": {"type": "object"}}
    plain["variables"]["properties"] |= {
        "volumes": {"title": "Volumes", "description": "Volumes of the pod.", **objects},
        "volume_mounts": {"title": "Volume Mounts", "description": "Where the container has them.", **objects},
        "env_from": {"title": "Env From", "description": "Secrets as environment variables.", **objects},
        "lifecycle": {"title": "Lifecycle", "description": "Hooks of the container.", "type": "object"},
        "gpu_limit": {"title": "GPU Limit", "description": "NVIDIA GPUs of the container.", "type": "string"},
    }
    return dict(plain)
