"""How a process logs: one line an event to stderr, which the supervisor keeps; libraries speak from warnings up."""

from __future__ import annotations

import logging

CHATTY = ("kafka", "aiokafka", "httpx", "faust", "mode", "watchdog", "urllib3")
"""Libraries whose everyday lines would bury ours."""


def set_up_logging() -> None:
    """Once, at a process's start."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
