"""How a process logs: one line an event to stderr, which the supervisor keeps; libraries speak from warnings up."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

CHATTY = ("kafka", "aiokafka", "httpx", "faust", "mode", "watchdog", "urllib3")
"""Libraries whose everyday lines would bury ours."""


def passed_over(log: logging.Logger, record: Any, error: Exception) -> None:
    """Say that a Kafka record is passed over, and why; once, however often a process reads its topic again."""
    _say_once(log, f"{record.topic}:{record.partition}:{record.offset} passed over: {error}")


@lru_cache(maxsize=10_000)
def _say_once(log: logging.Logger, line: str) -> None:
    log.warning("%s", line)


def set_up_logging() -> None:
    """Once, at a process's start."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
