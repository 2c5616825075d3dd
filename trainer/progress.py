"""How far long work is: bars on a terminal, a line at each tenth where nobody looks at one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[str, int, int], None]
"""Told of a stage of work, how much of it is done, and of how much."""
Counted = Callable[[int, int], None]
"""Told of the one stage that there is, how much of it is done, and of how much."""


@contextmanager
def progress_on(console: Console) -> Iterator[Progress]:
    """Bars on the console, one a stage of work, gone at the end; lines where it is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    if not console.is_terminal:
        yield tenths(console.print)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(what: str, n: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of)
            bars.update(tasks[what], completed=n, total=of)

        yield progress


def tenths(say: Callable[[str], None]) -> Progress:
    """Says a line at each tenth of a stage; nothing of one that was done before it began."""
    said: dict[str, int] = {}

    def progress(what: str, n: int, of: int) -> None:
        tenth = n * 10 // of if of else 10
        if what not in said or tenth < said[what]:  # it begins, or another of its name does
            said[what] = tenth
        if tenth > said[what]:
            said[what] = tenth
            say(f"{what}: {n} of {of}")

    return progress
