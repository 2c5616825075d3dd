"""What a benchmark reads, sends and ends with: the names of its numbers are fixed, and a failed sender is not a failed reader."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock
from uuid import UUID

import pytest
from click.testing import CliRunner

import monitoring.answers
import monitoring.bare
import monitoring.cpu
import monitoring.load
import monitoring.sound
from monitoring import bench, bench_bare, bench_minutes, bench_stream
from monitoring.bare import Speed
from monitoring.hearing import Way, for_birdnet
from monitoring.load import Sent
from monitoring.plain import by_librosa
from soundscape.errors import Invalid, Unavailable
from soundscape.events import ClipAnalysed, Place, Stages, Window
from soundscape.settings import get_settings
from soundscape.wire import Message, encode

NOW = datetime(2026, 6, 1, 5, 0, tzinfo=UTC)
CLIP = "00000000-0000-0000-0000-00000000000a"
FROM_LATER = Message(b"", b"{}", [("ce_type", b"org.elsilencio.something.v9")])
"""A record that this version does not know."""


def record(message: Message | None) -> SimpleNamespace:
    """As kafka-python hands it out; without a message, a tombstone."""
    return SimpleNamespace(value=message and message.value, headers=message.headers if message else [], timestamp=1000)


def answer() -> ClipAnalysed:
    """An answer whose stages take a tenth of a second each."""
    moments = {name: NOW + timedelta(milliseconds=100 * n) for n, name in enumerate(monitoring.answers.STAGES)}
    return ClipAnalysed(
        clip_id=UUID(CLIP), stream="REC01", site="bench", place=Place(topic="clips", partition=0, offset=1), release="r",
        release_digest="d", generation=1, feature_fingerprints=("f",), labels=("frog",), windows=(), detections=(),
        stages=Stages.model_validate(moments),
    )  # fmt: skip


def test_an_answer_that_does_not_decode_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = MagicMock()
    consumer.poll.return_value = {"part": [record(FROM_LATER), record(encode(answer()))]}
    monkeypatch.setattr(monitoring.answers, "new_consumer", lambda _: consumer)
    answers = monitoring.answers.Answers(get_settings())
    answers.read()
    assert answers.found == {CLIP: (answer(), 1.0)}


def test_answers_are_read_while_minutes_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    read = threading.Event()
    answers = MagicMock()
    answers.read.side_effect = read.set

    def publish(*_: Any) -> set[str]:
        assert read.wait(30), "nothing was read meanwhile"
        return {CLIP}

    monkeypatch.setattr(bench_minutes, "publish_minutes", publish)
    assert bench_minutes.publish_and_read(get_settings(), "bench", [b"OggS"], 1, answers) == {CLIP}


def test_what_stopped_the_sender_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def publish(*_: Any) -> set[str]:
        raise Unavailable("The broker did not answer.")

    monkeypatch.setattr(bench_minutes, "publish_minutes", publish)
    with pytest.raises(Unavailable, match="The broker did not answer"):
        bench_minutes.publish_and_read(get_settings(), "bench", [b"OggS"], 1, MagicMock())


class Bare:
    """The bare loop: 40 windows a second (the plain one 20, BirdNET 8), 25 ms a clip."""

    def __init__(self, way: Way, *_: object) -> None:
        self._windows_per_s = 20.0 if way.features is by_librosa else 8.0 if way.features is for_birdnet else 40.0

    def speed(self, minutes: list[bytes]) -> Speed:
        """Of so many minutes."""
        return Speed(5.0 * self._windows_per_s, 3.0, 2.0, 1.0)

    def clip_ms(self, clips: list[bytes], rounds: int) -> float:
        """Of one clip."""
        return 25.0

    def close(self) -> None:
        """Nothing to close."""


class Answers:
    """Each clip that is waited for has two windows and is answered 2 s after it is asked for, by the clock of the test; CLIP is there."""

    def __init__(self, *_: object) -> None:
        self.found: dict[str, tuple[ClipAnalysed, float]] = {CLIP: (answer(), 1.0)}

    def read(self, timeout_ms: int = 100) -> None:
        """Nothing comes by itself."""

    def wait(self, wanted: set[str], limit_s: float) -> None:
        """They come."""
        windows = tuple(Window(start_s=5.0 * n, end_s=5.0 * n + 5, scores=(0.5,)) for n in range(2))
        self.found |= {one: (answer().model_copy(update={"windows": windows}), 102.0) for one in wanted}

    def close(self) -> None:
        """Nothing to close."""


class Users:
    """Three clips: one of 30 ms that is answered, one of 50 ms whose answer was not read, and one that failed."""

    def __init__(self, *_: object) -> None: ...

    async def run(self, seconds: float, rate: float | None) -> list[Sent]:
        """Send for that long."""
        return [Sent(CLIP, 30.0, None), Sent("other", 50.0, None), Sent(None, 9.0, "503 backlog")]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack that answers at once; nothing is measured."""

    @contextmanager
    def prepared(*_: object) -> Iterator[str]:
        yield "se_key"

    fakes: dict[str, Any] = {
        "prepared": prepared, "site_way": lambda *_: Way(Path("model.onnx")), "publish_minutes": lambda *_: {"minute-1", "minute-2"},
        "time": SimpleNamespace(time=lambda: 100.0),
    }  # fmt: skip
    for name, fake in fakes.items():
        monkeypatch.setattr(bench, name, fake)
        monkeypatch.setattr(bench_stream, name, fake)
    monkeypatch.setattr(bench_minutes, "publish_minutes", fakes["publish_minutes"])
    monkeypatch.setattr(monitoring.cpu, "stack_pids", lambda: {"triton": 1})
    monkeypatch.setattr(monitoring.cpu, "cpu_seconds", lambda _: {"triton": 7.0})
    monkeypatch.setattr(monitoring.cpu, "cpu_shares", lambda before, after, wall_s: {"triton": after["triton"] / 10})
    monkeypatch.setattr(monitoring.bare, "BareLoop", Bare)
    monkeypatch.setattr(monitoring.answers, "Answers", Answers)
    monkeypatch.setattr(monitoring.load, "Users", Users)
    monkeypatch.setattr(monitoring.sound, "forest", lambda seconds, seed: b"OggS")


def said(*arguments: str) -> dict[str, Any]:
    """What a benchmark ends with."""
    done = CliRunner().invoke(bench.bench, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


STAGES = dict.fromkeys(("received", "decoded", "features", "inferred", "predicted"), 100.0)
LATENCY = {
    "users": 8, "rate": 1.0, "backlog": 0, "clips": 3, "errors": 1, "median_ms": 40.0, "p95_ms": 50.0, "bare_ms": 25.0, "stages": STAGES,
}  # fmt: skip


@pytest.mark.usefixtures("world")
def test_the_latency_ends_with_these_names_and_no_others() -> None:
    """With what they say of three clips; a closed loop has no rate."""
    assert said("latency", "--users", "8", "--rate", "1") == LATENCY
    assert said("latency") == LATENCY | {"users": 1, "rate": None}


@pytest.mark.usefixtures("world")
def test_what_is_worked_off_beside_the_users_has_one_name_more() -> None:
    assert said("latency", "--users", "8", "--rate", "1", "--backlog", "--minutes", "2") == LATENCY | {
        "backlog": 2, "backlog_windows_per_s": 2.0,
    }  # fmt: skip


@pytest.mark.usefixtures("world")
def test_without_an_answer_or_a_bare_loop_the_names_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(*_: object) -> list[Sent]:
        return [Sent(None, 9.0, "503 backlog")]

    monkeypatch.setattr(Users, "run", run)
    monkeypatch.setattr(bench, "site_way", lambda *_: None)
    nothing: dict[str, Any] = {"clips": 1, "errors": 1, "median_ms": None, "p95_ms": None, "bare_ms": None, "stages": {}}
    assert said("latency", "--users", "8", "--rate", "1") == LATENCY | nothing


@pytest.mark.usefixtures("world")
def test_the_stream_ends_with_these_names_and_no_others() -> None:
    """Two minutes of two windows each, done in 2 s, beside 40 a second."""
    assert said("stream", "--minutes", "8") == STREAM


STREAM = {
    "windows": 4, "windows_per_s": 2.0, "bare_windows_per_s": 40.0, "ratio": 0.05, "stages": STAGES,
    "bare_cpu_ms": {"decode": 3.0, "features": 2.0, "inference": 1.0}, "cpu": {"triton": 0.7},
}  # fmt: skip


@pytest.mark.usefixtures("world")
def test_a_peer_is_told_in_seconds_of_sound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its windows are not ours; BirdNET alone hears 40 s of sound in a second here, the stream 10."""
    monkeypatch.setenv("SOUNDSCAPE_BIRDNET_DIR", str(tmp_path))
    get_settings.cache_clear()
    (tmp_path / "model.tflite").touch()
    assert said("stream", "--minutes", "8", "--peer", "birdnet") == STREAM | {
        "sound_per_s": 10.0, "birdnet_sound_per_s": 40.0, "times_birdnet": 0.25,
    }  # fmt: skip


@pytest.mark.usefixtures("world")
def test_a_peer_that_is_not_there_is_said_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOUNDSCAPE_BIRDNET_DIR", str(tmp_path))
    get_settings.cache_clear()
    monkeypatch.setattr(bench_stream, "prepared", MagicMock(side_effect=AssertionError("began")))
    with pytest.raises(Invalid, match=r"BirdNET is not here .* run `make setup`"):
        CliRunner().invoke(bench.bench, ["stream", "--peer", "birdnet"], catch_exceptions=False)


@pytest.mark.usefixtures("world")
def test_the_bare_loop_ends_with_these_names_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours at 40 windows a second is twice the plain one at 20, in every round."""
    monkeypatch.setattr(bench_bare, "way_of", lambda *_: Way(Path("model.onnx")))
    monkeypatch.setattr(bench_bare, "soundscape", lambda *_: "")
    found = said("bare", "--release", "mine", "--minutes", "8", "--rounds", "3")
    for name in ("plain", "same_network", "release"):
        assert "processes of" in found[name].pop("arrangement")
    spent = {"decode_ms": 3.0, "features_ms": 2.0, "inference_ms": 1.0}
    ours = {"windows_per_s": 40.0, "ratio": 2.0, "ratio_from": 2.0, "ratio_to": 2.0, **spent}
    plain = {"windows_per_s": 20.0, "ratio": 1.0, "ratio_from": 1.0, "ratio_to": 1.0, **spent}
    assert found == {"minutes": 8, "rounds": 3, "release_name": "mine", "plain": plain, "same_network": ours, "release": ours}
