"""What one step of the story leaves for the next, and what several steps ask of it."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compose.demo_story import StepFailed, Story
from compose.story_log import events
from compose.story_people import Guide, Labeler, Sent, Truth
from soundscape.events import ClipAnalysed, SiteDeployed
from soundscape.release import RELEASE_FILE, load_release, write_release
from soundscape.settings import Settings
from soundscape.topics import DEPLOYMENTS

SITE = "story"
TOURS_AT_ONCE = 8


@dataclass
class Tale:
    """What one step leaves for the next."""

    story: Story
    settings: Settings
    home: Path
    champion: str = ""
    candidate: str = ""
    guide: Guide | None = None
    labelers: list[Labeler] = field(default_factory=list)
    clips: list[Truth] = field(default_factory=list)
    used: int = 0
    sent: list[Sent] = field(default_factory=list)
    judged: list[str] = field(default_factory=list)
    dataset: Path = Path()
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    tour_names: list[str] = field(default_factory=list)

    @property
    def forest(self) -> Path:
        """Where the champion's data lies."""
        return self.home / "forest"

    @property
    def other(self) -> Path:
        """Where the data lies that is only judged by."""
        return self.home / "judged-by"

    def begin(self, names: list[str]) -> None:
        """Start the tours that clips are sent of from now on."""
        assert self.guide is not None
        self.tour_names = names
        for name in names:
            self.guide.door.ask("POST", "/v1/tours", json={"tour_id": name, "site": SITE})

    def walk(self, count: int) -> list[Sent]:
        """Send the next clips of the tours; the clips begin again where they end."""
        assert self.guide is not None
        chosen = [self.clips[(self.used + n) % len(self.clips)] for n in range(count)]
        sent = self.guide.walk(self.tour_names, chosen, self.used)
        self.used += count
        self.sent += sent
        return sent

    def key(self, name: str, role: str) -> str:
        """A new key of the site; it stays out of every log."""
        return self.story.run("key", "create", name, "--role", role, "--site", SITE, secret=True)[-1].split()[-1]

    def command(self, *arguments: str) -> dict[str, Any]:
        """What a command says as JSON. Raises StepFailed."""
        said: dict[str, Any] = as_json(self.story.run(*arguments, "--json"))
        return said


def as_json(lines: list[str]) -> Any:
    """The JSON that a command ends with, on one line or on several. Raises StepFailed where there is none."""
    for first in (n for n, line in enumerate(lines) if line[:1] in ("{", "[")):
        with suppress(json.JSONDecodeError):
            return json.loads("\n".join(lines[first:]))
    raise StepFailed(f"A command ended without JSON: {lines[-1:]}")


def state_of(tale: Tale) -> tuple[str, SiteDeployed]:
    """(place, state): what answers the site, as `deployments` says last. Raises StepFailed where nothing does, Unavailable."""
    found = events(tale.settings, DEPLOYMENTS, SiteDeployed, lambda one: one.site == SITE)
    if not found:
        raise StepFailed(f"Nothing is deployed to site {SITE}.")
    return list(found.items())[-1]


def answered(tale: Tale, topic: Any, sent: list[Sent]) -> dict[str, ClipAnalysed]:
    """The latest answers of these clips on a topic, by place."""
    mine = {one.clip_id for one in sent}
    latest: dict[str, tuple[str, ClipAnalysed]] = {}
    for place, answer in events(tale.settings, topic, ClipAnalysed, lambda one: str(one.clip_id) in mine).items():
        latest[str(answer.clip_id)] = place, answer
    return dict(latest.values())


def all_of(tale: Tale, topic: Any, sent: list[Sent]) -> dict[str, ClipAnalysed]:
    """The same once there is one of every clip, else nothing."""
    found = answered(tale, topic, sent)
    return found if len(found) == len({one.clip_id for one in sent}) else {}


def rotate(settings: Settings, release: str) -> str:
    """The same release with its labels rotated by one; its name."""
    name = f"{release}-rotated"
    folder = settings.releases / name
    if not (folder / RELEASE_FILE).is_file():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(settings.releases / release, folder)
        before = load_release(folder).release
        member = before.members[0]
        turned = member.model_copy(update={"labels": (*member.labels[1:], member.labels[0])})
        write_release(folder, before.model_copy(update={"name": name, "members": (turned,)}))
    return name
