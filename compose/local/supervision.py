"""Speaks with supervisord over its Unix socket: starts it, brings it up to date, starts and stops processes."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable
from http.client import HTTPException
from typing import Any
from xmlrpc.client import Fault, ServerProxy

from supervisor.xmlrpc import Faults, SupervisorTransport

from compose.local import orphans, tools
from compose.local.config import socket_path, supervisord_conf
from compose.local.processes import MARK, Process
from soundscape.errors import Broken, Unavailable
from soundscape.settings import Settings

START_S = 20.0
"""How long supervisord may take until it answers: it starts nothing by itself."""
TICK_S = 0.1
RUNNING = {"RUNNING", "STARTING", "BACKOFF", "EXITED"}
"""States that supervisor keeps alive: an exited process is started again within a second, and only then can be stopped."""
STOPPABLE = RUNNING - {"EXITED"}
UNSETTLED = RUNNING | {"STOPPING"}


class Supervisor:
    """The supervisor of one stack, alive or not."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def call(self, method: str, *arguments: Any) -> Any:
        """One remote call. Raises Unavailable if supervisord does not answer; a Fault passes."""
        transport = SupervisorTransport(None, None, f"unix://{socket_path(self.settings)}")
        try:
            return getattr(ServerProxy("http://127.0.0.1", transport=transport).supervisor, method)(*arguments)
        except (OSError, HTTPException) as error:
            raise Unavailable("The supervisor does not answer; run `soundscape up`.") from error
        finally:
            transport.close()

    def alive(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self.call("getState")["statename"] == "RUNNING")
        except Unavailable:
            return False

    def states(self) -> dict[str, dict[str, Any]]:
        """What it knows of each process (`statename`, `pid`, `start`, …), by name; empty if it is not alive."""
        try:
            return {one["name"]: one for one in self.call("getAllProcessInfo")}
        except Unavailable:
            return {}

    def start_supervisord(self, everything: list[Process]) -> None:
        """Start supervisord with these processes, none of them started yet.

        Raises Broken if it does not come up, Invalid if its socket's folder is a stranger's.
        """
        settings = self.settings
        socket_path(settings).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        socket_path(settings).unlink(missing_ok=True)  # asked again: whose folder it is counts once it is there
        (settings.state / "supervisord.pid").unlink(missing_ok=True)
        config = self._write(everything)
        command = [str(tools.VENV / "bin" / "supervisord"), "-c", str(config)]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SOUNDSCAPE_")}
        environment[MARK] = str(settings.root)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise Broken(f"supervisord did not start: {(done.stderr or done.stdout).strip()[-500:]}")
        deadline = time.monotonic() + START_S
        while not self.alive():
            if time.monotonic() > deadline:
                raise Broken(f"supervisord did not answer within {START_S:.0f} s; see {settings.logs / 'supervisord.log'}.")
            time.sleep(TICK_S)
        orphans.record(settings.state, self.call("getPID"))

    def bring_up_to_date(self, everything: list[Process]) -> None:
        """Make a living supervisord run these processes; one whose command or environment changed is started again."""
        before = {name for name, info in self.states().items() if info["statename"] in RUNNING}
        self._write(everything)
        added, changed, removed = self.call("reloadConfig")[0]
        self.stop([name for name in (*changed, *removed) if name in before])
        for name in (*changed, *removed):
            self.call("removeProcessGroup", name)
        for name in (*added, *changed):
            self.call("addProcessGroup", name)
        self.start([name for name in changed if name in before])

    def _write(self, everything: list[Process]) -> Any:
        path = self.settings.state / "supervisord.conf"
        path.write_text(supervisord_conf(self.settings, everything))
        return path

    def start(self, names: Iterable[str]) -> None:
        """Start those that do not run. Raises Broken for a program that is not there."""
        for name in names:
            try:
                self.call("startProcess", name, False)
            except Fault as fault:
                if fault.faultCode == Faults.ALREADY_STARTED:
                    continue
                raise Broken(f"{name} cannot be started ({fault.faultString}); see `soundscape doctor`.") from fault

    def stop(self, names: Iterable[str]) -> None:
        """Stop these processes together and wait until they have stopped."""
        asked = set(names)
        while left := {name: info for name, info in self.states().items() if name in asked and info["statename"] in UNSETTLED}:
            for name, info in left.items():
                if info["statename"] in STOPPABLE:
                    try:
                        self.call("stopProcess", name, False)
                    except Fault as fault:
                        if fault.faultCode != Faults.NOT_RUNNING:
                            raise
            time.sleep(TICK_S)

    def shut_down(self) -> None:
        """Stop the product's processes first, then the servers they need, then supervisord itself."""
        running = [name for name, info in self.states().items() if info["statename"] in RUNNING]
        servers = ["kafka", "redis", "triton", "prometheus", "mlflow"]
        self.stop(name for name in running if name not in servers)
        self.stop(name for name in running if name in servers)
        self.call("shutdown")
