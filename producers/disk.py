"""Whether the data folder's disk has room for more clips."""

from __future__ import annotations

import shutil

from soundscape.settings import Settings


def lack_of_room(settings: Settings) -> str:
    """One sentence where the data folder's disk has less free than the settings ask; empty where there is room. Raises OSError."""
    folder = settings.root
    while not folder.exists():
        folder = folder.parent
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb >= settings.min_free_gb:
        return ""
    return f"The disk has {free_gb:.1f} GB free, and clips are taken from {settings.min_free_gb:g} GB on."
