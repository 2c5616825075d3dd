"""The labeler's door, with the log played by a fake: samples out, labels in, answers shown, strangers refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import httpx
import pytest

from consumers.labeler.app import PAGE, create_app
from consumers.labeler.desk import Desk
from consumers.labeler.erase import erase
from consumers.labeler.pictures import axis, draw
from consumers.labeler.queue import wants_second
from consumers.labeler.schemas import MAX_BODY_BYTES, MAX_LABELS
from consumers.labeler.shelf import Sample, Shelf, sample_of
from consumers.labeler.species import SpeciesList
from soundscape.errors import Unavailable
from soundscape.events import (
    NAMESPACE,
    ClipAnalysed,
    ClipLabelled,
    ClipSampled,
    Detection,
    Names,
    Place,
    Stages,
    Window,
)
from soundscape.features import LOG_MEL
from soundscape.keys import KeyRing, create_key, keys_file, revoke_key
from soundscape.settings import Settings
from soundscape.taxonomy import Species
from soundscape.testing import ogg, tone

NOW = datetime(2026, 3, 1, 6, tzinfo=UTC)
SPECIES = [
    Species(label="tinamu", scientific="Nothocercus bonapartei", en="Highland Tinamou", es="Tinamú serrano", taxon="Aves"),
    Species(label="pava", scientific="Penelope montagnii", en="Andean Guan", es="Pava andina", taxon="Aves"),
    Species(label="rana", scientific="Andinobates opisthomelas", en="Andean Poison Frog", es="Rana venenosa andina", taxon="Amphibia"),
]
ONCE = next(name for name in map(str, range(99)) if not wants_second(str(uuid5(NAMESPACE, name))))
TWICE = next(name for name in map(str, range(99)) if wants_second(str(uuid5(NAMESPACE, name))))
"""Names of a clip that gets one review, and of one that gets two."""


class World:
    """Everything around the app: what lies on the log, and what was said."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.shelf = settings, Shelf()
        self.sounds: dict[str, bytes] = {}
        self.answers: dict[str, ClipAnalysed] = {}
        self.said: list[ClipLabelled] = []
        self.buried: list[str] = []
        self.away = self.no_burial = False
        self.offset = 0
        self.desk = Desk(settings, self.shelf, self, self, self)
        self.app = create_app(self.desk, KeyRing(keys_file(settings)), self.health)
        self.shelf.ready.set()

    def health(self) -> dict[str, Any]:
        return {"healthy": not self.away, "why": "gone" if self.away else ""}

    def sample(self, name: str, *, seconds: float = 5.0, reason: Any = "flagged", site: str = "s", start_s: float = 0.0) -> Sample:
        """Put a sample on the log, with an answer that names `tinamu` in its first window."""
        clip = uuid5(NAMESPACE, name)
        self.offset += 1
        windows = round(seconds / 5)
        event = ClipSampled(
            clip_id=clip, stream="REC", site=site, reason=reason, probability=1, topic="clips", partition=0, offset=1, start_s=start_s,
            end_s=start_s + seconds, recorder="REC", answer_place="predictions:0:1", sampled_at=NOW, audio=ogg(seconds),
        )  # fmt: skip
        sample = sample_of(event, Place(topic="samples", partition=0, offset=self.offset))
        self.sounds[sample.clip_id] = event.audio
        self.answers[sample.clip_id] = analysed(clip, start_s, windows)
        self.shelf.sampled(sample)
        return sample

    def sound(self, sample: Sample) -> bytes | None:
        return self.sounds.get(sample.clip_id)

    def answer(self, sample: Sample) -> ClipAnalysed | None:
        return self.answers.get(sample.clip_id)

    def label(self, event: ClipLabelled) -> int:
        if self.away:
            raise Unavailable("The broker did not answer.")
        self.said.append(event)
        return len(self.said)

    def forget(self, clip_id: str) -> int:
        if self.no_burial:
            raise Unavailable("The broker did not answer.")
        self.buried.append(clip_id)
        self.offset += 1
        return self.offset

    async def run(self, work: Any, *given: Any) -> Any:
        return work(*given)

    def of(self, site: str) -> SpeciesList:
        if site != "s":
            raise Unavailable(f"Site {site} has no release.")
        return SpeciesList(SPECIES)


def analysed(clip: UUID, start_s: float, windows: int) -> ClipAnalysed:
    """An answer over `tinamu` and `rana`: tinamu in the first window."""
    first, last = (start_s, start_s + 5.0), start_s + 5.0 * windows
    starts = [first[0] + 5.0 * n for n in range(windows)]
    return ClipAnalysed(
        clip_id=clip, stream="REC", site="s", place=Place(topic="clips", partition=0, offset=1), release="r1", release_digest="d",
        generation=1, feature_fingerprints=("f",), labels=("rana", "tinamu"),
        windows=tuple(Window(start_s=s, end_s=s + 5, scores=(0.2, 0.9 if s == first[0] else 0.1)) for s in starts if s < last),
        detections=(
            Detection(
                label="tinamu", names=Names(scientific="Nothocercus bonapartei", en="Highland Tinamou", es="Tinamú serrano"),
                taxon="Aves", confidence=0.9, unweighted=0.9, threshold=0.5, start_s=first[0], end_s=first[1],
            ),
        ),
        stages=Stages(published=NOW, received=NOW, decoded=NOW, features=NOW, inferred=NOW, predicted=NOW),
    )  # fmt: skip


class Labeler:
    """Somebody with a key."""

    def __init__(self, client: httpx.AsyncClient, key: str) -> None:
        self.client, self.headers = client, {"X-API-Key": key}
        self.count = 0

    async def get(self, path: str, **query: str) -> httpx.Response:
        return await self.client.get(path, headers=self.headers, params=query)

    async def post(self, path: str, body: Any) -> httpx.Response:
        return await self.client.post(path, headers=self.headers, json=body)

    async def label(self, sample: Sample, verdict: str = "nothing", *labels: str, window: int = 0, **fields: Any) -> httpx.Response:
        """Label one window."""
        return await self.post("/v1/labels", [self.sent(sample, verdict, *labels, window=window, **fields)])

    def sent(self, sample: Sample, verdict: str = "nothing", *labels: str, window: int = 0, **fields: Any) -> dict[str, Any]:
        """A label as it is sent, with an id of its own."""
        self.count += 1
        start, end = sample.windows[window]
        said = {"label_id": f"{id(self)}-{self.count}", "clip_id": sample.clip_id, "start_s": start, "end_s": end, "verdict": verdict}
        return said | {"labels": list(labels)} | fields


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A desk with nothing on it."""
    return World(Settings(data_dir=tmp_path))


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """The app over HTTP."""
    transport = httpx.ASGITransport(world.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://labeler") as client:
        yield client


@pytest.fixture
def people(world: World, client: httpx.AsyncClient) -> dict[str, Labeler]:
    """Three labelers of site s."""
    return {name: Labeler(client, create_key(world.settings, name, "labeler", "s")) for name in ("ana", "ben", "cleo")}


def files_of(folder: Path) -> list[Path]:
    """All files below a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


def refused(response: httpx.Response, status: int, *words: str) -> None:
    """A problem document that says these words."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json().keys() == {"type", "title", "status", "detail", "reason"}
    for word in words:
        assert word in response.json()["detail"]


async def test_only_labelers_and_operators_are_let_in(world: World, client: httpx.AsyncClient) -> None:
    sample = world.sample(ONCE)
    guide, operator = create_key(world.settings, "guide", "guide"), create_key(world.settings, "boss", "operator")
    gone = create_key(world.settings, "gone", "labeler")
    revoke_key(world.settings, "gone")
    routes = [
        ("GET", "/v1/me"), ("GET", "/v1/queue/next"), ("GET", f"/v1/samples/{sample.clip_id}/audio"), ("GET", "/v1/species"),
        ("GET", f"/v1/samples/{sample.clip_id}/spectrogram/0.png"), ("POST", "/v1/labels"), ("POST", "/v1/labels/x/withdraw"),
        ("GET", "/v1/agreement"), ("GET", "/v1/progress"),
    ]  # fmt: skip
    for method, path in routes:
        refused(await client.request(method, path), 401, "missing", "soundscape key create")
        refused(await client.request(method, path, headers={"X-API-Key": gone}), 401, "revoked")
        refused(await client.request(method, path, headers={"X-API-Key": guide}), 403, "labeler")
    assert (await client.get("/v1/queue/next", params={"site": "s"}, headers={"X-API-Key": operator})).status_code == 200
    assert world.said == []


async def test_the_page_needs_no_key_and_nothing_in_it_comes_from_elsewhere(client: httpx.AsyncClient) -> None:
    for path, kind in (("/", "text/html"), ("/page/page.js", "text/javascript"), ("/page/page.css", "text/css")):
        response = await client.get(path)
        assert response.status_code == 200
        assert response.headers["content-type"].startswith(kind)
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert "https://" not in response.text
    for path in ("/page/app.py", "/page/..%2fapp.py", "/page/", "/v2"):
        refused(await client.get(path), 404)
    assert {path.name for path in PAGE.iterdir()} == {"index.html", "page.js", "page.css"}


async def test_health_and_metrics_are_as_of_every_process(world: World, client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"healthy": True, "why": ""}
    world.away = True
    sick = await client.get("/healthz")
    assert (sick.status_code, sick.json()["why"]) == (503, "gone")
    assert "soundscape_consumer_lag" in (await client.get("/metrics")).text


async def test_a_sample_is_handed_out_with_its_sound_and_pictures_and_without_the_answer(world: World, people: dict[str, Labeler]) -> None:
    sample = world.sample(ONCE, seconds=10, start_s=20.0)
    item = (await people["ana"].get("/v1/queue/next")).json()
    assert item["clip_id"] == sample.clip_id
    assert [(one["start_s"], one["end_s"], one["asked"]) for one in item["windows"]] == [(20, 25, True), (25, 30, True)]
    hidden = json.dumps(item)
    assert not any(word in hidden for word in ("flagged", "tinamu", "r1", "reason"))
    sound = await people["ana"].get(f"/v1/samples/{sample.clip_id}/audio")
    assert (sound.content, sound.headers["content-type"]) == (world.sounds[sample.clip_id], "audio/ogg")
    assert sound.headers["cache-control"] == "no-store"
    for n in range(2):
        picture = await people["ana"].get(f"/v1/samples/{sample.clip_id}/spectrogram/{n}.png")
        assert picture.content.startswith(b"\x89PNG")
    refused(await people["ana"].get(f"/v1/samples/{sample.clip_id}/spectrogram/2.png"), 404, "2 windows")
    assert (await people["ben"].get("/v1/queue/next")).status_code == 204, "it is leased"


async def test_a_label_is_an_event_with_author_stratum_and_review_and_opens_the_answer(world: World, people: dict[str, Labeler]) -> None:
    sample = world.sample(ONCE, reason="random")
    response = await people["ana"].label(sample, "species", "rana", "tinamu", note="far")
    (event,) = world.said
    assert (event.by, event.provenance, event.stratum, event.review, event.note) == ("ana", "page", "random", 1, "far")
    assert (event.verdict, event.labels, event.stream, event.site) == ("species", ("rana", "tinamu"), "REC", "s")
    answer = response.json()["answers"][sample.clip_id]
    assert (answer["hidden"], answer["reasons"], answer["release"]) == (False, ["random"], "r1")
    (window,) = answer["windows"]
    assert [one["label"] for one in window["detections"]] == ["tinamu"]
    assert [(one["label"], one["score"]) for one in window["top"]] == [("tinamu", 0.9), ("rana", 0.2)]
    assert window["top"][1]["names"]["es"] == "Rana venenosa andina"
    assert (await people["ana"].get("/v1/queue/next")).status_code == 204


async def test_the_same_label_again_is_said_once_and_a_changed_one_replaces_it(world: World, people: dict[str, Labeler]) -> None:
    sample = world.sample(ONCE)
    sent = people["ana"].sent(sample, "species", "rana")
    answers = [await people["ana"].post("/v1/labels", [sent]) for _ in range(100)]
    assert {one.status_code for one in answers} == {200}
    assert len({json.dumps(one.json()) for one in answers}) == 1
    assert len(world.said) == 1
    await people["ana"].post("/v1/labels", [sent | {"labels": ["pava"]}])
    assert [one.labels for one in world.shelf.labels()] == [("pava",)]
    refused(await people["ben"].post("/v1/labels", [sent]), 409, "belongs to another")
    refused(await people["ana"].label(sample, "nothing"), 409, "already", sent["label_id"])


async def test_the_answer_stays_hidden_where_labels_measure_until_every_window_is_judged(world: World, people: dict[str, Labeler]) -> None:
    measured, taught = world.sample(ONCE, seconds=10, reason="random"), world.sample(f"{ONCE} once more", seconds=10)
    first = (await people["ana"].label(measured, window=0)).json()["answers"][measured.clip_id]
    assert first == {"hidden": True, "reasons": [], "release": None, "windows": []}
    second = (await people["ana"].label(measured, window=1)).json()["answers"][measured.clip_id]
    assert not second["hidden"] and len(second["windows"]) == 2
    assert not (await people["ana"].label(taught, window=0)).json()["answers"][taught.clip_id]["hidden"]


async def test_a_settled_window_takes_no_other_label(world: World, people: dict[str, Labeler]) -> None:
    sample = world.sample(ONCE)
    await people["ana"].label(sample, "species", "rana")
    refused(await people["ben"].label(sample, "nothing"), 409, "settled already", "/v1/queue/next", "ana")
    assert len(world.said) == 1


async def test_second_and_third_reviews_and_agreement(world: World, people: dict[str, Labeler]) -> None:
    sample = world.sample(TWICE)
    await people["ana"].label(sample, "species", "rana")
    assert (await people["ana"].get("/v1/queue/next")).status_code == 204
    item = (await people["ben"].get("/v1/queue/next")).json()
    assert item["clip_id"] == sample.clip_id and item["whole"]
    await people["ben"].label(sample, "species", "pava")
    progress = (await people["ben"].get("/v1/progress")).json()
    assert (progress["samples"], progress["third"], progress["settled"]) == (1, 1, 0)
    assert (await people["cleo"].get("/v1/queue/next")).json()["clip_id"] == sample.clip_id
    await people["cleo"].label(sample, "species", "pava")
    assert [one.review for one in world.said] == [1, 2, 3]
    assert (await people["ana"].get("/v1/progress")).json()["settled"] == 1
    pairs = (await people["ana"].get("/v1/agreement")).json()["pairs"]
    assert pairs == [{"labelers": ["ana", "ben"], "kappa": 0.0, "windows": 1}]


async def test_undo_withdraws_a_label_and_its_sample_comes_back(world: World, people: dict[str, Labeler]) -> None:
    sample = world.sample(ONCE)
    sent = people["ana"].sent(sample, "unknown")
    await people["ana"].post("/v1/labels", [sent])
    path = f"/v1/labels/{sent['label_id']}/withdraw"
    refused(await people["ben"].post(path, {}), 403, "ana")
    refused(await people["ana"].post("/v1/labels/none/withdraw", {}), 404)
    for _ in range(2):
        assert (await people["ana"].post(path, {})).json()["verdict"] == "withdrawn"
    assert [one.verdict for one in world.said] == ["unknown", "withdrawn"]
    assert (await people["ben"].get("/v1/queue/next")).json()["clip_id"] == sample.clip_id
    await people["ana"].post("/v1/labels", [sent])
    assert [one.verdict for one in world.shelf.labels()] == ["unknown"]


async def test_speech_deletes_the_sound_and_what_was_made_of_it(world: World, people: dict[str, Labeler], tmp_path: Path) -> None:
    sample, other = world.sample(ONCE), world.sample(f"{ONCE} once more")
    kept = tmp_path / "archive" / f"{other.clip_id}.ogg"
    for path in (tmp_path / "datasets" / "d1" / f"{sample.clip_id}_5.ogg", tmp_path / "datasets" / sample.clip_id / "a.npy", kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    await people["ana"].get(f"/v1/samples/{sample.clip_id}/audio")
    response = await people["ana"].label(sample, "speech")
    assert response.json()["answers"][sample.clip_id]["deleted"]
    assert world.buried == [sample.clip_id]
    assert world.shelf.denied(sample.clip_id)
    assert files_of(tmp_path / "datasets") == []
    assert files_of(tmp_path / "archive") == [kept]
    refused(await people["ana"].get(f"/v1/samples/{sample.clip_id}/audio"), 410, "deleted")
    refused(await people["ben"].label(sample, "nothing"), 410, "deleted")
    assert (await people["ana"].get("/v1/queue/next")).json()["clip_id"] == other.clip_id


async def test_speech_is_believed_even_of_a_settled_window(world: World, people: dict[str, Labeler]) -> None:
    sample = world.sample(ONCE)
    await people["ana"].label(sample, "nothing")
    assert (await people["ben"].label(sample, "speech")).status_code == 200
    assert world.buried == [sample.clip_id]


async def test_a_crash_between_label_and_tombstone_is_made_good(world: World, people: dict[str, Labeler]) -> None:
    sample = world.sample(ONCE)
    sent = people["ana"].sent(sample, "speech")
    world.no_burial = True
    refused(await people["ana"].post("/v1/labels", [sent]), 503)
    assert (len(world.said), world.buried) == (1, [])
    world.no_burial = False
    world.desk.sweep()
    assert world.buried == [sample.clip_id]
    world.desk.sweep()
    assert world.buried == [sample.clip_id]
    assert (await people["ana"].post("/v1/labels", [sent])).status_code == 200


async def test_what_contradicts_itself_is_refused_whole(world: World, people: dict[str, Labeler]) -> None:
    sample = world.sample(ONCE, seconds=10)
    ana = people["ana"]
    refused(await ana.label(sample, "species"), 422, "names none")
    refused(await ana.label(sample, "nothing", "rana"), 422, "say one of both")
    refused(await ana.label(sample, "species", "rana", "dodo", "moa"), 422, "dodo, moa", "/v1/species")
    refused(await ana.label(sample, start_s=2.5, end_s=7.5), 422, "no window")
    twice = [ana.sent(sample, "nothing"), ana.sent(sample, "species", "rana")]
    refused(await ana.post("/v1/labels", twice), 422, "twice")
    mixed = [ana.sent(sample, "nothing", window=0), ana.sent(sample, "species", "dodo", window=1)]
    refused(await ana.post("/v1/labels", mixed), 422, "dodo")
    assert world.said == []


async def test_what_is_no_label_is_refused(world: World, people: dict[str, Labeler], client: httpx.AsyncClient) -> None:
    sample, ana = world.sample(ONCE), people["ana"]
    good = ana.sent(sample)
    bad: list[Any] = [
        [], {}, "x", [good | {"verdict": "maybe"}], [good | {"by": "ben"}], [good | {"clip_id": "x"}], [good | {"start_s": -1}],
        [good | {"start_s": 1e9}], [good | {"label_id": ""}], [good | {"label_id": "x" * 201}], [good | {"note": "x" * 2001}],
        [good | {"labels": ["x"] * 51}], [good] * (MAX_LABELS + 1), [good | {"label_id": "a/b"}],
    ]  # fmt: skip
    for body in bad:
        refused(await ana.post("/v1/labels", body), 400)
    refused(await client.post("/v1/labels", content=b"[" + b" " * MAX_BODY_BYTES + b"]", headers=ana.headers), 413)
    refused(await client.post("/v1/labels", content=b"no json", headers=ana.headers), 400)
    assert world.said == []


async def test_unknown_clips_and_other_sites_are_404(world: World, people: dict[str, Labeler], client: httpx.AsyncClient) -> None:
    stranger = Labeler(client, create_key(world.settings, "stranger", "labeler", "elsewhere"))
    sample = world.sample(ONCE)
    refused(await people["ana"].get(f"/v1/samples/{UUID(int=1)}/audio"), 404, "/v1/queue/next")
    refused(await people["ana"].get("/v1/samples/x/audio"), 400)
    refused(await stranger.get(f"/v1/samples/{sample.clip_id}/audio"), 404)
    refused(await stranger.label(sample), 404)
    refused(await stranger.get("/v1/queue/next", site="s"), 404)
    assert (await stranger.get("/v1/queue/next")).status_code == 204
    sent = people["ana"].sent(sample)
    await people["ana"].post("/v1/labels", [sent])
    refused(await stranger.post(f"/v1/labels/{sent['label_id']}/withdraw", {}), 404)
    assert len(world.said) == 1


async def test_a_sound_that_is_gone_is_said_and_the_next_sample_comes(world: World, people: dict[str, Labeler]) -> None:
    gone, noise, good = world.sample("a"), world.sample("b"), world.sample("c")
    del world.sounds[gone.clip_id]
    world.sounds[noise.clip_id] = b"OggS is not enough"
    assert (await people["ana"].get("/v1/queue/next")).json()["clip_id"] == good.clip_id
    again = world.sample("a")
    del world.sounds[again.clip_id]
    refused(await people["ben"].get(f"/v1/samples/{again.clip_id}/audio"), 410, "no longer on the log")


async def test_an_answer_that_is_gone_is_said_and_the_label_stands(world: World, people: dict[str, Labeler]) -> None:
    sample = world.sample(ONCE)
    world.answers.clear()
    answer = (await people["ana"].label(sample)).json()["answers"][sample.clip_id]
    assert (answer["hidden"], answer["release"], answer["windows"]) == (False, None, [])


async def test_a_broker_that_is_away_is_said_and_nothing_is_half_taken(world: World, people: dict[str, Labeler]) -> None:
    sample = world.sample(ONCE)
    sent = people["ana"].sent(sample)
    world.away = True
    refused(await people["ana"].post("/v1/labels", [sent]), 503, "broker")
    assert world.shelf.labels() == []
    world.away = False
    assert (await people["ana"].post("/v1/labels", [sent])).status_code == 200
    world.shelf.ready.clear()
    refused(await people["ana"].get("/v1/queue/next"), 503, "still being read")


async def test_a_length_that_nobody_said_is_measured_before_labels_are_judged(world: World, people: dict[str, Labeler]) -> None:
    import dataclasses

    whole = world.sample(ONCE, seconds=15)
    open_ended = dataclasses.replace(whole, end_s=None, place=Place(topic="samples", partition=0, offset=99))
    world.shelf.sampled(open_ended)
    assert (await people["ana"].label(whole, window=2)).status_code == 200
    item = (await people["ana"].get("/v1/queue/next")).json()
    assert [one["asked"] for one in item["windows"]] == [True, True, False]


async def test_species_are_found_in_three_languages_without_accents(people: dict[str, Labeler]) -> None:
    async def found(text: str) -> list[str]:
        return [one["label"] for one in (await people["ana"].get("/v1/species", q=text)).json()["species"]]

    assert await found("tinamu") == ["tinamu"]
    assert await found("TINAMÚ SERR") == ["tinamu"]
    assert await found("nothocercus") == ["tinamu"]
    assert await found("andean") == ["pava", "rana"]
    assert await found("frog andean") == ["rana"]
    assert await found("andina") == ["pava", "rana"]
    assert await found("moa") == []
    assert len(await found("")) == len(SPECIES)
    refused(await people["ana"].get("/v1/species", q="x" * 101), 400)


def test_the_axis_says_where_the_features_put_a_tone() -> None:
    for tick in axis():
        if 400 < tick["hz"] < 12000:
            band = LOG_MEL.compute(tone(5.0, tick["hz"]))[0].mean(axis=1).argmax()
            assert tick["at"] * LOG_MEL.n_mels == pytest.approx(band + 0.5, abs=1.0), tick


def test_a_sound_has_a_picture_a_window() -> None:
    drawn = draw(ogg(12.0))
    assert drawn.seconds == pytest.approx(12.0, abs=0.1)
    assert len(drawn.pictures) == 3


def test_nothing_but_the_clips_own_files_is_erased(tmp_path: Path) -> None:
    settings, clip = Settings(data_dir=tmp_path), str(UUID(int=7))
    outside = tmp_path / "elsewhere" / f"{clip}.ogg"
    inside = tmp_path / "datasets" / f"{clip}.ogg"
    other = tmp_path / "datasets" / "other.ogg"
    for path in (outside, inside, other):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / clip).symlink_to(outside.parent)
    assert set(erase(settings, clip)) == {inside, tmp_path / "archive" / clip}
    assert outside.exists() and other.exists() and not inside.exists()
    assert erase(settings, clip) == []
    with pytest.raises(ValueError):
        erase(settings, "")
