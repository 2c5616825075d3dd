"""Where the machine's time goes: CPU seconds of each process of the stack and of its children."""

from __future__ import annotations

import json
import os
from contextlib import suppress

import psutil

from monitoring.bench_site import soundscape

LEAST = 0.01
"""Shares below are summed up as `others`."""


def stack_pids() -> dict[str, int]:
    """Process ids of the running stack, and this command's own as `bench`."""
    rows = json.loads(soundscape("status", "--json"))
    return {row["name"]: row["pid"] for row in rows if row["pid"]} | {"bench": os.getpid()}


def cpu_seconds(pids: dict[str, int]) -> dict[str, float]:
    """CPU seconds that each process has used so far, and all its children together as `NAME's children`; one that is gone is left out."""
    found: dict[str, float] = {}
    for name, pid in pids.items():
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            found[name] = _spent(process)
            found[f"{name}'s children"] = sum(_spent(child) for child in process.children(recursive=True))
    return found


def cpu_shares(before: dict[str, float], after: dict[str, float], wall_s: float) -> dict[str, float]:
    """Shares of all cores' time in `wall_s`, the largest first; the small ones as `others`, and what nobody here used as `the rest`."""
    whole = wall_s * len(os.sched_getaffinity(0))
    shares = {name: max(0.0, spent - before.get(name, 0.0)) / whole for name, spent in after.items()}
    named = {name: share for name, share in sorted(shares.items(), key=lambda one: -one[1]) if share >= LEAST}
    named["others"] = sum(shares.values()) - sum(named.values())
    named["the rest"] = max(0.0, 1.0 - sum(named.values()))
    return {name: round(share, 3) for name, share in named.items()}


def _spent(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0
