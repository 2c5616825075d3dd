"""The labeler as a process: its reader, its species, its decoding child and its door, wired."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn

from consumers.follow import Follower, Pulse, persist
from consumers.labeler.app import create_app
from consumers.labeler.desk import Desk
from consumers.labeler.log import Log
from consumers.labeler.pictures import warm_up
from consumers.labeler.shelf import PROCESS, Shelf
from consumers.labeler.species import SiteSpecies
from soundscape.isolation import ChildPool
from soundscape.keys import KeyRing, keys_file
from soundscape.logs import set_up_logging
from soundscape.settings import HOST, Port, Settings, get_settings
from soundscape.topics import LABELS, SAMPLES

log = logging.getLogger(__name__)

GOODBYE_S = 5
"""Seconds that requests under way are given when the process is told to stop."""


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are taken by `main`: uvicorn would raise them again, and end before the child is."""
        yield


def follow(settings: Settings, desk: Desk, pulse: Pulse) -> None:
    """Read both topics for ever, from where the shelf stands, and forget the voices that lie there still. Raises Unavailable."""
    shelf = desk.shelf
    with Follower(settings, PROCESS, (SAMPLES, LABELS)) as follower:
        follower.seek(shelf.positions)
        while True:
            for part, records in follower.batches():
                shelf.take(part, records)
            if (lag := follower.measure()) is not None:
                if not any(lag.values()):
                    shelf.ready.set()
                    desk.sweep()
                if shelf.ready.is_set():
                    pulse.beat(lag)
                else:  # its door answers 503 so far
                    pulse.fail("The samples and labels are still being read.")


def main() -> None:
    """Run the labeler until it is told to stop."""
    set_up_logging()
    settings, pulse, logs = get_settings(), Pulse(), None
    children, species = ChildPool(1, warm_up), SiteSpecies(settings)
    try:
        logs = Log(settings)
        desk = Desk(settings, Shelf(), logs, children, species)
        threading.Thread(target=_follow_for_ever, args=(settings, desk, pulse), name="follow", daemon=True).start()
        species.start()
        app = create_app(desk, KeyRing(keys_file(settings)), pulse)
        server = _Server(
            uvicorn.Config(
                app,
                host=HOST,
                port=settings.port(Port.LABELER),
                access_log=False,
                log_level="warning",
                server_header=False,
                timeout_graceful_shutdown=GOODBYE_S,
            )
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))
        server.run()
    finally:
        children.close()
        if logs is not None:
            logs.close()


def _follow_for_ever(settings: Settings, desk: Desk, pulse: Pulse) -> None:
    try:
        persist(lambda: follow(settings, desk, pulse), pulse)
    except BaseException:
        log.exception("the labeler cannot go on")
        os._exit(70)  # a thread's end alone would leave a door that knows nothing new
