"""Labels from end to end: a sample on the log, judged over HTTP by three, a voice deleted, files in and out."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from consumers.labeler.queue import wants_second
from soundscape.denied import read_denied
from soundscape.events import ClipLabelled, ClipSampled
from soundscape.judgements import settle, standing_labels
from soundscape.kafka import new_consumer, read_all
from soundscape.settings import Port
from soundscape.testing import Stack, ogg, wait_for
from soundscape.testing_log import Log
from soundscape.topics import LABELS, PREDICTIONS, SAMPLES
from soundscape.wire import decode, encode, texts

SITE = "meadow"
"""A site of its own: samples of other tests are in nobody's queue here."""


@dataclass
class Labeler:
    """Somebody with a labeler's key."""

    url: str
    key: str

    def ask(self, method: str, path: str, status: int = 200, **said: Any) -> Any:
        """The answer's JSON, or its bytes; its status is what is expected."""
        answer = httpx.request(method, self.url + path, headers={"X-API-Key": self.key}, timeout=60.0, **said)
        assert answer.status_code == status, answer.text
        return answer.json() if "json" in answer.headers.get("content-type", "") else answer.content

    def next(self) -> dict[str, Any] | None:
        """What the queue gives."""
        answer = httpx.get(f"{self.url}/v1/queue/next", headers={"X-API-Key": self.key}, timeout=60.0)
        assert answer.status_code in (200, 204), answer.text
        return answer.json() if answer.content else None

    def label(self, clip: str, verdict: str, *labels: str, status: int = 200) -> Any:
        """Judge a clip's first window."""
        sent = {"label_id": str(uuid4()), "clip_id": clip, "start_s": 0, "end_s": 5, "verdict": verdict, "labels": labels}
        return self.ask("POST", "/v1/labels", status, json=[sent])


@pytest.fixture(scope="module")
def labelers(stack: Stack) -> Iterator[Callable[[str], Labeler]]:
    """Keys by name, on a site whose release is `tones`."""
    stack.run("deploy", "tones", "--site", SITE)
    url = stack.settings.url(Port.LABELER)
    made: dict[str, Labeler] = {}

    def labeler(name: str) -> Labeler:
        if name not in made:
            key = stack.run("key", "create", f"{SITE}-{name}", "--role", "labeler", "--site", SITE).stdout.split()[-1]
            made[name] = Labeler(url, key)
        return made[name]

    ready = labeler("ready")
    wait_for(lambda: "species" in _quiet(ready), "the labeler to know the site's species")
    yield labeler
    for name in made:
        stack.run("key", "revoke", f"{SITE}-{name}")


def _quiet(labeler: Labeler) -> dict[str, Any]:
    said: dict[str, Any] = httpx.get(f"{labeler.url}/v1/species", headers={"X-API-Key": labeler.key}, timeout=10.0).json()
    return said


def sample(log: Log, *, twice: bool = False, clip: str | None = None, **fields: Any) -> str:
    """Put a sample of five seconds on the log, of a new clip that gets a second review or not unless one is given; returns its id."""
    clip = clip or next(one for one in (str(uuid4()) for _ in range(1000)) if wants_second(one) == twice)
    said: dict[str, Any] = {
        "clip_id": clip, "stream": "meadow-recorder", "site": SITE, "reason": "flagged", "probability": 1.0, "topic": "clips",
        "partition": 0, "offset": 0, "end_s": 5.0, "sampled_at": datetime.now(UTC), "audio": ogg(5.0, 2000.0),
    }  # fmt: skip
    log.put(SAMPLES.name, encode(ClipSampled.model_validate(said | fields)))
    return clip


def given(labeler: Labeler, clip: str) -> dict[str, Any]:
    """The item of this clip, once the queue gives it."""

    def mine() -> dict[str, Any] | None:
        item = labeler.next()
        return item if item and item["clip_id"] == clip else None

    found: dict[str, Any] = wait_for(mine, f"clip {clip} in the queue", 30.0)
    return found


def labels_of(stack: Stack, clip: str) -> list[ClipLabelled]:
    """What `labels` says of a clip."""
    consumer = new_consumer(stack.settings)
    try:
        said = [decode(ClipLabelled, record.headers, record.value) for record in read_all(consumer, [LABELS.name])]
    finally:
        consumer.close()
    return [one for one in said if str(one.clip_id) == clip]


def place_of_answer(stack: Stack, clip: str) -> str:
    """Where the answer to a clip lies."""
    consumer = new_consumer(stack.settings)
    try:
        for record in read_all(consumer, [PREDICTIONS.name]):
            if texts(record.headers).get("ce_clipid") == clip:
                return f"{record.topic}:{record.partition}:{record.offset}"
    finally:
        consumer.close()
    raise AssertionError(f"no answer to {clip} on the log")


def test_a_clip_is_judged_blind_and_its_answer_shown_afterwards(
    stack: Stack, log: Log, labelers: Callable[[str], Labeler]
) -> None:
    """The sound is the one that was sampled, the answer the one that the stack gave."""
    walker = stack.run("key", "create", f"{SITE}-walker", "--site", SITE).stdout.split()[-1]
    clip = stack.post(ogg(5.0, 500.0), headers={"X-API-Key": walker}, wait=30).json()["clip_id"]
    sound = ogg(5.0, 500.0)
    sample(log, clip=clip, answer_place=place_of_answer(stack, clip), audio=sound)
    ana = labelers("ana")
    item = given(ana, clip)
    assert [(one["start_s"], one["end_s"]) for one in item["windows"]] == [(0.0, 5.0)]
    assert "low" not in str(item) and "tones" not in str(item)
    assert ana.ask("GET", f"/v1/samples/{clip}/audio") == sound
    assert ana.ask("GET", f"/v1/samples/{clip}/spectrogram/0.png")[:4] == b"\x89PNG"
    assert [one["label"] for one in ana.ask("GET", "/v1/species", params={"q": "tono low"})["species"]] == ["low"]
    shown = ana.label(clip, "species", "mid")["answers"][clip]
    assert (shown["release"], shown["reasons"]) == ("tones", ["flagged"])
    assert [one["label"] for one in shown["windows"][0]["detections"]] == ["low"]
    (event,) = labels_of(stack, clip)
    assert (event.by, event.labels, event.provenance, event.review, event.stratum) == (f"{SITE}-ana", ("mid",), "page", 1, "value")


def test_second_review_disagreement_third_and_kappa_and_all_of_it_survives_kill_9(
    stack: Stack, log: Log, labelers: Callable[[str], Labeler]
) -> None:
    """The queue follows from the log alone: the process is killed between the reviews."""
    clip = sample(log, twice=True)
    ana, ben, cleo = labelers("ana"), labelers("ben"), labelers("cleo")
    given(ana, clip)
    ana.label(clip, "species", "mid")
    given(ben, clip)
    ben.label(clip, "species", "low", "mid")
    assert settle(labels_of(stack, clip)) == {}
    before = stack.status()["labeler"]["pid"]
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: (row := stack.status()["labeler"])["healthy"] and row["pid"] != before, "the labeler to be back", 90.0)
    wait_for(lambda: "species" in _quiet(ana), "the labeler to know the site's species")
    given(cleo, clip)
    cleo.label(clip, "species", "low", "mid")
    ana.label(clip, "nothing", status=409)
    (one,) = settle(labels_of(stack, clip)).values()
    assert one.labels == {"low", "mid"}
    assert one.provenance == "agreed"
    assert one.by == (f"{SITE}-ben", f"{SITE}-cleo")
    pairs = cleo.ask("GET", "/v1/agreement")["pairs"]
    assert [(pair["labelers"], pair["windows"]) for pair in pairs] == [([f"{SITE}-ana", f"{SITE}-ben"], 1)]


def test_a_voice_is_deleted_for_good(stack: Stack, log: Log, labelers: Callable[[str], Labeler]) -> None:
    """Label, deny list, tombstone, derived files; also where a sampler that does not know yet publishes it again."""
    clip = sample(log)
    derived = stack.settings.root / "datasets" / "d" / f"{clip}_5.ogg"
    derived.parent.mkdir(parents=True, exist_ok=True)
    derived.write_bytes(b"a voice")
    ana = labelers("ana")
    given(ana, clip)
    assert ana.label(clip, "speech")["answers"][clip]["deleted"]
    assert not derived.exists()
    assert clip in read_denied(stack.settings)
    assert latest_sample(stack, clip) is None
    ana.ask("GET", f"/v1/samples/{clip}/audio", 410)
    sample(log, clip=clip)
    wait_for(lambda: latest_sample(stack, clip) is None, "the second tombstone", 30.0)


def latest_sample(stack: Stack, clip: str) -> bytes | None:
    """The sound of a clip's latest record on `samples`; None for a tombstone."""
    consumer = new_consumer(stack.settings)
    try:
        found = [record.value for record in read_all(consumer, [SAMPLES.name]) if record.key == clip.encode()]
    finally:
        consumer.close()
    assert found, f"nothing of {clip} on samples"
    value: bytes | None = found[-1]
    return value


def test_a_strangers_key_and_a_guides_key_open_nothing(stack: Stack, log: Log, labelers: Callable[[str], Labeler]) -> None:
    """Whatever the route."""
    clip = sample(log)
    given(labelers("ana"), clip)
    for key, status in (("se_stranger", 401), (stack.key, 403)):
        stranger = Labeler(stack.settings.url(Port.LABELER), key)
        for path in ("/v1/queue/next", f"/v1/samples/{clip}/audio", "/v1/species", "/v1/agreement", "/v1/progress"):
            stranger.ask("GET", path, status)
        stranger.label(clip, "nothing", status=status)
    assert labels_of(stack, clip) == []
    labelers("ana").label(clip, "nothing")


def test_labels_leave_as_files_and_come_back(stack: Stack, log: Log, labelers: Callable[[str], Labeler], tmp_path: Path) -> None:
    """A selection table of an expert who listened elsewhere; a file with one fault imports nothing."""
    clip = sample(log)
    given(labelers("ana"), clip)
    head = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies\tBegin File\n"
    table = tmp_path / "expert.txt"
    row = f"1\tSpectrogram 1\t1\t0.5\t3.0\t100\t900\tlow tone\t{clip}.ogg\n"
    table.write_text(head + row + row.replace("low tone", "high tone"))
    arguments = ("labels", "import", str(table), "--format", "raven", "--by", "dr-luz", "--site", SITE)
    refused = stack.run(*arguments, check=False)
    assert refused.returncode == 2 and "line 3" in refused.stderr and "'high tone'" in refused.stderr
    assert labels_of(stack, clip) == []
    table.write_text(head + row)
    for _ in range(2):
        stack.run(*arguments)
    (event,) = standing_labels(labels_of(stack, clip))
    assert (event.by, event.labels, event.provenance) == ("dr-luz", ("low",), "import:raven:expert.txt")
    assert len(labels_of(stack, clip)) == 1, "the second import found nothing new"
    stack.run("labels", "export", "--format", "csv", "--site", SITE, "--out", str(tmp_path / "all.csv"))
    assert f"{clip},0.0,5.0,species,low,expert,value,dr-luz" in (tmp_path / "all.csv").read_text()
    labelers("ben").label(clip, "nothing", status=409)
