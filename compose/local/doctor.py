"""What `soundscape doctor` looks at: each dependency, found or not, and the cure."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from compose.local import apt, orphans, tools
from compose.local.processes import processes
from compose.local.setup import BIRDNET_FILES, SAMPLE_FILES, SPARE_GB, steps
from soundscape.settings import Settings

SETUP = "make setup"
SHARED_MEMORY_MB = 64
"""What Triton's Python backend needs at least: a few MB an instance, grown with its batches."""


@dataclass(frozen=True)
class Finding:
    """One dependency: whether it is there, where (or what is wrong), and what helps. An optional one fails nothing."""

    name: str
    found: bool
    detail: str
    cure: str = ""
    optional: bool = False


def examine(settings: Settings) -> list[Finding]:
    """Look at everything; changes nothing."""
    return [*_programs(), *_built(), *_machine(settings), *_ports(settings)]


def _programs() -> list[Finding]:
    right = sys.version_info[:2] == (3, 11)
    python = Finding("python 3.11", right, sys.version.split()[0], apt.install_command(["python3.11", "python3-venv"]))
    uv = shutil.which("uv") or (str(tools.UV_VENV / "bin" / "uv") if (tools.UV_VENV / "bin" / "uv").exists() else None)
    found = [python, Finding("uv", uv is not None, uv or "only set-up needs it", SETUP, optional=True)]
    for one in tools.SYSTEM_PROGRAMS:
        path = tools.find_program(one)
        cure = apt.install_command([one.package])
        found.append(Finding(one.name, path is not None, str(path or one.why), cure, optional=one is tools.MAVEN))
    return found


def _built() -> list[Finding]:
    fresh = {step.name: step.done() for step in steps()}

    def built(name: str, step: str, path: Path, optional: bool = False) -> Finding:
        there = path.exists()
        detail = str(path) if there and fresh[step] else (f"{path} is out of date" if there else f"{path} is missing")
        return Finding(name, there and fresh[step], detail, SETUP, optional)

    return [
        built(".venv", "venv", tools.VENV_PYTHON),
        built("soundscape", "project", tools.VENV / "bin" / "soundscape"),
        built("triton", "triton", tools.TRITON_SERVER),
        built("kafka jars", "kafka", tools.KAFKA_JARS),
        built("BirdNET 2.4", "birdnet", tools.BIRDNET / next(iter(BIRDNET_FILES.values())), optional=True),
        built("real recording", "samples", tools.SAMPLES / next(iter(SAMPLE_FILES.values())), optional=True),
    ]


def _existing(path: Path) -> Path:
    """The nearest folder above `path` that exists."""
    return next(one for one in (path, *path.parents) if one.exists())


def _machine(settings: Settings) -> list[Finding]:
    free = shutil.disk_usage(_existing(settings.root)).free / 1e9
    wanted = max(SPARE_GB, settings.min_free_gb)
    shared = shutil.disk_usage("/dev/shm").free / 1e6 if Path("/dev/shm").is_dir() else 0.0
    return [
        Finding("disk", free >= wanted, f"{free:.0f} GB free below {settings.root}", f"make room: {wanted:.0f} GB are needed"),
        Finding("/dev/shm", shared >= SHARED_MEMORY_MB, f"{shared:.0f} MB free", "mount -o remount,size=256M /dev/shm"),
    ]


def _ports(settings: Settings) -> list[Finding]:
    uses = {port: one.name for one in processes(settings) for port in one.ports}
    strange = {
        port: owner
        for port, owner in orphans.listeners(set(uses)).items()
        if owner is None or not (orphans.marked(owner, settings.root) or owner in orphans.members(settings.root, settings.state))
    }
    if not strange:
        return [Finding("ports", True, f"{min(uses)} to {max(uses)} are free or ours")]
    return [Finding("ports", False, orphans.taken_message(uses[port], port, owner)) for port, owner in sorted(strange.items())]


def table(findings: Iterable[Finding]) -> Table:
    """The findings for people."""
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("what", "", "where", "cure"):
        shown.add_column(title)
    for one in findings:
        sign = "[green]found[/]" if one.found else ("[yellow]absent[/]" if one.optional else "[red]missing[/]")
        shown.add_row(one.name, sign, one.detail, "" if one.found else one.cure)
    return shown
