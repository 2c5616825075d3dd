"""A stretch of the log read record by record with flat memory, and the journal by which an interrupted replay goes on."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from kafka import TopicPartition

from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.kafka import LIMIT_S, STALL_S, broker_errors
from trainer.data.store import write_text
from trainer.replay.range import Span

JOURNAL, MANIFEST = "journal.jsonl", "manifest.json"
BATCH = 16
"""Records in work at once: a few for each decoding child."""
BATCH_BYTES = 8_000_000
"""And at most so many bytes of them."""
Batch = list[Any]


def batches(
    consumer: Any, span: Span, topics: Sequence[str], done: Mapping[str, int], lost: Counter[str] | None = None, poll_ms: int = 200
) -> Iterator[Batch]:
    """The records of a span on these topics in small batches, each partition in order, from the positions `done` where there are any.

    Waits until each position has passed its end, never for the record `end - 1`: compaction leaves gaps. On topics that are not
    compacted a gap is what retention has removed since the plan was made; it is counted in `lost`, by topic. Raises Unavailable; Invalid
    if a topic ends before a position that was reached: it was made anew meanwhile.
    """
    parts = [TopicPartition(topic, n) for topic in topics for n in span.end.get(topic, {})]
    lost = Counter() if lost is None else lost
    if not parts:
        return
    with broker_errors():
        consumer.assign(parts)
        consumer.resume(*parts)  # the same parts assigned once more stay paused
        ends = consumer.end_offsets(parts, timeout_ms=LIMIT_S * 1000)
        at = dict.fromkeys(parts, 0)
        for part in parts:
            at[part] = max(span.start[part.topic][part.partition], done.get(part_name(part), 0))
            if at[part] > ends[part]:
                what = f"{part_name(part)} ends at {ends[part]}, before {at[part]}, which was read already"
                raise Invalid(Reason.BAD_REQUEST, f"{what}: the topic was made anew. Start again in another folder.")
            consumer.seek(part, at[part])
        waiting, moved_at = set(parts), time.monotonic()
        batch: Batch = []
        size = 0
        while waiting:
            for part in [part for part in waiting if _position(consumer, part) >= span.end[part.topic][part.partition]]:
                waiting.discard(part)
                consumer.pause(part)
                lost[part.topic] += max(0, span.end[part.topic][part.partition] - at[part])
            if not waiting:
                break
            for part, records in consumer.poll(poll_ms).items():
                moved_at = time.monotonic()
                for record in records:
                    if record.offset >= span.end[part.topic][part.partition]:
                        break
                    lost[part.topic] += record.offset - at[part]
                    at[part] = record.offset + 1
                    batch.append(record)
                    size += len(record.value or b"")
                    if len(batch) >= BATCH or size >= BATCH_BYTES:
                        yield batch
                        batch, size = [], 0
                        moved_at = time.monotonic()
            if time.monotonic() > moved_at + STALL_S:
                raise Unavailable(f"The broker sent nothing for {STALL_S} s; is the stack up? `soundscape status` says.")
        if batch:
            yield batch


def _position(consumer: Any, part: TopicPartition) -> int:
    return consumer.position(part, timeout_ms=LIMIT_S * 1000) or 0


def part_name(part: Any) -> str:
    """`topic:partition` of a partition or a record."""
    return f"{part.topic}:{part.partition}"


class Journal:
    """What a replay has done so far, in its folder: the request and its exact offsets, then a line a batch."""

    def __init__(self, folder: Path) -> None:
        """Reads what an earlier run has left, and changes nothing; a line that a kill cut off counts for nothing."""
        self.folder, self._path = folder, folder / JOURNAL
        self.head: dict[str, Any] = {}
        self.positions: dict[str, int] = {}
        self.entries: list[dict[str, Any]] = []
        self.left: Counter[str] = Counter()
        self.lines = 0
        self._whole = 0
        if self._path.is_file():
            with self._path.open("rb") as file:
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._take(json.loads(line))
                    self._whole += len(line)

    def begin(self, request: Mapping[str, Any], plan: Callable[[], Mapping[str, Any]]) -> bool:
        """Go on with a run of the same request, or start one: `plan` says what its head holds beside. True if it goes on.

        Raises Invalid if the folder holds another replay.
        """
        if self.head:
            if self.head["request"] != dict(request):
                raise Invalid(Reason.BAD_REQUEST, f"{self.folder} holds an unfinished replay of another request; give another folder.")
            with self._path.open("r+b") as file:
                file.truncate(self._whole)
            return True
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self._path, "")
        self._write({"request": dict(request), **plan()})
        return False

    def note(self, positions: Mapping[str, int], entries: Sequence[Mapping[str, Any]] = (), left: Mapping[str, int] | None = None) -> None:
        """What a batch has brought, and up to where it goes; call it when its effects are on the disk or acknowledged."""
        self._write({"next": dict(positions), "entries": list(entries), "left": dict(left or {})})

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest, whole, and drop the journal."""
        write_text(self.folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
        self._path.unlink()

    def _write(self, said: dict[str, Any]) -> None:
        with self._path.open("ab") as file:
            file.write(json.dumps(said).encode() + b"\n")
        self._take(said)

    def _take(self, said: dict[str, Any]) -> None:
        if not self.lines:
            self.head = said
        else:
            self.positions.update(said["next"])
            self.entries += said["entries"]
            self.left.update(said["left"])
        self.lines += 1


def following(batch: Batch) -> dict[str, int]:
    """The position after a batch, by partition."""
    return {part_name(record): record.offset + 1 for record in batch}


def finished(folder: Path) -> dict[str, Any] | None:
    """The manifest of a replay that has ended, or None. Raises Invalid if it cannot be read."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return said if isinstance(said["request"], dict) else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Invalid(Reason.BAD_REQUEST, f"{path} is no manifest of a replay; give another folder.") from error


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder for one process. Raises Invalid while another has it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise Invalid(Reason.BAD_REQUEST, f"{folder} is being written by another process; wait for it.") from error
