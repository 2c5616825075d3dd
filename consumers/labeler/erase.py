"""What was made of a clip and lies in the data folder: removed when a voice was heard in it."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from uuid import UUID

from soundscape.settings import Settings

log = logging.getLogger(__name__)

FOLDERS = ("datasets", "archive")
"""Folders of the data folder that hold what was derived from clips."""


def erase(settings: Settings, clip_id: str) -> list[Path]:
    """Remove the files and folders of FOLDERS whose name holds the clip's id; returns them.

    Links are removed, not followed. Rows inside larger files (Parquet, CSV) stay: they hold no sound. Raises OSError where a file
    cannot be removed, and ValueError for what is no clip id.
    """
    wanted, erased = str(UUID(clip_id)), []
    for folder in FOLDERS:
        for where, folders, files in os.walk(settings.root / folder):
            for name in [name for name in folders if wanted in name]:
                path = Path(where, name)
                path.unlink() if path.is_symlink() else shutil.rmtree(path)
                folders.remove(name)
                erased.append(path)
            for name in [name for name in files if wanted in name]:
                path = Path(where, name)
                path.unlink(missing_ok=True)
                erased.append(path)
    if erased:
        log.info("clip %s: %d derived files erased", wanted, len(erased))
    return erased
