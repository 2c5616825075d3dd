"""What is said stays readable: every example decodes, every event has one, bodies are frozen, closed and versioned."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel

from soundscape import asyncapi, events
from soundscape.events import EVENTS, Event
from soundscape.topics import TOPICS, by_name
from soundscape.wire import ORIGINAL, decode, encode

EXAMPLES = Path(__file__).parent / "examples"
PATHS = sorted(EXAMPLES.glob("*/*.json"))
KINDS = {asyncapi.short_type(kind): kind for kind in EVENTS}


def _said(path: Path) -> tuple[dict[str, Any], bytes]:
    said = json.loads(path.read_text(encoding="utf-8"))
    value = json.dumps(said["value"]).encode() if "value" in said else base64.b64decode(said["value_base64"])
    return said, value


def _decoded(path: Path) -> Event:
    said, value = _said(path)
    return decode(by_name(said["topic"]).event, {name: text.encode() for name, text in said["headers"].items()}, value)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_example_decodes_and_is_said_the_same_way_again(path: Path) -> None:
    """An example is never edited: what once was on the log must be understood, with the same key, headers and value."""
    said, value = _said(path)
    event = _decoded(path)
    assert asyncapi.short_type(type(event)) == path.parent.name

    again = encode(event)
    assert again.key.decode() == said["key"]
    mine = {name: text for name, text in said["headers"].items() if name != "ce_time" and not name.startswith(ORIGINAL)}
    spoken = {name: text.decode() for name, text in again.headers if name != "ce_time"}
    moments = {name for name in mine if name.endswith("at")}
    assert {k: v for k, v in spoken.items() if k not in moments} == {k: v for k, v in mine.items() if k not in moments}
    assert spoken.keys() == mine.keys()
    if event.BODY is None:
        assert decode(type(event), again.headers, again.value) == event
    else:
        assert again.value == value


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_example_holds_by_the_schemas(path: Path) -> None:
    """What the committed schemas promise to others is what we say."""
    said, _ = _said(path)
    kind = by_name(said["topic"]).event
    jsonschema.validate(said["headers"], asyncapi.headers(kind))
    if "value" in said:
        jsonschema.validate(said["value"], asyncapi.body(kind))


@pytest.mark.parametrize("name", KINDS)
def test_every_field_of_every_event_stands_in_an_example(name: str) -> None:
    """A field that was taken away, or renamed, then fails to decode."""
    kind, shown = KINDS[name], set()
    for path in (EXAMPLES / name).glob("*.json"):
        event = _decoded(path)
        shown |= {field for field in kind.model_fields if getattr(event, field) not in (None, "", (), b"")}
    assert set(kind.model_fields) - shown == set()


def test_every_folder_of_examples_belongs_to_an_event() -> None:
    """An event that is no longer read leaves its examples behind: then reading it was forgotten, not finished."""
    assert {path.parent.name for path in PATHS} == KINDS.keys()


def test_bodies_are_frozen_closed_and_versioned() -> None:
    """Every model that events are made of, parts included."""
    models = [thing for thing in vars(events).values() if isinstance(thing, type) and issubclass(thing, BaseModel)]
    ours = [model for model in models if model.__module__.startswith("soundscape.")]
    assert len(ours) > len(EVENTS)
    open_models = [m.__name__ for m in ours if not m.model_config.get("frozen") or m.model_config.get("extra") != "forbid"]
    assert open_models == []
    assert [kind.TYPE for kind in EVENTS if not re.fullmatch(r"org\.elsilencio\.[a-z]+\.[a-z]+\.v[1-9]", kind.TYPE)] == []
    assert len({kind.TYPE for kind in EVENTS}) == len(EVENTS)


def test_every_event_has_a_topic_and_every_topic_an_event() -> None:
    """Nothing is declared that nobody can say, and nothing said that is not declared."""
    assert {topic.event.TYPE for topic in TOPICS} == {kind.TYPE for kind in EVENTS}
