"""Becomes MLflow's server: ends what a killed one left on its port and gives the process over."""

from __future__ import annotations

import os

from compose.local import tools
from compose.local.orphans import end, listeners, marked
from soundscape.settings import HOST, Port, Settings, get_settings


def command(settings: Settings) -> list[str]:
    """MLflow on SQLite, its artifacts served from below the data folder, one worker."""
    home = settings.root / "mlflow"
    return [
        str(tools.VENV / "bin" / "mlflow"),
        "server",
        "--host", HOST,
        "--port", str(settings.port(Port.MLFLOW)),
        "--workers", "1",
        "--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}",
        "--artifacts-destination", str(home / "artifacts"),
    ]  # fmt: skip


def main() -> None:
    """Become the server."""
    settings = get_settings()
    (settings.root / "mlflow" / "artifacts").mkdir(parents=True, exist_ok=True)
    # Its command is the parent of the one that listens: killed alone, it leaves the port taken.
    held = listeners({settings.port(Port.MLFLOW)}).get(settings.port(Port.MLFLOW))
    if held is not None and marked(held, settings.root):
        end([held])
    line = command(settings)
    os.execve(line[0], line, os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"})


if __name__ == "__main__":
    main()
