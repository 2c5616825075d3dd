"""The latest record of each key of a topic, within bounds: the newest bodies in memory, the others by their place on the log."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any, Generic, NamedTuple, Protocol, TypeVar
from weakref import WeakValueDictionary

from soundscape.events import Place

KEPT = 1_000_000
"""Keys that are known; the oldest is forgotten first. About 500 bytes each."""
KEPT_BYTES = 32_000_000
"""Of bodies in memory; an older one is read back from the log when somebody asks."""
M = TypeVar("M")


class Reads(Protocol):
    """Reads one record back by its place."""

    async def read(self, place: Place) -> Any | None:
        """The record that lies there, or None if it is gone. Raises Unavailable."""


class Item(NamedTuple, Generic[M]):
    """Where the latest record of a key lies, the group that it belongs to, and what is kept of it at hand."""

    partition: int
    offset: int
    group: str
    meta: M


class Shelf(Generic[M]):
    """Records by key. A key's records lie on one partition, so that the highest offset is the latest. Used from one event loop."""

    def __init__(self, topic: str, kept: int = KEPT, kept_bytes: int = KEPT_BYTES) -> None:
        self.topic, self._kept, self._kept_bytes = topic, kept, kept_bytes
        self._items: OrderedDict[str, Item[M]] = OrderedDict()
        self._groups: dict[str, tuple[str, ...]] = {}
        self._bodies: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: str) -> Item[M] | None:
        """What is known of a key."""
        return self._items.get(key)

    def group(self, name: str) -> tuple[str, ...]:
        """The keys of a group, the latest last."""
        return self._groups.get(name, ())

    def place(self, item: Item[M]) -> Place:
        """Where an item lies."""
        return Place(topic=self.topic, partition=item.partition, offset=item.offset)

    def put(self, key: str, item: Item[M], body: bytes) -> bool:
        """Keep a record; False, with nothing changed, if a later one of its key is known already."""
        known = self._items.get(key)
        if known is not None and known.partition == item.partition and known.offset > item.offset:
            return False
        self.drop(key)
        self._items[key] = item
        if item.group:
            self._groups[item.group] = (*self._groups.get(item.group, ()), key)
        self._remember(key, body)
        while len(self._items) > self._kept:
            self.drop(next(iter(self._items)))
        return True

    def drop(self, key: str) -> None:
        """Forget a key."""
        item = self._items.pop(key, None)
        if item is None:
            return
        if item.group:
            left = tuple(one for one in self._groups[item.group] if one != key)
            if left:
                self._groups[item.group] = left
            else:
                del self._groups[item.group]
        self._bytes -= len(self._bodies.pop(key, b""))

    def body(self, key: str) -> bytes | None:
        """The body of a key's record, if it is in memory."""
        return self._bodies.get(key)

    async def read(self, key: str, log: Reads) -> bytes | None:
        """The body of a key's record, from memory or from the log; None if it is gone. Raises Unavailable."""
        item, body = self._items.get(key), self._bodies.get(key)
        if item is None or body is not None:
            return body
        record = await log.read(self.place(item))
        if record is None or record.value is None:
            return None
        found = bytes(record.value)
        if self._items.get(key) is item:  # else a later one came while this was read
            self._remember(key, found)
        return self._bodies.get(key, found)

    def _remember(self, key: str, body: bytes) -> None:
        self._bytes += len(body) - len(self._bodies.pop(key, b""))
        self._bodies[key] = body
        while self._bytes > self._kept_bytes and len(self._bodies) > 1:
            _, forgotten = self._bodies.popitem(last=False)
            self._bytes -= len(forgotten)


class Locks:
    """One lock a name, for as long as somebody holds or awaits it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __call__(self, name: str) -> asyncio.Lock:
        """The lock of that name."""
        lock = self._locks.get(name)
        if lock is None:
            self._locks[name] = lock = asyncio.Lock()
        return lock
