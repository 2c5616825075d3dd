"""Where sound of clips, and what was made of it, may lie beside the log: folders of the data folder, and those that a person named."""

from __future__ import annotations

import os
from pathlib import Path

from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.settings import Settings

FOLDERS = ("datasets", "archive", "rehearsals", "replays")
"""Folders of the data folder that hold what was derived from clips."""


def note_folder(settings: Settings, folder: Path) -> None:
    """Record a folder that is about to be written to with what was made of clips, wherever it lies.

    Raises Invalid for a name that holds a line break, Unavailable if the record cannot be written.
    """
    path, real = _record(settings), Path(os.path.realpath(folder))
    if b"\n" in os.fsencode(real):
        raise Invalid(Reason.BAD_REQUEST, f"The name of {str(folder)!r} holds a line break; choose another folder.")
    if real in derived_folders(settings):
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("ab") as file:  # one short write: two processes may note at once
            file.write(os.fsencode(real) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise Unavailable(f"{path} cannot be written ({error.strerror}); nothing is made of clips without it.") from error


def derived_folders(settings: Settings) -> list[Path]:
    """FOLDERS, then every folder that was noted and is there still. Raises OSError where the record cannot be read."""
    own = [settings.root / name for name in FOLDERS]
    path, homes = _record(settings), [os.path.realpath(home) for home in own]
    noted = path.read_bytes().split(b"\n") if path.is_file() else []
    folders = [Path(os.fsdecode(line)) for line in dict.fromkeys(noted) if line.startswith(b"/")]
    return [*own, *(one for one in folders if one.is_dir() and not any(one.is_relative_to(home) for home in homes))]


def _record(settings: Settings) -> Path:
    return settings.state / "derived-folders.txt"
