"""Every file of a data folder heard once: its mel power stored, what was found noted in a ledger, and why a file teaches nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from soundscape.errors import Invalid, Reason
from trainer.children import in_children
from trainer.data.listen import Heard, Silent, listen
from trainer.data.notes import noted, noting
from trainer.progress import Counted


class Missing(Invalid):
    """A file that the tables name is not there."""


OWN_REASONS: dict[type[Invalid], str] = {Missing: "missing", Silent: "silent"}
"""Why a file is left out that no clip on the stream can be refused for; the others are `soundscape.errors.Reason`."""


@dataclass(frozen=True)
class LeftOut:
    """A file that nothing is learnt from, and why."""

    name: str
    reason: str
    detail: str


def hear(
    source: Path, folder: Path, wanted: dict[str, str], progress: Counted, children: int | None
) -> dict[str, Heard | LeftOut]:
    """Every sound by name, as it was heard or why it was not, those of an earlier run from the ledger.

    `wanted` is where each one's mel power goes in `folder`, by its name in `source`. In as many children as there are cores, or in
    `children`; 0 is this process. Raises OSError where the disk does.
    """
    ledger = folder / "raw" / "ledger.jsonl"
    before = {entry["name"]: entry for entry in noted(ledger)}
    done: dict[str, Heard | LeftOut] = {}
    todo = []
    for name, file in wanted.items():
        entry = before.get(name)
        if entry and _holds(entry, source / name, file) and (folder / file).is_file():
            done[name] = Heard(**entry["heard"])
        else:
            todo.append(name)
    before_now = len(done)
    progress(before_now, len(wanted))

    def take(name: str, heard: Heard) -> None:
        done[name] = heard
        note({"name": name, "file": wanted[name], "stamp": _stamp(source / name), "heard": asdict(heard)})

    def refuse(name: str, error: Invalid) -> None:
        done[name] = LeftOut(name, OWN_REASONS.get(type(error), str(error.reason)), error.detail)

    with noting(ledger) as note:
        work = {name: partial(_listen, source / name, folder / wanted[name]) for name in todo}
        in_children(work, take, refuse, lambda n, _of: progress(before_now + n, len(wanted)), children)
    return done


def _listen(path: Path, file: Path) -> Heard:
    if not path.is_file():
        raise Missing(Reason.BAD_REQUEST, "It is named, but no such file is there.")
    return listen(path, file)


def _holds(entry: dict[str, Any], source: Path, file: str) -> bool:
    """Whether an entry is of the file as it is, stored where it is wanted, and written by a program that knew as much as this one."""
    return entry["stamp"] == _stamp(source) and entry["file"] == file and "sound" in entry["heard"]


def _stamp(path: Path) -> list[int] | None:
    """Size and time of a file, other when it was changed."""
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]
