"""The board in a real Redis: each effect with its offset, rebuilt from the log whenever Redis is not where it was left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from consumers.audit import recount
from consumers.board import KEPT_S, Store, new_redis
from consumers.effects import Changes
from soundscape import testing
from soundscape.board import OFFSETS, clip_key, latest_key
from soundscape.errors import Reason
from soundscape.testing import Stack, wait_for
from soundscape.testing_log import Log, clip


@pytest.fixture
def redis(stack: Stack) -> Iterator[Any]:
    client = new_redis(stack.settings)
    yield client
    client.close()


def _send(log: Log, site: str) -> str:
    return log.send(clip(testing.ogg(), site=site, stream=f"tour {uuid4()}"))


def test_effects_and_offset_are_written_together_or_not_at_all(redis: Any) -> None:
    store, part = Store(redis), f"test-{uuid4()}:0"
    changes = Changes(
        fields={part: {"predicted": "p:0:0"}},
        counts={part: frozenset({f"test-counts:{part}:owl"})},
        detections={part: {part: ['{"clip_id": "x", "at": "2026-03-01T10:00:00+00:00", "start_s": 0, "label": "owl"}']}},
    )
    try:
        assert not store.apply(part, 5, 6, changes)
        assert not redis.exists(clip_key(part), latest_key(part), f"test-counts:{part}:owl")
        assert store.apply(part, None, 6, changes)
        assert not store.apply(part, None, 6, changes)
        assert redis.hget(clip_key(part), "predicted") == "p:0:0"
        assert all(0 < redis.ttl(key) <= KEPT_S for key in (clip_key(part), latest_key(part), f"test-counts:{part}:owl"))
        changes.counts[part] = frozenset({f"test-counts:{part}:frog"})
        assert store.apply(part, 6, 7, changes)
        assert redis.smembers(f"test-counts:{part}:frog") == {part}
        assert not redis.exists(f"test-counts:{part}:owl")
        assert store.positions()[part] == 7
    finally:
        redis.hdel(OFFSETS, part)
        redis.delete(clip_key(part), latest_key(part), f"test-counts:{part}:frog", f"test-counts:{part}:owl")


def test_an_emptied_redis_rebuilds_itself(stack: Stack, log: Log, redis: Any) -> None:
    sent = _send(log, "test")
    before = wait_for(lambda: redis.hget(clip_key(sent), "predicted"), "the clip's answer on the board")
    redis.flushall()
    after = wait_for(lambda: redis.hgetall(clip_key(sent)).get("predicted"), "the same after Redis was emptied")
    assert after == before
    counted, twice, _ = recount(stack.settings, 60.0)
    assert (counted.lost, twice) == ({}, [])


def test_a_count_that_is_wrong_is_found_by_the_audit(stack: Stack, log: Log, redis: Any) -> None:
    sent = _send(log, "test")
    wait_for(lambda: redis.hget(clip_key(sent), "predicted"), "the clip's answer on the board")
    redis.sadd("counts:test:2026-01-01T00:nightjar", sent)
    try:
        _, twice, _ = recount(stack.settings, 60.0)
        assert [line.partition(":")[0] for line in twice] == [sent]
        assert stack.run("audit", check=False).returncode == 1
    finally:
        redis.delete("counts:test:2026-01-01T00:nightjar")
    assert stack.run("audit").returncode == 0


def test_a_clip_without_a_release_dies_and_comes_back_once_there_is_one(stack: Stack, log: Log, redis: Any) -> None:
    site = f"later-{uuid4().hex[:8]}"
    sent = _send(log, site)
    wait_for(lambda: redis.hget(clip_key(sent), "dead"), "the clip's dead letter on the board")
    assert redis.hget(clip_key(sent), "reason") == Reason.NO_RELEASE
    assert sent in stack.run("deadletters", "list", "--site", site).stdout
    stack.run("deploy", "tones", "--site", site)
    assert "1 clip was sent again" in stack.run("deadletters", "replay", sent).stdout
    wait_for(lambda: redis.hget(clip_key(sent), "predicted"), "its answer on the board")
    assert sent not in stack.run("deadletters", "list", "--site", site).stdout
    assert stack.audit()["lost"] == 0
