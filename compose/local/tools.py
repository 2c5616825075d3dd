"""Where the programs of the stack are found on this machine; standard library only, for set-up runs before anything else."""

from __future__ import annotations

import os
import shutil
import sysconfig
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""

VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
TOOLS = ROOT / ".tools"
STAMPS = TOOLS / "stamps"
SETUP_LOG = TOOLS / "setup.log"

UV_VENV = TOOLS / "uv"
TRITON_VENV = TOOLS / "triton"
TRITON_SITE = TRITON_VENV / "lib" / "python3.11" / "site-packages"
TRITON_HOME = TRITON_SITE / "pytriton" / "tritonserver"
TRITON_SERVER = TRITON_HOME / "bin" / "tritonserver"
TRITON_STUB = TRITON_HOME / "python_backend_stubs" / "3.11" / "triton_python_backend_stub"
TRITON_LIBS = TRITON_SITE / "nvidia_pytriton.libs"
TRITON_BACKENDS = TOOLS / "triton-backends"
KAFKA_JARS = TOOLS / "kafka"
BIRDNET = TOOLS / "birdnet"
"""BirdNET's models, labels (`_en`, `_es`) and eBird codes, where they could be fetched."""
SAMPLES = TOOLS / "samples"
"""`birds_10s.wav`, a real recording, where it could be fetched."""

LOCAL = ROOT / "compose" / "local"
LIBPYTHON = "libpython3.11.so.1.0"


@dataclass(frozen=True)
class SystemProgram:
    """A program that Debian provides; `package` is its apt package, `why` what the stack needs it for."""

    name: str
    package: str
    why: str


JAVA = SystemProgram("java", "openjdk-17-jre-headless", "runs Kafka")
MAVEN = SystemProgram("mvn", "maven", "fetches Kafka's jars")
REDIS = SystemProgram("redis-server", "redis-server", "holds the board")
PROMETHEUS = SystemProgram("prometheus", "prometheus", "collects the metrics")
PYTHON_LIBRARY = SystemProgram(LIBPYTHON, "libpython3.11", "Triton's Python backend links to it")
SYSTEM_PROGRAMS = (JAVA, MAVEN, REDIS, PROMETHEUS, PYTHON_LIBRARY)


def find_libpython() -> Path | None:
    """The folder that holds libpython3.11: Debian's, or that of the Python that runs this."""
    machine = os.uname().machine
    folders = [Path(f"/usr/lib/{machine}-linux-gnu"), Path("/usr/lib64"), Path("/usr/local/lib")]
    folders.append(Path(str(sysconfig.get_config_var("LIBDIR") or "/usr/lib")))
    return next((folder for folder in folders if (folder / LIBPYTHON).exists()), None)


def find_program(program: SystemProgram) -> Path | None:
    """Where a program of the system lies; None if it is missing."""
    if program is PYTHON_LIBRARY:
        folder = find_libpython()
        return folder / LIBPYTHON if folder else None
    # Debian keeps servers in /usr/sbin, which an ordinary user's PATH may lack.
    found = shutil.which(program.name, path=os.environ.get("PATH", "") + ":/usr/local/bin:/usr/bin:/usr/sbin:/sbin")
    return Path(found) if found else None


def missing_programs() -> list[SystemProgram]:
    """The programs of the system that are not there; Maven counts only while Kafka's jars are missing."""
    jars_there = any(KAFKA_JARS.glob("kafka_2.13-*.jar"))
    return [one for one in SYSTEM_PROGRAMS if find_program(one) is None and not (one is MAVEN and jars_there)]
