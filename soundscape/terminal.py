"""How wide a command prints."""

from __future__ import annotations

import os


def terminal_width() -> int | None:
    """Wide enough for every column and every id where the output is no terminal; the terminal's own width otherwise."""
    return None if os.isatty(1) else 160
