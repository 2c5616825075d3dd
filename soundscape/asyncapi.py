"""The AsyncAPI 3 document and the JSON Schemas of all events, made from soundscape.events and soundscape.topics."""

from __future__ import annotations

import ast
import inspect
import json
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel

from soundscape import events
from soundscape.events import EVENTS, Event
from soundscape.settings import Port, Settings
from soundscape.topics import LANE_OF, TOPICS, Topic, group_of
from soundscape.wire import PREFIX, SOURCE, schema

Json = dict[str, Any]

VERSION = "3.0.0"
SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
BINDING_VERSION = "0.5.0"
TYPE_ROOT = "org.elsilencio."
ATTRIBUTES = {
    "specversion": {"type": "string", "const": "1.0"},
    "id": {"type": "string", "minLength": 1, "description": "The same for the same event said again."},
    "source": {"type": "string", "const": SOURCE},
    "time": {"type": "string", "format": "date-time", "description": "When the record was made."},
}
"""CloudEvents' own attributes beside `type`."""


def short_type(kind: type[Event]) -> str:
    """An event's type without the part that all share, `clip.recorded.v1`; names its schema and its folder of examples."""
    return kind.TYPE.removeprefix(TYPE_ROOT)


def schemas() -> dict[str, Json]:
    """Of every event by short type: the JSON Schema of its body, or of its headers where the body is not JSON."""
    named = {short_type(kind): headers(kind) if kind.BODY else body(kind) for kind in EVENTS}
    return {name: {"$schema": SCHEMA_DIALECT, **found} for name, found in named.items()}


def body(kind: type[Event]) -> Json:
    """JSON Schema of a JSON event's value."""
    found = schema(kind)
    for name, part in [(kind.__name__, found), *found.get("$defs", {}).items()]:
        _describe(getattr(events, name), part)
    return found


def headers(kind: type[Event]) -> Json:
    """JSON Schema of an event's headers as text: CloudEvents' attributes and extensions, and the content type."""
    attributes: Json = {**ATTRIBUTES, "type": {"type": "string", "const": kind.TYPE}}
    required = [*attributes]
    if kind.BODY is None:
        extensions = {name: {"type": "string"} for name in _extensions(kind)}
        required += extensions
    else:
        said = body(kind)
        fields = {name: part for name, part in said["properties"].items() if name not in (kind.BODY, "content_type")}
        extensions = {name.replace("_", ""): _as_text(part) for name, part in fields.items()}
        required += [name.replace("_", "") for name in fields if name in said["required"]]
    properties = {PREFIX + name: part for name, part in (attributes | extensions).items()}
    properties["content-type"] = {"type": "string", "enum": content_types(kind)}
    return {
        "title": f"{kind.__name__}, headers",
        "description": inspect.getdoc(kind),
        "type": "object",
        "properties": properties,
        "required": [*(PREFIX + name for name in required), "content-type"],
    }


def content_types(kind: type[Event]) -> list[str]:
    """Content types that an event's value may have."""
    if kind.BODY is None:
        return ["application/json"]
    field = kind.model_fields.get("content_type")
    return list(get_args(field.annotation)) if field else ["application/octet-stream"]


def document() -> Json:
    """The whole AsyncAPI document; payloads refer to the files of `schemas`."""
    kinds = {topic.event.__name__: topic.event for topic in TOPICS}
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "El Silencio Acoustic Explorer",
            "version": "1.0.0",
            "description": "Every topic, in story order. Records are CloudEvents 1.0, Kafka binding, binary mode.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {"host": Settings.model_construct().address(Port.KAFKA), "protocol": "kafka", "description": "The local stack"},
        },
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": {
            f"{process}-{verb}-{topic.name}": _operation(topic, process, action)
            for topic in TOPICS
            for verb, action, processes in (("writes", "send", topic.writers), ("reads", "receive", topic.readers))
            for process in processes
        },
        "components": {"messages": {name: part for kind in kinds.values() for name, part in _messages(kind).items()}},
    }


def _channel(topic: Topic) -> Json:
    settings = topic.config(Settings.model_construct().log_cap_gb)
    numbers = {key: json.loads(value) for key, value in settings.items() if key != "cleanup.policy"}
    return {
        "address": topic.name,
        "description": f"{topic.says} Keyed by {topic.keyed_by}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _messages(topic.event)},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "replicas": 1,
                "topicConfiguration": {"cleanup.policy": settings["cleanup.policy"].split(","), **numbers},
                "bindingVersion": BINDING_VERSION,
            }
        },
    }


def _operation(topic: Topic, process: str, action: str) -> Json:
    operation: Json = {
        "action": action,
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "messages": [{"$ref": f"#/channels/{topic.name}/messages/{name}"} for name in _messages(topic.event)],
        "tags": [{"name": process}],
    }
    if action == "receive" and topic.name in LANE_OF and process == group_of(LANE_OF[topic.name]):
        group = {"type": "string", "enum": [process]}
        operation["bindings"] = {"kafka": {"groupId": group, "bindingVersion": BINDING_VERSION}}
    return operation


def _messages(kind: type[Event]) -> dict[str, Json]:
    """One message a content type: an OGG and log-mels are one event and two payloads."""
    keyed_by = next(topic.keyed_by for topic in TOPICS if topic.event is kind)
    kinds, messages = content_types(kind), {}
    for content_type in kinds:
        name = kind.__name__ if len(kinds) == 1 else f"{kind.__name__}.{content_type.rpartition('/')[2]}"
        payload: Json = {"type": "string", "format": "binary", "contentMediaType": content_type}
        messages[name] = {
            "name": kind.TYPE,
            "title": kind.__name__,
            "summary": inspect.getdoc(kind),
            "contentType": content_type,
            "headers": {"$ref": f"./schemas/{short_type(kind)}.json"} if kind.BODY else headers(kind),
            "payload": payload if kind.BODY else {"$ref": f"./schemas/{short_type(kind)}.json"},
            "bindings": {"kafka": {"key": {"type": "string", "description": f"The {keyed_by}."}, "bindingVersion": BINDING_VERSION}},
        }
    return messages


def _extensions(kind: type[Event]) -> list[str]:
    return list(kind.model_construct(None, **dict.fromkeys(kind.model_fields, "")).extensions())


def _as_text(part: Json) -> Json:
    """A field's schema as it stands in a header: text as it is, anything else as JSON text."""
    said = {"description": part["description"]} if "description" in part else {}
    options = [option for option in part.get("anyOf", [part]) if option.get("type") != "null"]
    kept = ("type", "format", "pattern", "enum", "const", "minLength", "maxLength")
    if options[0].get("type") == "string":
        return {**{key: value for key, value in options[0].items() if key in kept}, **said}
    return {"type": "string", "contentMediaType": "application/json", **said, "examples": [_example(options[0])]}


def _example(option: Json) -> str:
    return {"boolean": "false", "integer": "0"}.get(option["type"], "0.5")


def _describe(kind: type[BaseModel], part: Json) -> None:
    """Put the string that stands below a field in the source into the field's schema."""
    for name, said in _attribute_docs().get(kind.__name__, {}).items():
        if name in part["properties"]:
            part["properties"][name]["description"] = said


@cache
def _attribute_docs() -> dict[str, dict[str, str]]:
    """{class: {field: docstring}} of soundscape.events; a subclass has its base's too."""
    docs: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(events)).body:
        if isinstance(node, ast.ClassDef):
            mine = {}
            for field, after in zip(node.body, node.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
                    mine[field.target.id] = inspect.cleandoc(ast.literal_eval(after.value))
            inherited = [docs.get(base.id, {}) for base in node.bases if isinstance(base, ast.Name)]
            docs[node.name] = {name: said for one in inherited for name, said in one.items()} | mine
    return docs
