"""MLflow's server in one process: what `mlflow server` starts as a child, without the parent that only waits for it.

One process takes half the memory and half the time to start, and a killed parent cannot leave a child with the port.
"""

from __future__ import annotations

import os

from soundscape.settings import HOST, Port, Settings, get_settings


def environment(settings: Settings) -> dict[str, str]:
    """What `mlflow server` of the pinned version tells its child (mlflow.server._run_server), for SQLite and served artifacts."""
    from mlflow.server import constants

    home = settings.root / "mlflow"
    database = f"sqlite:///{home / 'mlflow.db'}"
    return {
        constants.BACKEND_STORE_URI_ENV_VAR: database,
        constants.REGISTRY_STORE_URI_ENV_VAR: database,
        constants.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        constants.ARTIFACTS_DESTINATION_ENV_VAR: str(home / "artifacts"),
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        "_MLFLOW_SGI_NAME": "uvicorn",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def main() -> None:
    """Serve until told to stop."""
    settings = get_settings()
    (settings.root / "mlflow" / "artifacts").mkdir(parents=True, exist_ok=True)
    given = environment(settings)
    os.environ.update(given)
    import uvicorn
    from mlflow.server.fastapi_app import app
    from mlflow.server.handlers import initialize_backend_stores

    database = given["_MLFLOW_SERVER_FILE_STORE"]
    initialize_backend_stores(database, database, "mlflow-artifacts:/")  # makes or migrates the tables before it answers
    uvicorn.run(app, host=HOST, port=settings.port(Port.MLFLOW), log_level="warning")


if __name__ == "__main__":
    main()
