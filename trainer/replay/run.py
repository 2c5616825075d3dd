"""One replay, whatever it makes: its request, its exact plan, and the folder in which it goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import TypeAdapter

from soundscape.errors import Invalid, Reason
from soundscape.kafka import new_consumer
from soundscape.settings import Settings
from soundscape.topics import CLIPS, RECORDINGS, Topic
from trainer.replay.log import Journal, alone, finished
from trainer.replay.range import Bound, Span, bounded, resolve

CLIP_TOPICS = (CLIPS.name, RECORDINGS.name)
"""What can be replayed."""


@dataclass(frozen=True)
class Request:
    """What was asked for. A folder holds one request's replay."""

    since: Bound = None
    until: Bound = None
    topics: tuple[str, ...] = CLIP_TOPICS
    site: str | None = None
    pseudo: float | None = None
    """Least score of a pseudo-label; none are made without it."""
    release: str | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {name: value.isoformat() if isinstance(value, datetime) else _texts(value) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Plan:
    """The exact offsets of a replay, fixed at its first start."""

    clips: Span
    said: Span
    """Of the topics on which people and releases spoke of clips: all up to the range's end."""
    run_id: str


class Progress:
    """Told how a replay goes; this one keeps it to itself."""

    def begin(self, plan: Plan) -> None:
        """The plan is known, or read again where the replay goes on."""

    def done(self, topic: str, records: int) -> None:
        """So many records more were read."""


_PLAN = TypeAdapter(Plan)


def run_in(
    settings: Settings,
    request: Request,
    folder: Path,
    said: Sequence[Topic],
    progress: Progress,
    work: Callable[[Plan, Journal], dict[str, Any]],
) -> dict[str, Any]:
    """Run a replay in its folder, or go on with it; returns its manifest, at once where it had ended before.

    Raises Invalid where the range is empty, inverted or beyond the log, or the folder holds something else; Unavailable without a broker.
    """
    asked = request.plain()
    planned = None if _begun(folder, asked) else _plan(settings, request, said)
    with alone(folder):
        if (manifest := finished(folder)) is not None:
            return manifest
        journal = Journal(folder)
        journal.begin(asked, lambda: {"plan": _PLAN.dump_python(planned or _plan(settings, request, said), mode="json")})
        plan = _PLAN.validate_python(journal.head["plan"])
        progress.begin(plan)
        manifest = {"request": asked, "run_id": plan.run_id, **work(plan, journal)}
        journal.finish(manifest)
        return manifest


def _begun(folder: Path, asked: dict[str, Any]) -> bool:
    """Whether the folder holds this very request, begun or ended. Raises Invalid if it holds another, or other files."""
    found = (manifest := finished(folder)) or (Journal(folder).head if folder.is_dir() else None)
    if found:
        if found["request"] != asked:
            state = "a replay" if manifest else "an unfinished replay"
            raise Invalid(Reason.BAD_REQUEST, f"{folder} holds {state} of another request; give another folder.")
        return True
    if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise Invalid(Reason.BAD_REQUEST, f"{folder} holds other files; give a folder of its own.")
    return False


def _plan(settings: Settings, request: Request, said: Sequence[Topic]) -> Plan:
    consumer = new_consumer(settings)
    try:
        clips = resolve(consumer, request.topics, request.since, request.until)
        return Plan(clips, bounded(consumer, [topic.name for topic in said], request.until), str(uuid4()))
    finally:
        consumer.close()


def _texts(value: Any) -> Any:
    """As JSON would give it back: offsets keyed by text, lists for tuples."""
    if isinstance(value, dict):
        return {str(key): _texts(one) for key, one in value.items()}
    return list(value) if isinstance(value, tuple) else value
