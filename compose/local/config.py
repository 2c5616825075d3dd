"""The settings of supervisor, generated from the list of processes."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from compose.local import tools
from compose.local.processes import MARK, Process
from soundscape.errors import Invalid, Reason
from soundscape.settings import Settings

LOG_BYTES = 10_000_000
LOG_BACKUPS = 2
SOCKET_LIMIT = 100
"""A Unix socket's path may be 107 bytes long; supervisor binds to a temporary name that is longer than the final one."""


def socket_path(settings: Settings) -> Path:
    """Supervisor's socket: below `state`, or where that path is too long for a socket, in a folder of our own in /tmp.

    Raises Invalid if somebody else could have made that folder, or could put a socket into it.
    """
    wanted = settings.state / "supervisor.sock"
    if len(str(wanted)) + 10 <= SOCKET_LIMIT:
        return wanted
    short = hashlib.sha256(str(settings.root).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"soundscape-{short}"
    with suppress(FileNotFoundError):
        there = folder.lstat()
        if not stat.S_ISDIR(there.st_mode) or there.st_uid != os.geteuid() or there.st_mode & 0o777 != 0o700:
            raise Invalid(
                Reason.BAD_REQUEST,
                f"{folder} is not a folder of yours with mode 0700; remove it, or choose a shorter path with SOUNDSCAPE_DATA_DIR.",
            )
    return folder / "supervisor.sock"


def supervisord_conf(settings: Settings, everything: list[Process]) -> str:
    """supervisord.conf: nothing starts by itself, everything that was started is started again for as long as it takes."""
    lines = [
        "[unix_http_server]",
        f"file = {_escape(str(socket_path(settings)))}",
        "chmod = 0700",
        "",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
        "",
        "[supervisord]",
        f"logfile = {_escape(str(settings.logs / 'supervisord.log'))}",
        f"logfile_maxbytes = {LOG_BYTES}",
        f"logfile_backups = {LOG_BACKUPS}",
        f"pidfile = {_escape(str(settings.state / 'supervisord.pid'))}",
        f"childlogdir = {_escape(str(settings.logs))}",
        f"directory = {_escape(str(tools.ROOT))}",
    ]
    for order, process in enumerate(everything, start=1):
        environment = {MARK: str(settings.root), **process.environment}
        lines += [
            "",
            f"[program:{process.name}]",
            f"command = {_escape(shlex.join(process.command))}",
            "environment = " + ",".join(f"{key}={_quoted(value)}" for key, value in environment.items()),
            f"priority = {order}",
            "autostart = false",
            "autorestart = true",
            # Started counts as running: so an exit is an exit, started again within a second, and never FATAL after some tries.
            "startsecs = 0",
            "startretries = 2147483647",
            f"stopwaitsecs = {process.stop_s}",
            # Only the parent is asked: a worker finishes its clip with its decoders alive, and ends them itself.
            "stopasgroup = false",
            "killasgroup = true",
            "redirect_stderr = true",
            f"stdout_logfile = {_escape(str(log_path(settings, process.name)))}",
            f"stdout_logfile_maxbytes = {LOG_BYTES}",
            f"stdout_logfile_backups = {LOG_BACKUPS}",
        ]
    return "\n".join(lines) + "\n"


def log_path(settings: Settings, name: str) -> Path:
    """Where a process's output goes."""
    return settings.logs / f"{name}.log"


def _quoted(value: str) -> str:
    return _escape(json.dumps(value, ensure_ascii=False))


def _escape(text: str) -> str:
    """A value in supervisor's file: % begins an expansion there."""
    return text.replace("%", "%%")
