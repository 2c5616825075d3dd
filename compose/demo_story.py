"""How the demo tells its steps: each announced in a line with its reason, run as a command of the product, and timed."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.markup import escape

from compose.local import tools

TAIL = 12
"""Lines of a failed command that are shown; the log has them all."""
STOP_S = 20.0
"""Seconds that a command is given to end when the demo ends."""


Shown = Callable[[str], bool]
"""Which lines of a command are shown as they come."""


def everything(_: str) -> bool:
    """All of them."""
    return True


class StepFailed(Exception):
    """A step could not be done; the message is one sentence."""


class Running:
    """A command that runs, its output going to the log and, where `shown`, to the terminal as it comes.

    What a `secret` command says is not logged; what it complains of is.
    """

    def __init__(self, arguments: tuple[str, ...], log: IO[str], console: Console, shown: Shown | None, secret: bool = False) -> None:
        self.arguments = arguments
        self.lines: list[str] = []
        self.errors: list[str] = []
        self.told = shown is everything
        """Whether all that it says was shown already."""
        self._log, self._console, self._shown = log, console, shown
        self._log.write(f"$ soundscape {' '.join(arguments)}\n")
        # A terminal's own progress lines need the terminal itself.
        direct = self.told and sys.stderr.isatty()
        self.process = subprocess.Popen(
            [str(tools.VENV / "bin" / "soundscape"), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if direct else subprocess.PIPE,
            text=True,
            errors="replace",
        )
        pipes = ((self.process.stdout, self.lines, not secret), (self.process.stderr, self.errors, True))
        self._readers = [threading.Thread(target=self._read, args=one, daemon=True) for one in pipes if one[0] is not None]
        for reader in self._readers:
            reader.start()

    def _read(self, pipe: IO[str], into: list[str], logged: bool) -> None:
        with pipe:
            for line in pipe:
                into.append(line.rstrip("\n"))
                self._log.write(line if logged else "(not logged)\n")
                self._log.flush()
                if self._shown and line.strip() and self._shown(line):
                    self._console.print(f"    [dim]{escape(line.rstrip())}[/]", soft_wrap=True, highlight=False)

    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def finish(self) -> int:
        """Wait for its end; returns its exit code."""
        code = self.process.wait()
        for reader in self._readers:
            reader.join()
        return code

    def tail(self) -> list[str]:
        """Its last words: what it complained of, else what it said."""
        return (self.errors or self.lines)[-TAIL:]

    def end(self) -> None:
        """End it if it runs."""
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Story:
    """The steps of one run, and the commands that they started."""

    def __init__(self, console: Console, log_path: Path) -> None:
        """Raises OSError."""
        self.console, self.log_path = console, log_path
        log_path.parent.mkdir(parents=True, exist_ok=True)
        self._log = log_path.open("w", encoding="utf-8")
        self._began, self._number = time.monotonic(), 0
        self._running: list[Running] = []
        self.now = "Beginning"

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    @contextmanager
    def step(self, title: str, why: str) -> Iterator[None]:
        """Announce a step with its reason; when it is done, say how long it took."""
        self._number += 1
        self.now = title
        began = time.monotonic()
        self.console.print(f"\n[bold]{self._number}. {escape(title)}[/] [dim]- {escape(why)}[/]", soft_wrap=True, highlight=False)
        self._log.write(f"\n== {self._number}. {title}\n")
        yield
        self.say(f"[dim]{time.monotonic() - began:.1f} s[/]")

    def say(self, text: str) -> None:
        """A line below the step; rich markup."""
        self.console.print(f"   {text}", soft_wrap=True, highlight=False)

    def say_still_up(self, code: int, words: list[str]) -> None:
        """The stack could not be taken down: `down` ended with this code and these last words."""
        self.console.print("\n[bold red]Failed[/] at: taking the stack down", highlight=False)
        for line in words[-TAIL:]:
            self.say(f"[dim]{escape(line)}[/]")
        self.say(f"`soundscape down` ended with {code}: something may still run. `soundscape status` shows what; `soundscape down` again.")

    def start(self, *arguments: str, shown: Shown | None = None, secret: bool = False) -> Running:
        """Start a command of the product; what it says stays out of the log if it is `secret`."""
        running = Running(arguments, self._log, self.console, shown, secret)
        self._running.append(running)
        return running

    def ask(self, *arguments: str) -> tuple[int, list[str], list[str]]:
        """Run a command; its exit code, its lines, and what it complained of."""
        running = self.start(*arguments)
        code = running.finish()
        return code, running.lines, running.errors

    def run(self, *arguments: str, shown: Shown | None = None, secret: bool = False) -> list[str]:
        """Run a command that must succeed; its lines, which stay out of the log if they are `secret`. Raises StepFailed."""
        return self.succeeded(self.start(*arguments, shown=shown, secret=secret))

    def succeeded(self, running: Running) -> list[str]:
        """Wait for a command that must succeed; its lines. Raises StepFailed."""
        code = running.finish()
        if code != 0:
            for line in [] if running.told else running.tail():
                self.say(f"[dim]{escape(line)}[/]")
            raise StepFailed(f"`soundscape {' '.join(running.arguments)}` ended with {code}.")
        return running.lines

    def close(self) -> None:
        """End what still runs."""
        for running in self._running:
            running.end()
        with suppress(OSError):
            self._log.close()
