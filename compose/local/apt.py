"""Brings what Debian provides, and leaves no service of Debian's running; standard library only."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\n# soundscape set-up: start no service while installing\nexit 101\n"


def root_prefix() -> list[str] | None:
    """What goes before a command to run it as root: nothing, sudo without a password, or None where neither is permitted."""
    if shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0:
        return ["sudo", "-n"]
    return None


def install_command(packages: Sequence[str]) -> str:
    """The command a person types where set-up may not."""
    return f"sudo apt-get install --no-install-recommends {' '.join(packages)}"


@contextmanager
def services_held_back(prefix: list[str], run: Callable[[list[str]], None]) -> Iterator[None]:
    """While this lasts, installing a package starts no service (Debian's policy-rc.d). A rule that is there already stays."""
    ours = not POLICY.exists() or POLICY.read_text(errors="replace") == POLICY_TEXT
    if ours:
        run([*prefix, "sh", "-c", f"printf '%s' \"$0\" > {POLICY} && chmod 755 {POLICY}", POLICY_TEXT])
    try:
        yield
    finally:
        if ours:
            run([*prefix, "rm", "-f", str(POLICY)])


def install(packages: Sequence[str], prefix: list[str], run: Callable[[list[str]], None]) -> None:
    """Install `packages`; `run` runs a command and raises if it fails."""
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300", "-y", "-q"]
    run([*apt, "update"])
    with services_held_back(prefix, run):
        run([*apt, "install", "--no-install-recommends", *packages])
    services = [name for name in ("redis-server", "prometheus") if name in packages]
    if services and Path("/run/systemd/system").exists():
        # Else they would start with the next boot, beside ours.
        run([*prefix, "systemctl", "disable", *services])
