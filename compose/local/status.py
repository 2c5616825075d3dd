"""What `soundscape status` shows: one row a supervised process, with a real probe behind its health."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psutil
from rich.table import Table

from compose.local.probes import Verdict, probe_all
from compose.local.processes import processes
from compose.local.supervision import Supervisor
from soundscape.settings import Settings


@dataclass(frozen=True)
class Row:
    """One supervised process as it is now; `memory_mb` is resident, its children's included."""

    name: str
    pid: int | None
    state: str
    healthy: bool
    why: str
    address: str
    memory_mb: float | None

    def for_machines(self) -> dict[str, Any]:
        """The row as the interface promises it."""
        return {"name": self.name, "pid": self.pid, "state": self.state, "healthy": self.healthy, "address": self.address}


def rows(settings: Settings) -> list[Row]:
    """Every process of the stack, running or not."""
    declared = processes(settings)
    states = Supervisor(settings).states()
    pids = {name: int(info["pid"]) or None for name, info in states.items()}
    verdicts = probe_all(settings, [one for one in declared if pids.get(one.name)])
    found = []
    for one in declared:
        info, pid = states.get(one.name, {}), pids.get(one.name)
        state = str(info.get("statename", "STOPPED")).lower()
        verdict = verdicts.get(one.name) or Verdict(False, str(info.get("spawnerr") or "") or "not running")
        found.append(Row(one.name, pid, state, verdict.healthy, verdict.why, one.address, memory_mb(pid)))
    return found


def memory_mb(pid: int | None) -> float | None:
    """Resident memory of a process and all its descendants, in MB; None if it is gone."""
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return None
    return sum(_resident(one) for one in family) / 1e6


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def table(found: Iterable[Row]) -> Table:
    """The rows for people; the last column leads where the eye goes: why something is not healthy."""
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("process", "state", "health", "address", "pid"):
        shown.add_column(title, no_wrap=True)
    shown.add_column("memory", justify="right", no_wrap=True)
    shown.add_column("why")
    for row in found:
        health = "[green]healthy[/]" if row.healthy else ("[red]unhealthy[/]" if row.pid else "[dim]down[/]")
        memory = f"{row.memory_mb:.0f} MB" if row.memory_mb is not None else ""
        shown.add_row(row.name, row.state, health, row.address, str(row.pid or ""), memory, row.why)
    return shown
