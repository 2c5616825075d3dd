"""The people of the story, simulated: guides who send clips and judge the answers, labelers who say what they hear; all by HTTP."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import NAMESPACE_URL, uuid5

import httpx

from compose.demo_story import StepFailed
from soundscape.audio import SAMPLE_RATE, WINDOW_S, decode, encode_ogg
from soundscape.settings import Port, Settings

Client = Literal["guide", "power", "mobile"]
USERS: tuple[Client, ...] = ("guide", "power", "mobile")
AT_ONCE = 3
"""Clips that are on their way at the same time."""
ANSWER_S = 30
BEGAN = datetime(2026, 6, 1, 11, 0, tzinfo=UTC)
"""When the story's tours are said to be recorded."""


@dataclass(frozen=True)
class Truth:
    """Five seconds of a labelled soundscape, and who is to be heard in them."""

    ogg: bytes
    labels: frozenset[str]


@dataclass(frozen=True)
class Sent:
    """A clip that was sent and answered."""

    clip_id: str
    stream: str
    client: Client
    truth: frozenset[str]
    heard: frozenset[str]
    release: str


def truths(folder: Path) -> Iterator[Truth]:
    """The labelled soundscapes of a data folder, cut into clips of five seconds."""
    with (folder / "soundscape_labels.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["row_id"]: frozenset((row["labels"] or "").split()) for row in csv.DictReader(file)}
    width = int(WINDOW_S * SAMPLE_RATE)
    for path in sorted((folder / "train_soundscapes").glob("*.ogg")):
        if not any(name.startswith(f"{path.stem}_") for name in rows):
            continue
        sound = decode(path.read_bytes())
        for n in range(len(sound) // width):
            labels = rows.get(f"{path.stem}_{int((n + 1) * WINDOW_S)}")
            if labels is not None:
                yield Truth(encode_ogg(sound[n * width : (n + 1) * width]), labels)


class Door:
    """One of the product's HTTP doors, with a key."""

    def __init__(self, settings: Settings, port: Port, key: str) -> None:
        self._http = httpx.Client(base_url=settings.url(port), headers={"X-API-Key": key}, timeout=ANSWER_S + 30.0)

    def ask(self, method: str, path: str, **how: Any) -> Any:
        """The JSON of an answer; None for 204. Raises StepFailed for anything but success."""
        answer = self._http.request(method, path, **how)
        if not answer.is_success:
            raise StepFailed(f"{method} {path} answered {answer.status_code}: {answer.text[:300]}")
        return None if answer.status_code == httpx.codes.NO_CONTENT else answer.json()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class Guide:
    """Somebody with the app: sends clips of a tour, and says what was right."""

    def __init__(self, settings: Settings, key: str, site: str) -> None:
        self.door, self._site = Door(settings, Port.GATEWAY, key), site

    def walk(self, tours: list[str], clips: list[Truth], first: int = 0) -> list[Sent]:
        """Send the clips, spread over the tours, by all three kinds of user: a phone sends each clip twice."""

        def send(n: int) -> Sent:
            truth, tour, client = clips[n], tours[n % len(tours)], USERS[(n // len(tours)) % len(USERS)]
            moment = BEGAN + timedelta(seconds=10 * (first + n))
            asked = {"site": self._site, "tour_id": tour, "client": client, "recorded_at": moment.isoformat(), "wait": ANSWER_S}
            for _ in range(2 if client == "mobile" else 1):  # its connection breaks, and it tries again: the same clip
                said = self.door.ask("POST", "/v1/clips", content=truth.ogg, params=asked, headers={"Content-Type": "audio/ogg"})
            if said["state"] != "predicted":
                raise StepFailed(f"Clip {said['clip_id']} has no answer after {ANSWER_S} s: {said['state']}.")
            heard = frozenset(one["label"] for one in said["prediction"]["detections"])
            return Sent(said["clip_id"], tour, client, truth.labels, heard, said["prediction"]["release"])

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(send, range(len(clips))))

    def judge(self, sent: Sent) -> str | None:
        """Say whether the answer was right, and what it was if it was not; the feedback's id. None where there is nothing to say."""
        if not sent.heard and not sent.truth:
            return None
        feedback_id = str(uuid5(NAMESPACE_URL, f"story/{sent.clip_id}"))
        if sent.heard == sent.truth:
            said: dict[str, Any] = {"verdict": "right"}
        elif sent.truth:
            said = {"verdict": "species", "labels": sorted(sent.truth)}
        else:
            said = {"verdict": "wrong"}
        self.door.ask("POST", f"/v1/clips/{sent.clip_id}/feedback", json={"feedback_id": feedback_id, **said})
        return feedback_id


class Labeler:
    """Somebody at the labeler's page who knows every species."""

    def __init__(self, settings: Settings, name: str, key: str, site: str) -> None:
        self.door, self.name, self._site = Door(settings, Port.LABELER, key), name, site

    def work(self, truth_of: dict[str, frozenset[str]], most: int) -> list[str]:
        """Label what the queue gives, at most so many samples; the ids of the labels. Samples of other sounds are `unknown`."""
        labels: list[str] = []
        for _ in range(most):
            item = self.door.ask("GET", "/v1/queue/next", params={"site": self._site})
            if item is None:
                return labels
            clip, truth = item["clip_id"], truth_of.get(item["clip_id"])
            sent = []
            for window in (one for one in item["windows"] if one["asked"]):
                label_id = str(uuid5(NAMESPACE_URL, f"story/{self.name}/{clip}/{window['start_s']}"))
                verdict = "unknown" if truth is None else "species" if truth else "nothing"
                found = {"verdict": verdict, "labels": sorted(truth or ())} if verdict == "species" else {"verdict": verdict}
                sent.append({"label_id": label_id, "clip_id": clip, "start_s": window["start_s"], "end_s": window["end_s"], **found})
                labels.append(label_id)
            self.door.ask("POST", "/v1/labels", json=sent)
        return labels
