"""A gateway whose log is a list: what is published can be read back by its place, and everything is known again after a restart."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from producers.gateway.answers import Answers, Known, prediction_in
from producers.gateway.app import create_app
from producers.gateway.guard import Guard
from producers.gateway.problems import Problem
from producers.gateway.services import Services
from producers.gateway.sites import Sites
from soundscape.events import ClipAnalysed, Detection, Event, Names, Place, ReleaseRef, SiteDeployed, Stages, Window
from soundscape.features import LOG_MEL
from soundscape.keys import KeyRing, create_key, keys_file
from soundscape.release import LoadedRelease, Member, Release, file_digest, write_release
from soundscape.settings import Settings
from soundscape.taxonomy import Species
from soundscape.testing_log import clip
from soundscape.tour_rows import KINDS, Rows
from soundscape.tours import Row
from soundscape.wire import Message, decode, encode

LABELS = ("frog", "owl", "wren")
MORNING = datetime(2026, 11, 24, 11, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Record:
    """What a follower sees of a Kafka record."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None
    headers: list[tuple[str, bytes]]


def names(label: str) -> Names:
    """Names of a species."""
    return Names(scientific=f"S {label}", en=f"E {label}", es=f"Ñ {label}")


class World:
    """Everything around the loop's routes."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.log: defaultdict[str, list[Record]] = defaultdict(list)
        self.failure: Exception | None = None
        self.starting: set[str] = set()
        self.older: dict[str, Known] = {}
        self.guard = Guard(settings, ())
        self.sites = Sites(settings)
        self.stack = AsyncExitStack()
        self.loaded = self._release()
        self.services = self._services()
        self.app = create_app(self.services)

    def _services(self) -> Services:
        keys = KeyRing(keys_file(self.settings))
        return Services(keys, self.sites, Answers(), self, self, self, self, self, self, self)

    def restart(self) -> None:
        """A new process: it knows what the log says, and of answers what the board finds."""
        self.services = self.app.state.services = self._services()
        apply = {
            "feedback": self.services.feedback.apply,
            "labels": self.services.labels.apply,
            "tour-events": self.services.tours.moved,
            "tours": self.services.tours.summed,
            "shadow-predictions": self.services.shadows.apply,
        }
        for topic, follow in apply.items():
            for record in self.log[topic]:
                follow(record)

    def put(self, topic: str, message: Message | Event) -> Record:
        """The record that this becomes."""
        sent = encode(message) if isinstance(message, Event) else message
        self.log[topic].append(Record(topic, 0, len(self.log[topic]), sent.key, sent.value, sent.headers))
        return self.log[topic][-1]

    def follow(self, topic: str, event: Event) -> Record:
        """Somebody else publishes it, and the follower hands it over."""
        record, services = self.put(topic, event), self.services
        by_topic: dict[str, Any] = {
            "labels": services.labels.apply,
            "tours": services.tours.summed,
            "shadow-predictions": services.shadows.apply,
        }
        by_topic[topic](record)
        return record

    async def publish(self, topic: str, message: Message) -> Place:
        if self.failure:
            raise self.failure
        await asyncio.sleep(0)  # others come in between, as they do while a broker writes
        record = self.put(topic, message)
        return Place(topic=topic, partition=0, offset=record.offset)

    async def read(self, place: Place) -> Record | None:
        lying = self.log[place.topic]
        return lying[place.offset] if place.offset < len(lying) and lying[place.offset].value is not None else None

    async def of(self, tour: str) -> dict[str, Row] | None:
        """The tour's rows, made of the log as the stream makes them."""
        rows = Rows({})
        for topic, kind in KINDS.items():
            for record in self.log[topic]:
                if record.value is not None:
                    rows.apply(decode(kind, record.headers, record.value), record.offset)
        return rows.of(tour) or None

    async def find(self, clip_id: str) -> Known | None:
        return self.older.get(clip_id)

    async def run(self, work: Any, *args: Any) -> Any:
        return work(*args)

    def check_disk(self) -> None:
        self.guard.check_disk()

    def check_backlog(self, lane: str) -> None:
        self.guard.check_backlog(lane)

    def health(self) -> dict[str, Any]:
        return {"healthy": True, "why": ""}

    def readiness(self) -> dict[str, Any]:
        return {"ready": True, "why": ""}

    def require(self, topic: str) -> None:
        if topic in self.starting:
            raise Problem(503, "starting", f"The gateway is reading {topic} still; ask again in a moment.")

    def lose(self, place: Place) -> None:
        """Retention takes a record."""
        record = self.log[place.topic][place.offset]
        self.log[place.topic][place.offset] = Record(record.topic, 0, record.offset, record.key, None, [])

    def analysed(self, stream: str = "dawn", heard: tuple[str, ...] = ("owl",), **fields: Any) -> ClipAnalysed:
        """The answer to a new clip of a stream, both on the log; a tour's unless told otherwise."""
        body = f"{stream} {len(self.log['clips'])}".encode()
        site = fields.pop("site", "el-silencio")
        event = clip(body, site=site, stream=stream, recorded_at=MORNING, original_type="audio/wav", original_rate=48_000)
        where = self.put("clips", event)
        told: dict[str, Any] = {
            "clip_id": event.clip_id, "stream": stream, "site": site, "tour_id": stream, "recorded_at": MORNING,
            "place": Place(topic="clips", partition=0, offset=where.offset), "release": "own", "release_digest": self.loaded.digest,
            "generation": 1, "licences": ("MIT",), "feature_fingerprints": (LOG_MEL.fingerprint,), "labels": LABELS,
            "windows": (Window(start_s=0, end_s=5, scores=(0.1, 0.8, 0.3), members={"own": {"owl": 0.9, "wren": 0.3}}),),
            "weights": (1.0, 0.9, 1.0),
            "detections": tuple(
                Detection(label=one, names=names(one), taxon="Aves", confidence=0.8, unweighted=0.9, threshold=0.5, start_s=0, end_s=5)
                for one in heard
            ),
            "stages": Stages(published=MORNING, received=MORNING, decoded=MORNING, features=MORNING, inferred=MORNING, predicted=MORNING),
        }  # fmt: skip
        return ClipAnalysed(**(told | fields))

    def answered(self, stream: str = "dawn", heard: tuple[str, ...] = ("owl",), **fields: Any) -> str:
        """The id of a new clip that was answered a moment ago."""
        event = self.analysed(stream, heard, **fields)
        record = self.put("predictions", event)
        place = Place(topic="predictions", partition=0, offset=record.offset)
        found = prediction_in(record.headers, record.value, place)
        assert found is not None
        self.services.answers.arrived(*found)
        self.older[found[0]] = found[1]
        return found[0]

    async def client(self, name: str, role: Any = "guide", site: str | None = None) -> httpx.AsyncClient:
        """Somebody with a key of their own."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        headers = {"X-API-Key": create_key(self.settings, name, role, site)}
        return await self.stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers))

    def _release(self) -> LoadedRelease:
        folder = self.settings.releases / "own"
        folder.mkdir(parents=True)
        (folder / "own.onnx").write_bytes(b"weights")
        member = Member(
            name="own", file="own.onnx", digest=file_digest(folder / "own.onnx"), feature_fingerprint=LOG_MEL.fingerprint, labels=LABELS,
            weight=2.0, licence="MIT",
        )  # fmt: skip
        species = tuple(Species(label=one, scientific=f"S {one}", en=f"E {one}", es=f"Ñ {one}", taxon="Aves") for one in LABELS)
        release = Release(
            name="own", labels=species, features={LOG_MEL.fingerprint: LOG_MEL}, members=(member,), thresholds={"wren": 0.7},
            created_at="2026-11-24T00:00:00Z",
        )  # fmt: skip
        return write_release(folder, release)

    async def deploy(self, *sites: str) -> None:
        """The release serves these sites."""
        champion = ReleaseRef(name="own", digest=self.loaded.digest)
        for site in sites:
            state = SiteDeployed(site=site, generation=1, champion=champion, reason="test", actor="test", at=MORNING)
            await self.sites.apply(self.put("deployments", state))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A world with two sites."""
    world = World(Settings(data_dir=tmp_path, site="el-silencio", min_free_gb=0))
    async with world.stack:
        await world.deploy("el-silencio", "bench")
        yield world
