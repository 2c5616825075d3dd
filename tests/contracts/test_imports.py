"""A service imports itself, soundscape and libraries; nothing happens at import; help is light."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "torchaudio", "librosa", "faust", "ray", "mlflow", "onnxruntime")

GUARDED = """
import importlib, json, logging, os, sys

found = []
DOING = {"socket.connect", "socket.bind", "subprocess.Popen", "os.mkdir", "os.remove", "os.rename", "os.fork", "os.posix_spawn"}

def ours():
    frame, names = sys._getframe(2), set()
    while frame:
        names.add(frame.f_code.co_filename)
        frame = frame.f_back
    return [name for name in names if name.startswith(ROOT + os.sep) and "/.venv/" not in name]

def watch(event, arguments):
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if (event in DOING or writes) and ours():
        found.append(f"{name}: {event} {arguments[:2]!r}")

ROOT, names = os.getcwd(), json.load(sys.stdin)
sys.dont_write_bytecode = True
sys.addaudithook(watch)
handlers = list(logging.root.handlers)
for name in names:
    importlib.import_module(name)
    if logging.root.handlers != handlers:
        found.append(f"{name}: sets up logging")
        handlers = list(logging.root.handlers)
    if (settings := sys.modules.get("soundscape.settings")) and settings.get_settings.cache_info().currsize:
        found.append(f"{name}: reads the settings")
        settings.get_settings.cache_clear()
print("FOUND", json.dumps(found))
"""


def test_services_import_only_themselves_soundscape_and_libraries(root: Path) -> None:
    """The contract itself stands in pyproject.toml."""
    lint = subprocess.run([str(Path(sys.executable).parent / "lint-imports"), "--no-cache"], cwd=root, capture_output=True, text=True)
    assert lint.returncode == 0, lint.stdout[-3000:] + lint.stderr


def test_nothing_happens_at_import(root: Path, module_names: list[str]) -> None:
    """No connection, file, folder, process, settings or logging while any module is imported."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", GUARDED], cwd=root, input=json.dumps(module_names), capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    last = [line for line in run.stdout.splitlines() if line.startswith("FOUND ")][-1]
    assert json.loads(last.removeprefix("FOUND ")) == []


def test_help_loads_nothing_heavy(root: Path) -> None:
    """`soundscape --help` lists every command and loads none of the large libraries."""
    code = (
        "import sys; from click.testing import CliRunner; from soundscape.cli import commands;"
        "said = CliRunner().invoke(commands, ['--help']); assert said.exit_code == 0, said.output;"
        f"assert 'audit' in said.output, said.output; print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
