"""`soundscape topics apply` against a real broker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kafka.admin import AlterConfigOp, ConfigResource, ConfigResourceType

from soundscape.errors import Invalid
from soundscape.kafka import backlog, committed, new_admin, new_consumer, read_all
from soundscape.testing import Stack
from soundscape.topic_admin import ALL, apply_topics
from soundscape.topics import SHADOW_PREDICTIONS

TOPIC = SHADOW_PREDICTIONS
"""One that nobody writes to yet."""


@pytest.fixture
def admin(stack: Stack) -> Iterator[Any]:
    made = new_admin(stack.settings)
    yield made
    made.close()


def test_a_running_stack_has_every_topic_as_declared(stack: Stack) -> None:
    assert apply_topics(stack.settings) == []
    assert f"All {len(ALL)} topics are as declared." in stack.run("topics", "apply").stdout


def test_a_setting_that_differs_is_shown_and_mended_and_others_stay(stack: Stack, admin: Any) -> None:
    def alter(**configs: Any) -> None:
        dotted = {name.replace("_", "."): value for name, value in configs.items()}
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, TOPIC.name, configs=dotted)])

    alter(retention_ms="60000", min_compaction_lag_ms="7")
    wanted = TOPIC.config(stack.settings.log_cap_gb)["retention.ms"]
    assert apply_topics(stack.settings) == [f"{TOPIC.name}: retention.ms was 60000, now {wanted}"]
    assert apply_topics(stack.settings) == []
    found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, TOPIC.name)])["topic"][TOPIC.name]
    assert found["min.compaction.lag.ms"]["value"] == "7"
    alter(min_compaction_lag_ms=(AlterConfigOp.DELETE, None))


def test_a_keyed_topic_with_another_number_of_partitions_is_refused(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    other = replace(TOPIC, partitions=TOPIC.partitions + 1)
    monkeypatch.setattr("soundscape.topic_admin.ALL", (other,))
    with pytest.raises(Invalid, match="keyed"):
        apply_topics(stack.settings)


def test_a_group_that_never_committed_has_all_records_before_it(stack: Stack, admin: Any) -> None:
    assert committed(admin, "nobody") == {}
    consumer = new_consumer(stack.settings)
    there = sum(1 for _ in read_all(consumer, [TOPIC.name]))
    consumer.close()
    assert backlog(admin, TOPIC, "nobody") == there
