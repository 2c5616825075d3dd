"""`soundscape topics apply`: the broker's topics made as soundscape.topics declares them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import click
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import TopicAlreadyExistsError

from soundscape.errors import Invalid, Reason
from soundscape.kafka import broker_errors, new_admin
from soundscape.settings import Settings, get_settings
from soundscape.topics import CHANGELOGS, TOPICS

ALL = (*TOPICS, *CHANGELOGS)
"""What the broker is to have."""


def apply_topics(settings: Settings) -> list[str]:
    """Create what is missing and mend settings that differ; returns a line for each difference found, none if all is right.

    Raises Invalid if a keyed topic has another number of partitions: its keys would move. Raises Unavailable without a broker.
    """
    admin = new_admin(settings)
    try:
        with broker_errors():
            return _apply(admin, settings)
    finally:
        admin.close()


def _apply(admin: Any, settings: Settings) -> list[str]:
    lines: list[str] = []
    there = set(admin.list_topics())
    missing = [topic for topic in ALL if topic.name not in there]
    if missing:
        wanted_topics = [
            NewTopic(name=t.name, num_partitions=t.partitions, replication_factor=1, topic_configs=t.config(settings.log_cap_gb))
            for t in missing
        ]
        with suppress(TopicAlreadyExistsError):  # another `topics apply` beside this one
            admin.create_topics(wanted_topics)
        admin.wait_for_topics([t.name for t in missing])
        lines += [f"{t.name}: created with {t.partitions} partitions" for t in missing]
    present = [topic for topic in ALL if topic.name in there]
    if not present:
        return lines
    counts = {one["name"]: len(one["partitions"]) for one in admin.describe_topics([t.name for t in present])}
    for topic in present:
        if counts[topic.name] != topic.partitions:
            raise Invalid(
                Reason.BAD_REQUEST,
                f"Topic {topic.name} has {counts[topic.name]} partitions, not {topic.partitions}; a keyed topic is never changed in "
                "place: copy it to a new one, or start with a new data folder.",
            )
    found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, t.name) for t in present], config_filter="all")
    current = _configs(found)
    for topic in present:
        wanted = topic.config(settings.log_cap_gb)
        differs = {key: value for key, value in wanted.items() if current[topic.name].get(key) != value}
        if differs:
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name, configs=differs)])
            lines += [f"{topic.name}: {key} was {current[topic.name].get(key)}, now {value}" for key, value in differs.items()]
    return lines


def _configs(found: dict[str, dict[str, dict[str, dict[str, Any]]]]) -> dict[str, dict[str, str]]:
    """kafka-python's answer, {kind: {name: {key: {"value": …}}}}, as {topic: {key: value}}."""
    return {
        name: {key: entry["value"] for key, entry in entries.items() if entry["value"] is not None}
        for name, entries in found.get("topic", {}).items()
    }


@click.group()
def topics() -> None:
    """The broker's topics."""


@topics.command("apply")
def apply_command() -> None:
    """Create missing topics and mend settings; shows what differed."""
    lines = apply_topics(get_settings())
    click.echo("\n".join(lines) or f"All {len(ALL)} topics are as declared.")
