"""Becomes Prometheus: writes what it scrapes, from the list of processes, and gives the process over."""

from __future__ import annotations

import json
import os

from compose.local import tools
from compose.local.processes import Process, processes, program
from soundscape.settings import HOST, Port, get_settings

RETENTION = ("--storage.tsdb.retention.time=30d", "--storage.tsdb.retention.size=1GB")


def prometheus_yml(everything: list[Process]) -> str:
    """prometheus.yml (as JSON, which is YAML): every process that has metrics, one job each."""
    jobs = [
        {"job_name": process.name, "static_configs": [{"targets": [f"{HOST}:{process.metrics_port}"]}]}
        for process in everything
        if process.metrics_port is not None
    ]
    return json.dumps({"global": {"scrape_interval": "5s", "scrape_timeout": "4s"}, "scrape_configs": jobs}, indent=2) + "\n"


def main() -> None:
    """Become the server."""
    settings = get_settings()
    home, config = settings.root / "prometheus", settings.state / "prometheus.yml"
    home.mkdir(parents=True, exist_ok=True)
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    config.write_text(prometheus_yml(processes(settings)))
    address = f"--web.listen-address={settings.address(Port.PROMETHEUS)}"
    line = [program(tools.PROMETHEUS), f"--config.file={config}", f"--storage.tsdb.path={home}", *RETENTION, address, "--log.level=warn"]
    os.execv(line[0], line)


if __name__ == "__main__":
    main()
