"""What Kafka's clients must agree on: a key's partition, and what fits a message."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from aiokafka.partitioner import DefaultPartitioner
from kafka import KafkaProducer
from kafka.cluster import ClusterMetadata

from soundscape.audio import MAX_MESSAGE_BYTES as MAX_BODY_BYTES
from soundscape.audio import MAX_SECONDS, SAMPLE_RATE, window_starts
from soundscape.errors import Invalid, Reason
from soundscape.events import ClipAnalysed, ClipDied, ClipRecorded, Place, Stages, clip_id
from soundscape.features import LOG_MEL
from soundscape.fuse import detect, fuse, listing
from soundscape.release import WEEKS, LoadedRelease, Member, Release
from soundscape.settings import Settings
from soundscape.taxonomy import Species
from soundscape.topics import KEYED, LANES, MAX_MESSAGE_BYTES, TOPICS, Topic
from soundscape.wire import Message, dead_letter, encode
from stream_processors.frame import new_app

BIRDNET_LABELS = 6522
"""What the day-one release answers with (docs/decisions/0003-stream.md)."""
NOW = datetime(2026, 11, 24, 11, 30, tzinfo=UTC)


def _size(message: Message) -> int:
    """Bytes of a record as the broker counts them, rounded up: key, value, headers, and room for the batch's frame."""
    return len(message.key) + len(message.value) + sum(len(name) + len(item) + 10 for name, item in message.headers) + 200


def test_a_key_lands_on_the_same_partition_from_both_clients() -> None:
    """The gateway writes with kafka-python, the workers with aiokafka through Faust: a tour must stay one partition."""
    cluster = ClusterMetadata()
    cluster.partitions_for_topic = lambda topic: set(range(KEYED))
    cluster.available_partitions_for_topic = lambda topic: set(range(KEYED))
    cluster.topics = lambda *_, **__: {"clips"}
    theirs, random_keys = DefaultPartitioner(), random.Random(7)
    partitioner = KafkaProducer.DEFAULT_CONFIG["partitioner"]
    used = set()
    for _ in range(1000):
        key = random_keys.choice([str(uuid.UUID(int=random_keys.getrandbits(128))), f"tour-ñandú-{random_keys.random()}"]).encode()
        mine = partitioner.partition("clips", key, key, b"", b"", cluster)
        assert mine == theirs(key, list(range(KEYED)), list(range(KEYED)))
        used.add(mine)
    assert used == set(range(KEYED))


def test_faust_keeps_the_partitioner_of_its_client(tmp_path: Path) -> None:
    """Faust hands `producer_partitioner` to its client; None means the client's own, held above."""
    for lane in LANES:
        assert new_app(lane, Settings(data_dir=tmp_path)).conf.producer_partitioner is None


def test_every_keyed_topic_has_the_same_partitions() -> None:
    """Topics that are read together by key lie together: a tour's clips, predictions and feedback on one partition."""
    assert {topic.partitions for topic in TOPICS if topic.keyed_by == "stream"} == {KEYED}


def _release(folder: Path) -> LoadedRelease:
    random_labels = random.Random(7)
    labels = sorted({"".join(random_labels.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(BIRDNET_LABELS + 50)})
    labels = labels[:BIRDNET_LABELS]
    species = tuple(
        Species(label=one, scientific="Pseudocolopteryx acutipennis", en="Subtropical Doradito", es="Doradito oliváceo", taxon="Aves")
        for one in labels
    )
    member = Member(
        name="birdnet", file="m.tflite", digest="0" * 64, runtime="litert", feature_fingerprint=LOG_MEL.fingerprint,
        labels=tuple(labels), licence="CC BY-NC-SA 4.0",
    )  # fmt: skip
    release = Release(
        name="birdnet-el-silencio", labels=species, features={LOG_MEL.fingerprint: LOG_MEL}, members=(member,),
        prior_file="prior.npy", created_at="2026-11-24",
    )  # fmt: skip
    release.verify()
    np.save(folder / "prior.npy", np.full((WEEKS, BIRDNET_LABELS), 0.3017, np.float32))
    return LoadedRelease(folder, release, "0" * 64)


def test_the_longest_clip_answered_by_the_largest_release_fits_a_message(tmp_path: Path) -> None:
    """Three minutes, every one of 6,522 labels listed with four decimals in every window, and ten species heard in each."""
    loaded = _release(tmp_path)
    windows = len(window_starts(int(MAX_SECONDS * SAMPLE_RATE)))
    scores = np.random.default_rng(7).uniform(0.1001, 0.9999, (windows, BIRDNET_LABELS)).astype(np.float32)
    silent = [False] * windows
    fused = fuse(loaded, {"birdnet": scores}, silent, NOW)
    # Ten labels take turns with ten others, so that each of their windows is a detection of its own.
    for found in (fused.unweighted, fused.scores):
        found[:, :20] = 0.0123
        found[::2, :10] = found[1::2, 10:20] = 0.9876
    loaded.thresholds[20:] = 1.0
    detections = detect(loaded, fused)
    assert len(detections) == 10 * windows

    listed = listing(loaded, fused, {"birdnet": scores}, silent)
    assert (len(listed.labels), len(listed.windows)) == (BIRDNET_LABELS, 36)
    answer = ClipAnalysed(
        clip_id=uuid.UUID(int=7), stream="s" * 200, site="s" * 200, file_name="f" * 200, recorded_at=NOW,
        place=Place(topic="recordings", partition=15, offset=10**12), release="r" * 200, release_digest="0" * 64, generation=10**6,
        licences=("CC BY-NC-SA 4.0",), feature_fingerprints=(LOG_MEL.fingerprint,), labels=listed.labels,
        score_floor=listed.score_floor, weights=listed.weights, windows=listed.windows, detections=detections,
        stages=Stages(published=NOW, received=NOW, decoded=NOW, features=NOW, inferred=NOW, predicted=NOW),
    )  # fmt: skip
    assert _size(encode(answer)) < MAX_MESSAGE_BYTES


def test_the_largest_clip_and_its_dead_letter_fit_their_messages() -> None:
    """A body of 1.9 MB with every header at its longest, and the dead letter that carries it whole."""
    name, sha = "ñ" * 200, "0" * 64
    clip = ClipRecorded(
        clip_id=uuid.UUID(clip_id(name, name, NOW, sha)), site=name, stream=name, sha256=sha, published_at=NOW, tour_id=name,
        recorder=name, file_name=name, recorded_at=NOW, latitude=-6.123456789, longitude=-74.123456789, lang="scientific",
        original_type="audio/mpeg", original_rate=384_000, traceparent="0" * 55, audio=b"\0" * MAX_BODY_BYTES,
    )  # fmt: skip
    message = encode(clip)
    assert _size(message) < MAX_MESSAGE_BYTES
    why = Invalid(Reason.MODEL_UNAVAILABLE, "ñ" * 3000)
    letter = dead_letter(Place(topic="recordings", partition=15, offset=10**12), message.key, message.headers, message.value, why)
    room = {topic.event: topic.room_bytes for topic in TOPICS}[ClipDied]
    assert _size(letter) < MAX_MESSAGE_BYTES + room


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_every_topic_is_kept_under_the_cap(topic: Topic) -> None:
    """What is deleted by time is also bounded in bytes, and no setting is left to the broker's default."""
    config = topic.config(20.0)
    assert int(config["retention.bytes"]) > 0 or config["cleanup.policy"] == "compact"
    assert int(config["max.message.bytes"]) >= MAX_MESSAGE_BYTES


def test_shares_of_the_cap_sum_to_one() -> None:
    """All topics together take what the cap says."""
    assert sum(topic.share for topic in TOPICS) == pytest.approx(1.0)
