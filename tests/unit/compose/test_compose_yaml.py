"""compose.yaml names the processes of the local stack, with their commands."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from compose.local import tools
from compose.local.processes import processes
from soundscape.settings import Settings


def test_the_same_processes_with_the_same_commands(tmp_path: Path) -> None:
    yaml: Any = importlib.import_module("yaml")
    services = yaml.safe_load((tools.ROOT / "compose" / "compose.yaml").read_text())["services"]
    declared = {one.name: one for one in processes(Settings.model_validate({"data_dir": tmp_path, "live_workers": 1, "bulk_workers": 1}))}
    assert services.keys() - {"topics"} == declared.keys()
    for name, one in declared.items():
        if name != "redis":
            assert services[name]["command"] == [Path(part).name if "/" in part else part for part in one.command], name
            assert one.environment.items() >= {key: services[name]["environment"][key] for key in ("OMP_NUM_THREADS",)}.items()
