"""One apply of a spec on Modal, in a container that comes and goes; its records stay on a volume of Modal's.

    modal run flows/modal_app.py --spec specs/denoise.yaml [--overrides "spec.seeds=[0,1] training.iterations=40"]

Run it from the project's folder, with sia-flow and modal installed (`pip install 'sia-flow[modal]'`) and signed in to.
The same command again goes on where it stopped. `modal volume get sia-flow-records / DIR`, then `sia-flow store
pull DIR/store`, brings the records home. The environment says what the container has: SIA_FLOW_MODAL_GPU (H100, say),
SIA_FLOW_MODAL_CPUS, SIA_FLOW_MODAL_MEMORY (MiB), SIA_FLOW_MODAL_SECRET (a secret of Modal with the keys of agents).
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import modal

PROJECT = "/project"
RECORDS = "/records"
TORCH = "torch==2.13.0"
_HOURS = 24


def _image() -> modal.Image:
    """Return the project as it is here, with what its lock of versions names."""
    root = Path(__file__).resolve().parents[1]
    image = modal.Image.debian_slim("3.11").apt_install("bubblewrap").uv_pip_install(TORCH)
    apart = modal.FilePatternMatcher.from_file(root / "specs/profiles/Dockerfile.dockerignore")
    image = image.add_local_dir(str(root), PROJECT, copy=True, ignore=apart)
    own = "-c constraints.txt -e '.[all]'" if (root / "pyproject.toml").is_file() else "'sia-flow[all]'"
    return image.run_commands(f"cd {PROJECT} && pip install --no-cache-dir {own}").env({"PYTHONPATH": PROJECT})


def _secrets() -> list[modal.Secret]:
    name = os.environ.get("SIA_FLOW_MODAL_SECRET")
    return [modal.Secret.from_name(name)] if name else []


def _number(name: str) -> int | None:
    text = os.environ.get(name)
    return int(text) if text else None


# In the container the image is there already, and the project is not above this file.
app = modal.App("sia-flow", image=_image() if modal.is_local() else None)


@app.function(
    gpu=os.environ.get("SIA_FLOW_MODAL_GPU"),
    cpu=_number("SIA_FLOW_MODAL_CPUS"),
    memory=_number("SIA_FLOW_MODAL_MEMORY"),
    volumes={RECORDS: modal.Volume.from_name("sia-flow-records", create_if_missing=True)},
    secrets=_secrets(),
    timeout=_HOURS * 3600,
    max_containers=1,
)
def apply(spec: str, overrides: list[str]) -> None:
    """Run what is missing of an experiment, `overrides` as in --set. Raises CalledProcessError where it fails."""
    from flows.carrying import carried

    settings = [word for field in overrides for word in ("--set", field)]
    with carried(Path(PROJECT) / ".sia-flow", f"{RECORDS}/store", print):
        subprocess.run(["sia-flow", "apply", spec, *settings], cwd=PROJECT, check=True)


@app.local_entrypoint()
def main(spec: str, overrides: str = "") -> None:
    """Run a spec of this project there."""
    apply.remote(spec, shlex.split(overrides))
