"""The environment variables under which Prefect and MLflow keep quiet, keep to the state folder and send
nothing out.

Invariant: a user's own server (`PREFECT_API_URL`, `MLFLOW_TRACKING_URI`, a Prefect profile) always wins;
the switches against telemetry are always set.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

# Prefect takes "1", "true" and "yes"; MLflow only the exact word "true".
PRIVACY = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "1",
}


def quiet_environment(state_dir: Path, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables to set before Prefect or MLflow is imported; what the user has set is left out.

    `environ` is what is set already, by default the process's own.
    """
    present = os.environ if environ is None else environ
    home = state_dir.resolve() / "prefect"
    wanted = {
        # A dead tracking server must cost seconds, not the hour that MLflow's own seven retries may take.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        # Each retry waits twice as long as the one before: five of them are a minute for every call to a dead server.
        "PREFECT_CLIENT_MAX_RETRIES": "3",
        "PREFECT_HOME": str(home),
        "PREFECT_LOCAL_STORAGE_PATH": str(home / "results"),
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }
    # PREFECT_HOME moves away from the user's profile, so that what it says about the server is carried over.
    wanted |= profile_server(present)
    return PRIVACY | {name: value for name, value in wanted.items() if name not in present}


def profile_server(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the Prefect server (URL and key) that the user's environment or active profile names."""
    if environ.get("PREFECT_API_URL"):
        return {"PREFECT_API_URL": environ["PREFECT_API_URL"]}
    home = Path(environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    path = Path(environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml").expanduser()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    name = environ.get("PREFECT_PROFILE") or content.get("active", "")
    profile = content.get("profiles", {}).get(name, {})
    if not profile.get("PREFECT_API_URL"):
        return {}
    names = ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING")
    return {name: str(profile[name]) for name in names if profile.get(name)}
