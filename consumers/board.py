"""The board: clips, their answers and counts in Redis; an emptied Redis is rebuilt from the log by itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import redis

from consumers.effects import BOARD_TOPICS, PROCESS, Changes, changes_of, merged
from consumers.follow import Follower, Pulse, persist
from soundscape.board import OFFSETS, clip_key, latest_key
from soundscape.errors import Unavailable
from soundscape.health import serve_health
from soundscape.logs import set_up_logging
from soundscape.settings import HOST, Port, Settings, get_settings
from soundscape.topics import PREDICTIONS

log = logging.getLogger(__name__)

KEPT_S = (PREDICTIONS.retention_days or 0) * 86_400
"""Seconds after which what nothing has touched goes: as long as the answers it came from stay on the log."""


@contextmanager
def redis_errors() -> Iterator[None]:
    """Map redis-py's errors to Unavailable."""
    try:
        yield
    except redis.RedisError as error:
        raise Unavailable(f"Redis did not answer ({error}); is the stack up? `soundscape status` says.") from error


def new_redis(settings: Settings) -> redis.Redis:
    """A client of the stack's Redis, answers as text; connects when first used."""
    return redis.Redis(host=HOST, port=settings.port(Port.REDIS), decode_responses=True, socket_timeout=10)


class Store:
    """The board's keys in Redis: positions and effects move together, or not at all."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis: Any = client

    def positions(self) -> dict[str, int]:
        """`topic:partition` -> next offset. Raises Unavailable."""
        with redis_errors():
            return {part: int(offset) for part, offset in self._redis.hgetall(OFFSETS).items()}

    def apply(self, part: str, expected: int | None, following: int, changes: Changes) -> bool:
        """Write the changes and the part's next offset in one MULTI.

        False, with nothing written, if Redis does not hold the `expected` offset: it was emptied, restored, or another board
        writes there; the caller goes on from what Redis says. Raises Unavailable.
        """
        with redis_errors(), self._redis.pipeline() as pipe:
            pipe.watch(OFFSETS)
            stored = pipe.hget(OFFSETS, part)
            if (None if stored is None else int(stored)) != expected:
                return False
            counted = self._counted(changes)
            latest = self._latest(changes)
            pipe.multi()
            for clip, fields in changes.fields.items():
                pipe.hset(clip_key(clip), mapping=dict(fields))
                pipe.expire(clip_key(clip), KEPT_S)
            for clip, sets in changes.counts.items():
                for key in counted[clip] - sets:
                    pipe.srem(key, clip)
                for key in sets - counted[clip]:
                    pipe.sadd(key, clip)
                    pipe.expire(key, KEPT_S)
                pipe.hset(clip_key(clip), "counted", json.dumps(sorted(sets)))
            for stream, entries in latest.items():
                pipe.delete(latest_key(stream))
                if entries:
                    pipe.rpush(latest_key(stream), *entries)
                    pipe.expire(latest_key(stream), KEPT_S)
            pipe.hset(OFFSETS, part, str(following))
            try:
                pipe.execute()
            except redis.WatchError:
                return False
        return True

    def _counted(self, changes: Changes) -> dict[str, set[str]]:
        with self._redis.pipeline(transaction=False) as pipe:
            for clip in changes.counts:
                pipe.hget(clip_key(clip), "counted")
            return {clip: set(json.loads(text or "[]")) for clip, text in zip(changes.counts, pipe.execute(), strict=True)}

    def _latest(self, changes: Changes) -> dict[str, list[str]]:
        with self._redis.pipeline(transaction=False) as pipe:
            for stream in changes.detections:
                pipe.lrange(latest_key(stream), 0, -1)
            olds = pipe.execute()
        return {stream: merged(old, answers) for (stream, answers), old in zip(changes.detections.items(), olds, strict=True)}


def follow(follower: Follower, store: Store, pulse: Pulse) -> None:
    """Apply what comes, for ever; whenever Redis says another position than ours, go on from there. Raises Unavailable."""
    positions = _start(follower, store)
    while True:
        for part, records in follower.batches():
            following = records[-1].offset + 1
            if not store.apply(part, positions.get(part), following, changes_of(records)):
                log.warning("Redis is not where it was left (emptied or restored?); going on from what it says.")
                positions = _start(follower, store)
                break
            positions[part] = following
        if (lag := follower.measure()) is not None:
            if store.positions() != positions:
                log.warning("Redis is not where it was left (emptied or restored?); going on from what it says.")
                positions = _start(follower, store)
            pulse.beat(lag)


def _start(follower: Follower, store: Store) -> dict[str, int]:
    positions: Mapping[str, int] = store.positions()
    follower.seek(positions)
    return dict(positions)


def main() -> None:
    """Run the board."""
    set_up_logging()
    settings, pulse = get_settings(), Pulse()
    serve_health(settings.port(Port.BOARD), pulse)

    def run() -> None:
        with Follower(settings, PROCESS, BOARD_TOPICS) as follower:
            follow(follower, Store(new_redis(settings)), pulse)

    persist(run, pulse)


if __name__ == "__main__":
    main()
