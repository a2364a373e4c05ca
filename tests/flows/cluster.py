"""A Kubernetes cluster of one node, as far as Prefect's worker asks: an API on loopback, and Jobs that are processes.

A container finds a fresh copy of its image's folder where the image has the project. What it starts dies with it. One
pod runs at a time, since all of them see that one place; a pod waits for ever where its claim is not bound.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

Object = dict[str, Any]
KINDS = {"jobs": ("batch/v1", "Job"), "pods": ("v1", "Pod")}
_PATH = re.compile(
    r"/(?:api|apis/batch)/v1(?:/namespaces/(?P<namespace>[^/]+))?/(?P<kind>jobs|pods)(?:/(?P<name>[^/]+)(?P<log>/log)?)?"
)
_POLITE = 30
"""Seconds between SIGTERM and SIGKILL where nobody asks for others."""


def _resource(name: str, kind: str, *, namespaced: bool = True) -> Object:
    verbs = ["create", "delete", "get", "list", "patch", "watch"]
    return {"name": name, "singularName": kind.lower(), "kind": kind, "namespaced": namespaced, "verbs": verbs}


_BATCH = {"groupVersion": "batch/v1", "version": "v1"}
DISCOVERY: dict[str, Object] = {
    "/version": {"major": "1", "minor": "33", "gitVersion": "v1.33.0"},
    "/api": {"versions": ["v1"]},
    "/apis": {"groups": [{"name": "batch", "versions": [_BATCH], "preferredVersion": _BATCH}]},
    # Prefect looks at no Job before it has seen that there are namespaces.
    "/api/v1": {"resources": [_resource("pods", "Pod"), _resource("namespaces", "Namespace", namespaced=False)]},
    "/apis/batch/v1": {"resources": [_resource("jobs", "Job")]},
    "/api/v1/namespaces/kube-system": {"kind": "Namespace", "metadata": {"name": "kube-system", "uid": "here"}},
}


@dataclass(slots=True)
class Container:
    """A process and what it starts, told from others by HOSTNAME, which is the pod's name."""

    host: str
    log: Path
    over: threading.Event = field(default_factory=threading.Event)
    _process: subprocess.Popen[bytes] | None = None
    _environ: dict[str, str] = field(default_factory=dict)
    _folder: Path = Path()
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, command: list[str], folder: Path, environ: Mapping[str, str]) -> bool:
        """Start it, unless it was stopped before."""
        self._folder, self._environ = folder, {**environ, "HOSTNAME": self.host}
        with self._lock, self.log.open("ab") as log:
            if not self.over.is_set():
                self._process = self._begin(command, log)
            return self._process is not None

    def wait(self) -> int:
        """Return its exit code; nothing of it is left then."""
        assert self._process is not None
        code = self._process.wait()
        self._end()
        return code

    def stop(self, grace: float, hook: list[str] | None = None) -> None:
        """Run its preStop hook, send SIGTERM to its first process, and kill what is left after `grace` seconds."""
        deadline = time.monotonic() + grace
        with self._lock:
            if self._process is None:
                self.over.set()
                return
        if hook:
            with self.log.open("ab") as log, contextlib.suppress(subprocess.TimeoutExpired):
                self._begin(hook, log).wait(grace)
        self._process.send_signal(signal.SIGTERM)
        if not self.over.wait(max(0.0, deadline - time.monotonic())):
            self.kill()

    def kill(self) -> None:
        """Kill all its processes at once, as the kernel does where memory runs out, or a node that loses power."""
        if self._process is not None:
            self._process.kill()
            self.over.wait(30)

    def _begin(self, command: list[str], log: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd=self._folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def _end(self) -> None:
        mark = f"HOSTNAME={self.host}".encode()
        while members := [pid for pid in _processes() if mark in _environ_of(pid)]:
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        self.over.set()


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def _environ_of(pid: int) -> list[bytes]:
    """Return the variables that a process was started with; none of one that has ended."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


class Cluster:
    """The cluster, for the length of a `with` block."""

    def __init__(
        self,
        folder: Path,
        images: Mapping[str, Path],
        at: Path,
        environ: Mapping[str, str],
        secret: Mapping[str, Mapping[str, str]],
    ) -> None:
        """`images` are folders by image, seen by containers `at` one place; `environ` is what all images set."""
        self.unknown: list[str] = []
        """Requests that it does not know."""
        self.images = images
        self._folder, self._at, self._environ, self._secrets = folder, at, environ, secret
        self._objects: dict[str, dict[str, Object]] = {kind: {} for kind in KINDS}
        self._containers: dict[str, Container] = {}
        self._history: list[tuple[str, Object]] = []
        self._closed = False
        self._changed = threading.Condition(threading.RLock())
        self._node = threading.Lock()
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.cluster = self

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for container in self._containers.values():
            container.over.is_set() or container.stop(0)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._http.shutdown()
        self._http.server_close()

    def kubeconfig(self) -> Path:
        """Write the file by which clients find the cluster, and return its path."""
        found = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "here", "cluster": {"server": f"http://127.0.0.1:{self._http.server_address[1]}"}},
            ],
            "users": [{"name": "me", "user": {"token": "none"}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
            "current-context": "here",
        }
        path = self._folder / "kubeconfig"
        path.write_text(json.dumps(found))
        return path

    def jobs(self, run: str) -> list[Object]:
        """Return the Jobs of a flow run, the oldest first."""
        return self.listed("jobs", f"prefect.io/flow-run-id={run}")[0]

    def pod(self, job: Object) -> Object:
        """Return the pod of a Job."""
        (found,) = self.listed("pods", f"job-name={job['metadata']['name']}")[0]
        return found

    def kill(self, pod: Object) -> None:
        """Kill a pod's processes."""
        self._containers[pod["metadata"]["name"]].kill()

    def evict(self, pod: Object, grace: float = _POLITE) -> None:
        """Move a pod away, as when its node is drained; return when it has ended."""
        (container,) = pod["spec"]["containers"]
        hook = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
        self._containers[pod["metadata"]["name"]].stop(grace, hook)

    def log(self, pod: str) -> str:
        """Return what a pod has printed."""
        return self._containers[pod].log.read_text(errors="replace")

    def told(self) -> str:
        """Return the ends of all logs, for a failure's message."""
        return "\n".join(f"{pod}:\n{self.log(pod)[-3000:]}" for pod in self._containers)

    # --- what the API does ---

    def listed(self, kind: str, selector: str = "", namespace: str | None = None) -> tuple[list[Object], int]:
        """Return the objects of a kind that a label selector matches, and the version of the list."""
        with self._changed:
            found = [
                copy.deepcopy(item)
                for item in self._objects[kind].values()
                if _selected(item, selector) and namespace in (None, item["metadata"]["namespace"])
            ]
            return found, len(self._history)

    def events(self, kind: str, selector: str, since: int) -> Iterator[Object]:
        """Yield what happens to objects of a kind after a version, until the cluster closes."""
        while True:
            with self._changed:
                while not self._closed and len(self._history) <= since:
                    self._changed.wait()
                if self._closed:
                    return
                fresh, since = self._history[since:], len(self._history)
            yield from (event for of, event in fresh if of == kind and _selected(event["object"], selector))

    def create(self, namespace: str, manifest: Object) -> Object:
        """Take a Job, and start its pod."""
        name = f"{manifest['metadata']['generateName']}{secrets.token_hex(3)}"
        job = {**manifest, "metadata": _metadata(name, namespace, manifest["metadata"]["labels"])}
        template = manifest["spec"]["template"]
        labels = {**template["metadata"]["labels"], "job-name": name}
        pod = {"metadata": _metadata(f"{name}-{secrets.token_hex(2)}", namespace, labels), "spec": template["spec"]}
        host = pod["metadata"]["name"]
        self._containers[host] = Container(host, self._folder / f"{host}.log")
        self._containers[host].log.touch()
        self._put("jobs", "ADDED", job, {"active": 1})
        self._put("pods", "ADDED", pod, {"phase": "Pending"})
        threading.Thread(target=self._live, args=(job, pod), daemon=True).start()
        return job

    def delete(self, job: Object, grace: float) -> None:
        """End the pod of a Job, then remove both."""
        pod = self.pod(job)
        self.evict(pod, grace)
        self._remove(job, pod)

    def _remove(self, job: Object, pod: Object) -> None:
        for kind, gone in (("pods", pod), ("jobs", job)):
            self._put(kind, "DELETED", gone, gone["status"])

    def _live(self, job: Object, pod: Object) -> None:
        """Be a pod from its start to its end."""
        (container,) = pod["spec"]["containers"]
        ours = self._containers[pod["metadata"]["name"]]
        if any("persistentVolumeClaim" in volume for volume in pod["spec"].get("volumes", [])):
            return
        named = [self._secrets[source["secretRef"]["name"]] for source in container.get("envFrom", [])]
        environ = {name: value for entries in named for name, value in entries.items()}
        environ |= {entry["name"]: entry["value"] for entry in container["env"]}
        with self._node:
            shutil.rmtree(self._at, ignore_errors=True)
            shutil.copytree(self.images[container["image"]], self._at, symlinks=True)
            if not ours.start(container["args"], self._at, {**self._environ, **environ}):
                return
            self._put("pods", "MODIFIED", pod, _status("Running", container, {"running": {"startedAt": _now()}}))
            code = ours.wait()
        well = code == 0
        ended = {"terminated": {"exitCode": code % 256, "reason": "Completed" if well else "Error"}}
        self._put("pods", "MODIFIED", pod, _status("Succeeded" if well else "Failed", container, ended))
        said = {"type": "Complete" if well else "Failed", "status": "True"}
        self._put("jobs", "MODIFIED", job, {"succeeded" if well else "failed": 1, "conditions": [said]})
        kept = threading.Timer(job["spec"]["ttlSecondsAfterFinished"], self._remove, (job, pod))
        kept.daemon = True
        kept.start()

    def _put(self, kind: str, change: str, item: Object, status: Object) -> None:
        version, name = KINDS[kind]
        metadata = item["metadata"]
        with self._changed:
            if change != "ADDED" and metadata["name"] not in self._objects[kind]:
                return
            metadata["resourceVersion"] = str(len(self._history) + 1)
            item |= {"apiVersion": version, "kind": name, "status": status}
            self._objects[kind][metadata["name"]] = item
            if change == "DELETED":
                del self._objects[kind][metadata["name"]]
            self._history.append((kind, {"type": change, "object": copy.deepcopy(item)}))
            self._changed.notify_all()


def _metadata(name: str, namespace: str, labels: Object) -> Object:
    return {
        "name": name,
        "namespace": namespace,
        "uid": str(uuid.uuid4()),
        "labels": labels,
        "creationTimestamp": _now(),
    }


def _status(phase: str, container: Object, state: Object) -> Object:
    image = {"image": container["image"], "imageID": ""}
    found = {"name": container["name"], "ready": phase == "Running", "restartCount": 0, "state": state, **image}
    return {"phase": phase, "containerStatuses": [found]}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _selected(item: Object, selector: str) -> bool:
    labels = item["metadata"]["labels"]
    pairs = [term.partition("=") for term in selector.split(",") if term]
    return all(name in labels and (not equals or labels[name] == value) for name, equals, value in pairs)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    cluster: Cluster

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        asked = dict(parse_qsl(url.query))
        selector = asked.get("labelSelector", "")
        if url.path in DISCOVERY:
            self._reply(200, DISCOVERY[url.path])
        elif not (match := _PATH.fullmatch(url.path)):
            self._refuse()
        elif match["log"]:
            self._reply(200, self.server.cluster.log(match["name"]))
        elif asked.get("watch"):
            self._watch(match["kind"], selector, int(asked["resourceVersion"]))
        else:
            found, version = self.server.cluster.listed(match["kind"], selector, match["namespace"])
            if match["name"]:
                self._one(found, match["name"])
                return
            version_of, kind = KINDS[match["kind"]]
            listed = {"apiVersion": version_of, "kind": f"{kind}List", "items": found}
            self._reply(200, {**listed, "metadata": {"resourceVersion": str(version)}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        match = _PATH.fullmatch(urlsplit(self.path).path)
        if match and match["kind"] == "jobs":
            self._reply(201, self.server.cluster.create(match["namespace"], body))
        else:
            self._refuse()

    def do_DELETE(self) -> None:
        url = urlsplit(self.path)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        match = _PATH.fullmatch(url.path)
        if not match or match["kind"] != "jobs":
            self._refuse()
            return
        cluster = self.server.cluster
        grace = float(dict(parse_qsl(url.query)).get("gracePeriodSeconds", _POLITE))
        found = [job for job in cluster.listed("jobs")[0] if job["metadata"]["name"] == match["name"]]
        for job in found:
            threading.Thread(target=cluster.delete, args=(job, grace), daemon=True).start()
        self._one(found, match["name"])

    def _one(self, found: list[Object], name: str) -> None:
        chosen = [item for item in found if item["metadata"]["name"] == name]
        self._reply(*((200, chosen[0]) if chosen else (404, {"kind": "Status", "code": 404, "message": name})))

    def _refuse(self) -> None:
        self.server.cluster.unknown.append(f"{self.command} {self.path}")
        self._reply(404, {"kind": "Status", "code": 404, "message": self.path})

    def _reply(self, code: int, body: Object | str) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _watch(self, kind: str, selector: str, since: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in self.server.cluster.events(kind, selector, since):
            line = json.dumps(event).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.write(b"0\r\n\r\n")
