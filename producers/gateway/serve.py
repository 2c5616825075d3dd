"""Wires the gateway and runs it: a background reader that ends takes the process with it, and the supervisor starts it again."""

from __future__ import annotations

import asyncio
import io
import logging
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import uvicorn

from producers.gateway.answers import Answers, death_in, prediction_in
from producers.gateway.app import create_app
from producers.gateway.follow import Follower
from producers.gateway.guard import Guard
from producers.gateway.lookup import Board, LogReader, Lookup
from producers.gateway.problems import Problem
from producers.gateway.publisher import Publisher
from producers.gateway.services import Services
from producers.gateway.sites import Sites
from producers.gateway.standing import Feedback, Labels, Shadows
from producers.gateway.touring import Tours
from producers.tour_past import rows_of
from soundscape import audio
from soundscape.events import Place
from soundscape.isolation import ChildPool
from soundscape.keys import KeyRing, keys_file
from soundscape.settings import HOST, Port, Settings, get_settings
from soundscape.topics import DEAD_LETTERS, DEPLOYMENTS, FEEDBACK, LABELS, LANES, PREDICTIONS, SHADOW_PREDICTIONS, TOUR_EVENTS, TOURS
from soundscape.tours import Row

log = logging.getLogger(__name__)

GOODBYE_S = 10
"""Seconds that requests under way are given when the process is told to stop."""


class Gateway:
    """The process: its services, its background work, and how it is."""

    def __init__(self, settings: Settings) -> None:
        self._answers, self._sites = Answers(), Sites(settings)
        feedback, labels, shadows, self._tours = Feedback(), Labels(), Shadows(), Tours()
        self._followers = (
            Follower(settings, PREDICTIONS, self._predicted),
            Follower(settings, DEAD_LETTERS, self._died),
            Follower(settings, SHADOW_PREDICTIONS, shadows.apply),
            Follower(settings, DEPLOYMENTS, self._sites.apply, from_beginning=True),
            Follower(settings, FEEDBACK, feedback.apply, from_beginning=True),
            Follower(settings, LABELS, labels.apply, from_beginning=True),
            Follower(settings, TOUR_EVENTS, self._tours.moved, from_beginning=True),
            Follower(settings, TOURS, self._tours.summed, from_beginning=True),
        )
        self._publisher = Publisher(settings)
        self._guard = Guard(settings, self._followers)
        self._children = ChildPool(settings.decoding_children)
        self._board, self._reader = Board(settings), LogReader(settings)
        self.services = Services(
            keys=KeyRing(keys_file(settings)),
            sites=self._sites,
            answers=self._answers,
            lookup=Lookup(self._board, self._reader),
            publisher=self._publisher,
            guard=self._guard,
            children=self._children,
            reports=self,
            log=self._reader,
            rows=_Rows(settings),
            feedback=feedback,
            labels=labels,
            shadows=shadows,
            tours=self._tours,
        )

    def start(self) -> set[asyncio.Task[None]]:
        """Begin the background work, which never ends by itself."""
        work = [*(follower.run() for follower in self._followers), self._publisher.run(), self._guard.run()]
        names = [*(follower.topic.name for follower in self._followers), "publisher", "guard"]
        return {asyncio.create_task(one, name=name) for one, name in zip(work, names, strict=True)}

    async def warm_up(self) -> None:
        """Let a child meet the sound libraries, so that the first WAV does not wait for them."""
        import numpy as np
        import soundfile

        tone = io.BytesIO()
        soundfile.write(tone, np.zeros(audio.SAMPLE_RATE, np.float32), audio.SAMPLE_RATE, format="WAV")
        await self._children.run(audio.to_ogg, tone.getvalue())

    def release(self) -> None:
        """Let everybody go who waits for an answer or watches a tour."""
        self._answers.release()
        self._tours.release()

    async def close(self) -> None:
        """End what was started."""
        await self._reader.close()
        await self._board.close()
        self._children.close()

    def _predicted(self, record: Any) -> None:
        place = Place(topic=record.topic, partition=record.partition, offset=record.offset)
        if (found := prediction_in(list(record.headers), record.value, place)) is not None:
            self._answers.arrived(*found)

    def _died(self, record: Any) -> None:
        if (found := death_in(list(record.headers))) is not None:
            self._answers.arrived(*found)

    def health(self) -> dict[str, Any]:
        """Healthy: the broker answers, the producer is connected, every reader has caught up."""
        behind = [follower.topic.name for follower in self._followers if not follower.ready.is_set()]
        why = ""
        if not self._publisher.connected or not self._guard.broker_answers:
            why = "the broker does not answer"
        elif behind:
            why = f"reading {', '.join(behind)}"
        return {"healthy": not why, "why": why, "backlog": dict(self._guard.backlog)}

    def readiness(self) -> dict[str, Any]:
        """Ready: healthy, with room on the disk and in the lanes."""
        why = str(self.health()["why"])
        try:
            self._guard.check_disk()
            for lane in LANES:
                self._guard.check_backlog(lane)
        except Problem as problem:
            why = why or problem.detail
        return {"ready": not why, "why": why}

    def require(self, topic: str) -> None:
        """Raise Problem (503, starting) while the topic has not been read to its end once."""
        if any(follower.topic.name == topic and not follower.ready.is_set() for follower in self._followers):
            raise Problem(503, "starting", f"The gateway is reading {topic} still; ask again in a moment.")


class _Rows:
    """Asks the process that keeps the tours' rows."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def of(self, tour: str) -> dict[str, Row] | None:
        """As `rows_of`, beside the work that goes on."""
        return await asyncio.to_thread(rows_of, self._settings, tour)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are taken by `run`: uvicorn would raise them again, and end before the children are."""
        yield


async def run(settings: Settings) -> int:
    """Serve until told to stop (0) or until a part of the background work ends (1)."""
    gateway = Gateway(settings)
    config = uvicorn.Config(
        create_app(gateway.services),
        host=HOST,
        port=settings.port(Port.GATEWAY),
        access_log=False,
        log_level="warning",
        lifespan="off",
        server_header=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=GOODBYE_S,
    )
    server = _Server(config)

    def stop() -> None:
        server.should_exit = True
        gateway.release()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    background = gateway.start()
    serving = asyncio.create_task(server.serve(), name="http")
    warming = asyncio.create_task(gateway.warm_up(), name="warm-up")
    try:
        done, _ = await asyncio.wait({serving, *background}, return_when=asyncio.FIRST_COMPLETED)
        ended = done & background
        for task in ended:
            log.error("%s ended; so does the gateway", task.get_name(), exc_info=task.exception())
        stop()
        await serving
    finally:
        for task in (*background, warming):
            task.cancel()
        await asyncio.gather(*background, warming, return_exceptions=True)
        await gateway.close()
    return 1 if ended else 0


class _News(logging.Filter):
    """Drops what a logger said the last time too: a broker that is away is one line, not one a second."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, str] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        said = record.getMessage()
        if record.levelno <= logging.WARNING and self._last.get(record.name) == said:
            return False
        self._last[record.name] = said
        return True


def main() -> None:
    """Run the gateway until it is told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger().handlers[0].addFilter(_News())
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it says every failed reconnect; we say it once ourselves
    logging.getLogger("aiokafka.producer").setLevel(logging.ERROR)
    sys.exit(asyncio.run(run(get_settings())))
