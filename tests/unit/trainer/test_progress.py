"""Long work says how far it is, also where nobody looks at a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from trainer.progress import progress_on, tenths


def test_off_a_terminal_each_tenth_of_each_stage_is_a_line() -> None:
    out = io.StringIO()
    with progress_on(Console(file=out)) as progress:
        for n in range(101):
            progress("windows", n, 100)
            progress("sounds", n // 50, 2)  # interleaved with another
    lines = out.getvalue().splitlines()
    assert [line for line in lines if line.startswith("windows")] == [f"windows: {n} of 100" for n in range(10, 101, 10)]
    assert [line for line in lines if line.startswith("sounds")] == ["sounds: 1 of 2", "sounds: 2 of 2"]


def test_bars_leave_nothing_on_a_terminal() -> None:
    out = io.StringIO()
    with progress_on(Console(file=out, force_terminal=True, width=80)) as progress:
        progress("windows", 1, 2)
    assert "windows" in out.getvalue() and out.getvalue().endswith("\x1b[2K")


def test_nothing_is_said_of_what_was_done_before_and_a_stage_may_come_again() -> None:
    said: list[str] = []
    progress = tenths(said.append)
    progress("nothing", 0, 0)
    progress("sounds", 2, 2)
    for n in range(3):
        progress("sounds", n, 2)
    assert said == ["sounds: 1 of 2", "sounds: 2 of 2"]
