"""Becomes Kafka: writes its settings, formats its storage once, and gives the process over to Java."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import time
import uuid
from pathlib import Path

from compose.local import tools
from compose.local.processes import program
from soundscape.settings import HOST, Port, Settings, get_settings
from soundscape.topics import MAX_MESSAGE_BYTES

BATCH_BYTES = MAX_MESSAGE_BYTES + 64 * 1024
"""What the broker takes at most: a message with the frame of its batch."""
ROOM_BYTES = 64 * 1024 * 1024
"""Free disk below which Kafka would only start to die: one segment."""
HEAP = ("-Xms256m", "-Xmx512m")
COMPILER = "-XX:TieredStopAtLevel=1"
"""Java's quick compiler alone: the thorough one takes more from a small machine than it gives back (docs/decisions/0014-ceiling.md)."""


def server_properties(settings: Settings) -> str:
    """One node that is broker and controller, on loopback only."""
    broker, controller = settings.address(Port.KAFKA), settings.address(Port.KAFKA_CONTROLLER)
    values = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{controller}",
        "listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{broker}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": settings.root / "kafka",
        "auto.create.topics.enable": "false",
        "message.max.bytes": BATCH_BYTES,
        "replica.fetch.max.bytes": BATCH_BYTES,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 8,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 2,
        "group.initial.rebalance.delay.ms": 0,
        # As long as the longest topic: a group that slept must find its place again, or it would skip or repeat.
        "offsets.retention.minutes": 400 * 24 * 60,
        "log.retention.check.interval.ms": 60_000,
        # The default, 128 MB, would be a quarter of the heap.
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
    }
    return "".join(f"{key}={value}\n" for key, value in values.items())


def java(*arguments: str) -> list[str]:
    """A command of Kafka's; Java itself expands the star of the class path."""
    log = "-Dorg.slf4j.simpleLogger"
    quiet = (f"{log}.showDateTime=true", f"{log}.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss", f"{log}.defaultLogLevel=warn",
             f"{log}.log.kafka.server.KafkaRaftServer=info")  # fmt: skip
    machine = (*HEAP, COMPILER, "-XX:+UseG1GC", "-XX:+ExitOnOutOfMemoryError", *quiet)
    return [program(tools.JAVA), *machine, "-cp", f"{tools.KAFKA_JARS}/*", *arguments]


def new_cluster_id() -> str:
    """A random id in Kafka's form: 16 bytes, base64 for URLs, no padding."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def write_properties(settings: Settings) -> Path:
    """Write server.properties below `state` and return its path."""
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = settings.state / "kafka.properties"
    path.write_text(server_properties(settings))
    return path


def wait_for_room(folder: Path) -> None:
    """Wait while the disk is full: a broker that cannot write ends itself, and would be started every second."""
    told = False
    while shutil.disk_usage(folder).free < ROOM_BYTES:
        if not told:
            print(f"The disk below {folder} is full; Kafka starts when there is room.", flush=True)
            told = True
        time.sleep(2)


def main() -> None:
    """Format the storage if that was never done, then become the broker."""
    settings = get_settings()
    storage = settings.root / "kafka"
    storage.mkdir(parents=True, exist_ok=True)
    wait_for_room(storage)
    properties = write_properties(settings)
    if not (storage / "meta.properties").exists():
        # A format that was interrupted leaves no meta.properties, or one that --ignore-formatted accepts.
        tool = java("kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", new_cluster_id(), "-c", str(properties))
        subprocess.run(tool, check=True)
    command = java("kafka.Kafka", str(properties))
    print(f"kafka on {HOST}:{settings.port(Port.KAFKA)}, data in {storage}", flush=True)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
