"""The way of one request, with the log, the board and the disk played by fakes: accepted, answered, refused, and never a traceback."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from producers.gateway import body as body_module
from producers.gateway.answers import Answers, Known, death_in, prediction_in
from producers.gateway.app import create_app, wait_for
from producers.gateway.body import BESIDE, Room
from producers.gateway.guard import Guard
from producers.gateway.intake import Prepared, recorded
from producers.gateway.problems import STATUS, Problem
from producers.gateway.schemas import Told
from producers.gateway.services import Services
from producers.gateway.sites import Sites
from soundscape.audio import SAMPLE_RATE, encode_ogg, sha256
from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.events import ClipAnalysed, ClipRecorded, Detection, Fusion, Names, Place, ReleaseRef, SiteDeployed, Stages, Window
from soundscape.events import clip_id as identity
from soundscape.features import LOG_MEL
from soundscape.keys import KeyRing, create_key, keys_file
from soundscape.release import Member, Release, file_digest, write_release
from soundscape.settings import Settings
from soundscape.taxonomy import Species
from soundscape.tours import Row
from soundscape.wire import Message, dead_letter, decode, encode

LABELS = tuple(f"species{n:02d}" for n in range(12))
AT = Place(topic="predictions", partition=0, offset=0)
CLIP = encode_ogg((np.random.default_rng(5).standard_normal(5 * SAMPLE_RATE) * 0.1).astype(np.float32))
OGG = {"Content-Type": "audio/ogg"}


class World:
    """Everything around the app. `reply` is what the stream does with a message, inside its publication."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.answers, self.sites, self.guard = Answers(), Sites(settings), Guard(settings, ())
        self.sent: list[tuple[str, Message]] = []
        self.reply: Callable[[ClipRecorded], None] = lambda clip: None
        self.older: dict[str, Known] = {}
        self.unread: set[str] = set()
        self.room = Room()
        self.decoded = 0
        self.failure: Exception | None = None
        self.lost: Exception | None = None

    async def publish(self, topic: str, message: Message) -> Place:
        if self.failure:
            raise self.failure
        self.sent.append((topic, message))
        self.reply(decode(ClipRecorded, message.headers, message.value))
        return Place(topic=topic, partition=0, offset=len(self.sent) - 1)

    async def read(self, place: Place) -> Any | None:
        return None

    def require(self, topic: str) -> None:
        if topic in self.unread:
            raise Problem(503, "starting", f"The gateway is reading {topic} still; ask again in a moment.")

    async def of(self, tour: str) -> dict[str, Row] | None:
        return None

    async def find(self, clip_id: str) -> Known | None:
        if self.lost:
            raise self.lost
        return self.older.get(clip_id)

    async def run(self, work: Any, *args: Any) -> Any:
        self.decoded += 1
        return work(*args)

    def check_disk(self) -> None:
        self.guard.check_disk()

    def check_backlog(self, lane: str) -> None:
        self.guard.check_backlog(lane)

    def health(self) -> dict[str, Any]:
        return {"healthy": False, "why": "the broker does not answer"}

    def readiness(self) -> dict[str, Any]:
        return {"ready": True, "why": ""}

    def predicts(self, clip: ClipRecorded) -> None:
        found = prediction_in(*_record(analysed(clip)), AT)
        assert found is not None
        self.answers.arrived(*found)

    def dies(self, clip: ClipRecorded) -> None:
        place = Place(topic="clips", partition=0, offset=1)
        why = Invalid(Reason.TRUNCATED, "The file ends in the middle of its sound; send it whole.")
        message = encode(clip)
        letter = dead_letter(place, message.key, message.headers, message.value, why)
        found = death_in(letter.headers)
        assert found is not None
        self.answers.arrived(*found)


def _record(event: ClipAnalysed) -> tuple[list[tuple[str, bytes]], bytes]:
    message = encode(event)
    return message.headers, message.value


def analysed(clip: ClipRecorded) -> ClipAnalysed:
    now = datetime.now(UTC)
    return ClipAnalysed(
        clip_id=clip.clip_id,
        stream=clip.stream,
        site=clip.site,
        place=Place(topic="clips", partition=0, offset=0),
        release="own",
        release_digest="0" * 64,
        generation=1,
        feature_fingerprints=(LOG_MEL.fingerprint,),
        labels=LABELS,
        windows=(Window(start_s=0, end_s=5, scores=tuple(n / 12 for n in range(12))),),
        fusion=Fusion(mean_of="log_odds", weights={"one": 1.0}, context=0.3),
        detections=(
            Detection(
                label=LABELS[11],
                names=Names(scientific="S", en="E", es="Ñ"),
                taxon="Aves",
                confidence=11 / 12,
                unweighted=11 / 12,
                threshold=0.9,
                start_s=0,
                end_s=5,
            ),
        ),
        stages=Stages(published=now, received=now, decoded=now, features=now, inferred=now, predicted=now),
    )


class Record:
    """A Kafka record of `deployments`."""

    topic, offset = "deployments", 0

    def __init__(self, event: SiteDeployed) -> None:
        message = encode(event)
        self.headers, self.value = message.headers, message.value


async def deploy(world: World, site: str) -> None:
    folder = world.settings.releases / "own"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "own.onnx").write_bytes(b"weights")
    release = Release(
        name="own",
        labels=tuple(Species(label=name, scientific=f"S {name}", en=f"E {name}", es=f"Ñ {name}", taxon="Aves") for name in LABELS),
        features={LOG_MEL.fingerprint: LOG_MEL},
        members=(
            Member(
                name="own",
                file="own.onnx",
                digest=file_digest(folder / "own.onnx"),
                feature_fingerprint=LOG_MEL.fingerprint,
                labels=LABELS,
                licence="MIT",
            ),
        ),
        created_at="2026-11-24T00:00:00Z",
    )
    champion = ReleaseRef(name="own", digest=write_release(folder, release).digest)
    state = SiteDeployed(site=site, generation=1, champion=champion, reason="test", actor="test", at=datetime.now(UTC))
    await world.sites.apply(Record(state))


@pytest.fixture
async def world(tmp_path: Path) -> World:
    world = World(Settings(data_dir=tmp_path, site="el-silencio", min_free_gb=0, max_backlog_clips=10))
    await deploy(world, "el-silencio")
    return world


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    services = Services(
        keys=KeyRing(keys_file(world.settings)),
        sites=world.sites,
        answers=world.answers,
        lookup=world,
        publisher=world,
        guard=world,
        children=world,
        reports=world,
        log=world,
        rows=world,
        room=world.room,
    )
    transport = httpx.ASGITransport(create_app(services), raise_app_exceptions=False)
    headers = {"X-API-Key": create_key(world.settings, "ana")}
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as client:
        yield client


def refused(answer: httpx.Response, status: int, reason: str) -> dict[str, Any]:
    """Check that an answer is a problem document."""
    said: dict[str, Any] = answer.json()
    assert (answer.status_code, said["status"], said["reason"]) == (status, status, reason), said
    assert answer.headers["content-type"] == "application/problem+json"
    assert said["type"].endswith(f"/{reason}") and said["title"] and said["detail"]
    assert (status == 503) == ("retry-after" in answer.headers)
    return said


@pytest.mark.parametrize("topic", ["predictions", "dead-letters", "tour-events"])
async def test_no_clip_is_published_whose_answer_or_start_could_be_missed(world: World, client: httpx.AsyncClient, topic: str) -> None:
    world.unread = {topic}
    refused(await client.post("/v1/clips", content=CLIP, headers=OGG), 503, "starting")
    assert world.sent == []
    world.unread = set()
    assert (await client.post("/v1/clips", content=CLIP, headers=OGG)).status_code == 202


def test_large_bodies_share_a_room_and_a_clip_passes_beside_them() -> None:
    room = Room(3 * BESIDE)
    with room.claim() as first, room.claim() as second, room.claim() as small:
        first.hold(2 * BESIDE)
        with pytest.raises(Problem) as refusal:
            second.hold(2 * BESIDE)
        assert (refusal.value.status, refusal.value.reason) == (503, "busy")
        small.hold(BESIDE)
        assert room.free == {"small": 2 * BESIDE, "large": BESIDE}
        first.hold(3 * BESIDE)
    assert room.free == {"small": 3 * BESIDE, "large": 3 * BESIDE}


def test_small_bodies_are_bounded_too_and_one_may_grow_to_be_large() -> None:
    room = Room(2 * BESIDE)
    with room.claim() as first, room.claim() as second, room.claim() as third:
        first.hold(BESIDE)
        second.hold(BESIDE)
        with pytest.raises(Problem):
            third.hold(1)
        second.hold(BESIDE + 1)
        third.hold(1)
        assert room.free == {"small": BESIDE - 1, "large": BESIDE - 1}


@pytest.mark.parametrize("announced", [True, False])
async def test_beyond_the_room_an_upload_is_refused_before_it_is_read(world: World, client: httpx.AsyncClient, announced: bool) -> None:
    """One whose length nobody knows is read as far as there is room for it."""
    world.room.free["small"] = 250
    read = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(10):
            read += 100
            yield bytes(100)

    headers = OGG | ({"Content-Length": "1000"} if announced else {})
    refused(await client.post("/v1/clips", content=chunks(), headers=headers), 503, "busy")
    assert read == (0 if announced else 300)
    assert world.room.free["small"] == 250


async def test_whoever_waits_for_an_answer_takes_no_room(
    world: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does one who was refused."""
    free, held = world.room.free["small"], list[int]()
    world.reply = lambda clip: held.append(free - world.room.free["small"])

    async def wait(answer: asyncio.Future[Known], seconds: float) -> Known | None:
        held.append(free - world.room.free["small"])
        return await wait_for(answer, seconds)

    monkeypatch.setattr("producers.gateway.app.wait_for", wait)
    assert (await client.post("/v1/clips", content=CLIP, headers=OGG)).status_code == 202
    assert held == [len(CLIP), 0]
    refused(await client.post("/v1/clips", content=b"a poem", headers=OGG), 422, "not-audio")
    assert world.room.free["small"] == free


async def test_a_clip_is_accepted_only_with_the_acknowledgement(world: World, client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/clips", content=CLIP, headers=OGG)
    assert answer.status_code == 202
    assert answer.json() == {"clip_id": answer.json()["clip_id"], "state": "queued"}
    topic, message = world.sent[0]
    assert (topic, message.key, message.value) == ("clips", b"ana", CLIP)
    world.failure = Unavailable("The broker has not acknowledged the clip within 5 s; send it again.")
    other = {"recorded_at": "2026-11-24T06:30:00Z"}
    refused(await client.post("/v1/clips", params=other, content=CLIP, headers=OGG), 503, "unavailable")


async def test_an_answer_that_comes_with_the_publication_is_not_missed(world: World, client: httpx.AsyncClient) -> None:
    world.reply = world.predicts
    answer = await client.post("/v1/clips?wait=30", content=CLIP, headers=OGG)
    assert answer.status_code == 200
    said = answer.json()
    assert said["state"] == "predicted" and said["prediction"]["release"] == "own"
    scores = said["prediction"]["windows"][0]["scores"]
    assert list(scores) == [f"species{n:02d}" for n in range(11, 1, -1)]
    detection = said["prediction"]["detections"][0]
    assert detection["label"] == "species11" and detection["names"] == {"scientific": "S", "en": "E", "es": "Ñ"}
    assert said["prediction"]["fusion"] == {"mean_of": "log_odds", "weights": {"one": 1.0}, "weights_by_taxon": {}, "context": 0.3}
    whole = await client.get(f"/v1/clips/{said['clip_id']}?scores=all&site=el-silencio")
    assert len(whole.json()["prediction"]["windows"][0]["scores"]) == len(LABELS)


async def test_whoever_waits_when_the_process_ends_is_told_that_the_clip_is_queued(world: World, client: httpx.AsyncClient) -> None:
    world.reply = lambda clip: world.answers.release()
    answer = await client.post("/v1/clips?wait=30", content=CLIP, headers=OGG)
    assert answer.status_code == 202 and answer.json()["state"] == "queued"


async def test_a_clip_already_answered_is_not_published_again(world: World, client: httpx.AsyncClient) -> None:
    world.reply = world.predicts
    first = await client.post("/v1/clips?wait=30", content=CLIP, headers=OGG)
    again = await client.post("/v1/clips", content=CLIP, headers=OGG)
    assert again.status_code == 200 and again.json() == first.json()
    assert len(world.sent) == 1


async def test_a_clip_answered_before_a_restart_is_answered_from_the_log(world: World, client: httpx.AsyncClient) -> None:
    clip_id = identity("el-silencio", "ana", None, sha256(CLIP))
    clip = recorded(Prepared(CLIP, "audio/ogg", 5.0), clip_id, sha256(CLIP), "el-silencio", "ana", Told(), None)
    world.older[clip_id] = Known("predicted", "el-silencio", *_record(analysed(clip)), AT)
    assert (await client.get(f"/v1/clips/{clip_id}")).status_code == 200
    world.older.clear()  # read once, remembered
    assert (await client.post("/v1/clips", content=CLIP, headers=OGG)).status_code == 200
    assert world.sent == []


async def test_an_answer_that_the_board_knows_is_given_where_the_gateway_has_missed_it(world: World, client: httpx.AsyncClient) -> None:
    """Here the clip is queued still; sent again it is answered, and not published."""
    first = await client.post("/v1/clips", content=CLIP, headers=OGG)
    url = f"/v1/clips/{first.json()['clip_id']}"
    world.older[first.json()["clip_id"]] = Known("queued", "el-silencio")
    assert (await client.get(url)).status_code == 202
    world.lost = Unavailable("The board does not answer; ask again in a few seconds.")
    assert (await client.get(url)).status_code == (await client.post("/v1/clips", content=CLIP, headers=OGG)).status_code == 202
    world.lost = None
    clip = decode(ClipRecorded, world.sent[0][1].headers, CLIP)
    world.older[str(clip.clip_id)] = Known("predicted", "el-silencio", *_record(analysed(clip)), AT)
    again = await client.post("/v1/clips", content=CLIP, headers=OGG)
    assert again.status_code == 200 and len(world.sent) == 1
    world.older.clear()  # read once, remembered
    assert (await client.get(url)).status_code == 200


async def test_the_boards_death_of_before_a_clip_was_sent_again_is_not_its_answer(world: World, client: httpx.AsyncClient) -> None:
    world.reply = world.dies
    url = f"/v1/clips/{(await client.post('/v1/clips', content=CLIP, headers=OGG)).json()['clip_id']}"
    assert (await client.get(url)).status_code == 422
    world.older[url.rpartition("/")[2]] = Known("dead", "el-silencio")
    world.reply = lambda clip: None
    assert (await client.post("/v1/clips", content=CLIP, headers=OGG)).status_code == 202
    assert (await client.get(url)).status_code == 202


async def test_a_dead_clip_says_why_and_is_queued_again(world: World, client: httpx.AsyncClient) -> None:
    world.reply = world.dies
    first = await client.post("/v1/clips?wait=30", content=CLIP, headers=OGG)
    assert first.status_code == 422
    assert first.json()["state"] == "dead" and first.json()["problem"]["reason"] == "truncated"
    assert (await client.get(f"/v1/clips/{first.json()['clip_id']}")).status_code == 422
    world.reply = world.predicts
    again = await client.post("/v1/clips?wait=30", content=CLIP, headers=OGG)
    assert again.status_code == 200 and len(world.sent) == 2


async def test_a_tour_is_the_stream_and_json_says_what_a_query_says(world: World, client: httpx.AsyncClient) -> None:
    fields: dict[str, str | float] = {"tour_id": "dawn", "latitude": 6.76, "longitude": -74.21, "lang": "es", "client": "mobile"}
    fields["recorded_at"] = "2026-11-24T06:30:00-05:00"
    by_query = await client.post("/v1/clips", params=fields, content=CLIP, headers=OGG)
    by_json = await client.post("/v1/clips", json={"audio": base64.b64encode(CLIP).decode(), **fields})
    assert by_query.json() == by_json.json()
    clip = decode(ClipRecorded, world.sent[0][1].headers, world.sent[0][1].value)
    assert (clip.stream, clip.tour_id, clip.lang, clip.latitude, clip.client) == ("dawn", "dawn", "es", 6.76, "mobile")
    assert clip.recorded_at == datetime(2026, 11, 24, 11, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("wait=31", "wait"),
        ("recorded_at=2026-11-24T06:30:00", "offset"),
        ("recorded_at=0001-01-01T00:00:00%2B05:00", "recorded_at"),
        ("latitude=91", "latitude"),
        ("longitude=nan", "longitude"),
        ("tour_id=a/b", "tour_id"),
        ("tourid=a", "tourid"),
        ("scores=some", "scores"),
        ("client=bird", "client"),
    ],
)
async def test_a_parameter_that_does_not_hold_is_named(world: World, client: httpx.AsyncClient, query: str, says: str) -> None:
    said = refused(await client.post(f"/v1/clips?{query}", content=CLIP, headers=OGG), 400, "bad-request")
    assert says in said["detail"]
    assert world.sent == []


async def test_an_offset_whose_plus_was_not_escaped_is_understood(world: World, client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/clips?recorded_at=2026-11-24T06:30:00+02:00", content=CLIP, headers=OGG)
    assert answer.status_code == 202
    assert decode(ClipRecorded, world.sent[0][1].headers, CLIP).recorded_at == datetime(2026, 11, 24, 4, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "body", "status", "reason"),
    [
        ("audio/ogg", b"", 422, "empty"),
        ("audio/ogg", b"a poem", 422, "not-audio"),
        ("application/x-npy", b"\x93NUMPY", 422, "unknown-features"),
        ("application/json", b"{", 400, "bad-request"),
        ("application/json", b'{"audio": "!"}', 400, "bad-request"),
        ("text/plain", b"a poem", 415, "unsupported-media-type"),
    ],
)
async def test_a_body_that_does_not_hold_has_its_answer(
    world: World, client: httpx.AsyncClient, kind: str, body: bytes, status: int, reason: str
) -> None:
    refused(await client.post("/v1/clips", content=body, headers={"Content-Type": kind}), status, reason)
    assert world.sent == []


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_beyond_the_limit_is_not_read_on(
    world: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, declared: bool
) -> None:
    monkeypatch.setitem(body_module.LIMITS, "sound", 1000)
    read = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(100):
            read += 100
            yield bytes(100)

    headers = OGG | ({"Content-Length": "10000"} if declared else {})
    refused(await client.post("/v1/clips", content=chunks(), headers=headers), 413, "too-large")
    assert read == (0 if declared else 1100)


@pytest.mark.parametrize("sent", [{}, {"X-API-Key": "se_wrong"}])
async def test_without_a_key_nothing_is_taken(world: World, client: httpx.AsyncClient, sent: dict[str, str]) -> None:
    del client.headers["X-API-Key"]
    refused(await client.post("/v1/clips", content=CLIP, headers=OGG | sent), 401, "unauthorized")
    refused(await client.get("/v1/species", headers=sent), 401, "unauthorized")
    assert world.sent == []


async def test_a_key_made_for_a_site_serves_it_alone(world: World, client: httpx.AsyncClient) -> None:
    known = await client.post("/v1/clips", content=CLIP, headers=OGG)
    await deploy(world, "bench")
    bound = {"X-API-Key": create_key(world.settings, "beto", site="bench")}
    refused(await client.post("/v1/clips?site=el-silencio", content=CLIP, headers=OGG | bound), 403, "forbidden")
    refused(await client.get(f"/v1/clips/{known.json()['clip_id']}", headers=bound), 404, "not-found")
    assert (await client.post("/v1/clips", content=CLIP, headers=OGG | bound)).status_code == 202
    assert decode(ClipRecorded, world.sent[-1][1].headers, CLIP).site == "bench"


async def test_a_site_without_a_release_is_refused(world: World, client: httpx.AsyncClient) -> None:
    said = refused(await client.post("/v1/clips?site=nowhere", content=CLIP, headers=OGG), 503, "no-release")
    assert "soundscape deploy" in said["detail"]
    refused(await client.get("/v1/species?site=nowhere"), 503, "no-release")


async def test_a_full_lane_takes_no_clip_and_the_other_lane_does(world: World, client: httpx.AsyncClient) -> None:
    world.guard.backlog = {"live": 0, "bulk": 11}
    minute = encode_ogg(np.zeros(60 * SAMPLE_RATE, np.float32))
    refused(await client.post("/v1/clips", content=minute, headers=OGG), 503, "backlog")
    assert (await client.post("/v1/clips", content=CLIP, headers=OGG)).status_code == 202


async def test_what_cannot_be_kept_is_not_decoded_first(world: World, client: httpx.AsyncClient) -> None:
    """A file that must be turned to OGG costs seconds of a child."""
    wav, kind = io.BytesIO(), {"Content-Type": "audio/wav"}
    soundfile.write(wav, np.zeros(SAMPLE_RATE, np.float32), SAMPLE_RATE, format="WAV")
    world.guard.backlog = {"live": 11, "bulk": 11}
    refused(await client.post("/v1/clips", content=wav.getvalue(), headers=kind), 503, "backlog")
    world.guard = Guard(world.settings.model_copy(update={"min_free_gb": 1e9}), ())
    refused(await client.post("/v1/clips", content=wav.getvalue(), headers=kind), 503, "disk-full")
    world.guard = Guard(world.settings, ())
    world.unread = {"predictions"}
    refused(await client.post("/v1/clips", content=wav.getvalue(), headers=kind), 503, "starting")
    assert (world.decoded, world.sent) == (0, [])
    world.unread = set()
    assert (await client.post("/v1/clips", content=wav.getvalue(), headers=kind)).status_code == 202
    assert world.decoded == 1


async def test_a_full_disk_takes_no_clip(world: World, client: httpx.AsyncClient) -> None:
    world.guard = Guard(world.settings.model_copy(update={"min_free_gb": 1e9}), ())
    said = refused(await client.post("/v1/clips", content=CLIP, headers=OGG), 503, "disk-full")
    assert "GB free" in said["detail"]
    assert world.sent == []


async def test_without_the_board_clips_are_taken_and_old_ones_are_not_denied(world: World, client: httpx.AsyncClient) -> None:
    world.lost = Unavailable("The board does not answer; ask again in a few seconds.")
    refused(await client.get("/v1/clips/7b6f1407-dcd7-5b59-937b-0d9c7cdc2016"), 503, "unavailable")
    assert (await client.post("/v1/clips", content=CLIP, headers=OGG)).status_code == 202
    world.lost = Problem(410, "gone", "The clip was answered, and its answer has left the log; send the clip again.")
    refused(await client.get("/v1/clips/7b6f1407-dcd7-5b59-937b-0d9c7cdc2016"), 410, "gone")


async def test_what_nobody_knows_is_a_problem_document_too(client: httpx.AsyncClient) -> None:
    refused(await client.get("/v1/clips/7b6f1407-dcd7-5b59-937b-0d9c7cdc2016"), 404, "not-found")
    refused(await client.get("/v1/clips/seven"), 400, "bad-request")
    refused(await client.get("/v2"), 404, "not-found")
    refused(await client.delete("/v1/clips"), 405, "method-not-allowed")


async def test_a_fault_of_ours_shows_no_traceback(world: World, client: httpx.AsyncClient) -> None:
    world.failure = RuntimeError("a secret of the inside")
    answer = await client.post("/v1/clips", content=CLIP, headers=OGG)
    refused(answer, 500, "internal-error")
    assert "secret" not in answer.text and "Traceback" not in answer.text


async def test_species_are_named_in_the_language_asked_for(client: httpx.AsyncClient) -> None:
    said = (await client.get("/v1/species?lang=es")).json()
    assert (said["site"], said["release"]) == ("el-silencio", "own")
    assert [one["label"] for one in said["species"]] == list(LABELS)
    assert said["species"][0]["name"] == said["species"][0]["names"]["es"] == "Ñ species00"


async def test_health_readiness_metrics_and_the_description_need_no_key(client: httpx.AsyncClient) -> None:
    del client.headers["X-API-Key"]
    health = await client.get("/healthz")
    assert health.status_code == 503 and health.json()["why"] == "the broker does not answer"
    assert (await client.get("/readyz")).status_code == 200
    assert "soundscape_clips_in_total" in (await client.get("/metrics")).text
    described = (await client.get("/openapi.json")).json()["paths"]["/v1/clips"]["post"]
    assert set(described["requestBody"]["content"]) >= {"audio/ogg", "application/json", "application/x-npy"}
    assert {"200", "202", "401", "422", "503"} <= set(described["responses"])
    passing = {reason for reason, status in STATUS.items() if status == 503}
    assert {reason for reason in Reason if f"`{reason}`" in described["responses"]["422"]["description"]} == passing


async def test_a_release_that_cannot_be_read_is_its_own_sites_trouble_alone(world: World, client: httpx.AsyncClient) -> None:
    """The reader of the deployments goes on, and the other sites' releases are named as before."""
    (world.settings.releases / "broken").touch()
    champion = ReleaseRef(name="broken", digest="0" * 64)
    state = SiteDeployed(site="broken", generation=1, champion=champion, reason="test", actor="test", at=datetime.now(UTC))
    await world.sites.apply(Record(state))
    assert (await client.get("/v1/species")).status_code == 200
    client.headers["X-API-Key"] = create_key(world.settings, "everywhere")
    answer = await client.get("/v1/species?site=broken")
    assert answer.status_code == 503 and "cannot be read" in answer.json()["detail"]
