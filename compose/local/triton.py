"""Becomes Triton: clears what a killed one left in /dev/shm and gives the process over to the model server."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

from compose.local import tools
from compose.local.processes import memory_prefix
from soundscape.settings import HOST, Port, Settings, get_settings

SHARED_MEMORY = Path("/dev/shm")
STOP_S = 5
"""Seconds that Triton waits for requests in flight when it is told to stop."""


def clear_shared_memory(root: Path) -> int:
    """Remove this stack's regions from /dev/shm (SIGKILL leaks them); returns how many there were."""
    regions = list(SHARED_MEMORY.glob(f"{memory_prefix(root)}*"))
    for region in regions:
        region.unlink(missing_ok=True)
    return len(regions)


def command(settings: Settings) -> list[str]:
    """Triton's command line: explicit model control, loopback, no GPU, its Python backend's memory under our prefix."""
    port = settings.port
    return [
        str(tools.TRITON_SERVER),
        f"--model-repository={settings.model_repository}",
        f"--backend-directory={tools.TRITON_BACKENDS}",
        f"--backend-config=python,shm-region-prefix-name={memory_prefix(settings.root)}",
        "--model-control-mode=explicit",
        f"--http-address={HOST}",
        f"--http-port={port(Port.TRITON_HTTP)}",
        f"--grpc-address={HOST}",
        f"--grpc-port={port(Port.TRITON_GRPC)}",
        f"--metrics-address={HOST}",
        f"--metrics-port={port(Port.TRITON_METRICS)}",
        "--http-thread-count=2",
        "--allow-gpu-metrics=false",
        "--pinned-memory-pool-byte-size=0",
        f"--exit-timeout-secs={STOP_S}",
    ]


def environment() -> dict[str, str]:
    """The environment with the libraries that the wheel carries and Debian's libpython on the loader's path.

    PyTorch and OpenVINO are large and are here already, in the environment of this process: the runner may borrow them.
    """
    folders = [tools.TRITON_LIBS, tools.find_libpython()]
    return os.environ | {
        "LD_LIBRARY_PATH": ":".join(str(folder) for folder in folders if folder),
        "MODEL_SERVER_BORROWS": sysconfig.get_paths()["purelib"],
    }


def main() -> None:
    """Become the model server."""
    settings = get_settings()
    settings.model_repository.mkdir(parents=True, exist_ok=True)
    clear_shared_memory(settings.root)
    # The stubs ignore PYTHONPATH and search the current folder first: there lie numpy 1.26, onnxruntime and LiteRT.
    os.chdir(tools.TRITON_SITE)
    line = command(settings)
    os.execve(line[0], line, environment())


if __name__ == "__main__":
    main()
