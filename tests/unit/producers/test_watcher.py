"""Never half a file, none twice, none left out."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from producers import watcher as module
from producers.arrival import SETTLE_S, Arrivals, Arrived, ends, look_of
from producers.ledger import Ledger
from producers.watcher import Watcher, event_of, recorded_at, stream_of
from soundscape.audio import MAX_BYTES, MAX_MESSAGE_BYTES, decode, encode_ogg, sha256
from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.events import MinuteRecorded, clip_id
from soundscape.settings import Settings
from soundscape.topics import RECORDINGS, Topic

NAME = "H02_20230420_112000.ogg"


@pytest.fixture(scope="module")
def ogg() -> bytes:
    """Three seconds of noise."""
    return encode_ogg(np.random.default_rng(0).normal(0, 0.1, 96_000).astype(np.float32))


def _pages(body: bytes) -> list[int]:
    """Where each OGG page begins."""
    return [at for at in range(len(body)) if body.startswith(b"OggS", at)]


class Folder:
    """A watcher over a folder, started as often as a test likes, that publishes into a list."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = Settings(data_dir=root)
        self.input, self.output = self.settings.online_input, self.settings.online_output
        self.input.mkdir(parents=True)
        self.sent: list[MinuteRecorded] = []
        self.away = False
        self.clock = 0.0
        self._ledgers: list[Ledger] = []
        monkeypatch.setattr(module, "say", self._say)
        monkeypatch.setattr("producers.watcher.time.monotonic", lambda: self.clock)
        self.start()

    def _say(self, producer: object, topic: Topic, event: MinuteRecorded) -> None:
        assert topic is RECORDINGS
        if self.away:
            raise Unavailable("The broker is away.")
        self.sent.append(event)

    def start(self) -> None:
        """Begin anew, as after kill -9."""
        self._ledgers.append(Ledger(self.settings.state / "watcher.sqlite"))
        self.watcher = Watcher(self.settings, self._ledgers[-1], None)

    def look(self, later_s: float = 0.0) -> list[str]:
        """Look at the folder; the names sent by this look."""
        self.clock += later_s
        before = len(self.sent)
        for path, seen in list(self.watcher.new_files()):
            self.watcher.deal_with(path, seen)
        return [event.file_name or "" for event in self.sent[before:]]

    def close(self) -> None:
        """Close all that was begun."""
        self.watcher.close()
        for ledger in self._ledgers:
            ledger.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    made = Folder(tmp_path, monkeypatch)
    yield made
    made.close()


def test_a_whole_file_is_sent_at_once_as_it_is(folder: Folder, ogg: bytes) -> None:
    (folder.input / NAME).write_bytes(ogg)
    assert folder.look() == [NAME]
    (event,) = folder.sent
    assert (event.audio, event.sha256) == (ogg, sha256(ogg))
    assert (event.site, event.stream, event.recorder) == ("el-silencio", "H02", "H02")
    assert event.recorded_at == datetime(2023, 4, 20, 16, 20, tzinfo=UTC)
    assert str(event.clip_id) == clip_id("el-silencio", "H02", event.recorded_at, sha256(ogg))


def test_it_is_sent_once_and_after_a_restart_not_again(folder: Folder, ogg: bytes) -> None:
    (folder.input / NAME).write_bytes(ogg)
    assert folder.look() == [NAME]
    assert folder.look() == []
    folder.start()
    (folder.input / "OTHER_1.ogg").write_bytes(ogg)
    assert folder.look() == ["OTHER_1.ogg"]


def test_a_changed_file_is_sent_anew(folder: Folder, ogg: bytes) -> None:
    (folder.input / NAME).write_bytes(ogg)
    folder.look()
    (folder.input / NAME).write_bytes(encode_ogg(np.zeros(64_000, np.float32)))
    assert folder.look() == [NAME]
    assert folder.sent[0].clip_id != folder.sent[1].clip_id


def test_a_file_that_was_touched_is_sent_again_as_the_same_clip(folder: Folder, ogg: bytes) -> None:
    """The cure after a power cut that took the recording, or its answer, from the log."""
    (folder.input / NAME).write_bytes(ogg)
    assert folder.look() == [NAME]
    folder.start()
    os.utime(folder.input / NAME, (0, 0))
    assert folder.look() == [NAME]
    assert folder.sent[0].clip_id == folder.sent[1].clip_id


def test_a_broker_that_is_away_leaves_none_out(folder: Folder, ogg: bytes) -> None:
    (folder.input / NAME).write_bytes(ogg)
    folder.away = True
    with pytest.raises(Unavailable):
        folder.look()
    folder.start()
    folder.away = False
    assert folder.look() == [NAME]


def test_death_between_acknowledgement_and_ledger_sends_the_same_clip(
    folder: Folder, ogg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.input / NAME).write_bytes(ogg)

    def die(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "record", die)
        with pytest.raises(KeyboardInterrupt):
            folder.look()
    folder.start()
    assert folder.look() == [NAME]
    assert folder.sent[0].clip_id == folder.sent[1].clip_id


def test_half_a_file_cut_between_two_pages_waits_for_the_rest(folder: Folder, ogg: bytes) -> None:
    cut = _pages(ogg)[len(_pages(ogg)) // 2]
    (folder.input / NAME).write_bytes(ogg[:cut])
    assert folder.look() == []
    assert folder.look(SETTLE_S / 2) == []
    with (folder.input / NAME).open("ab") as file:
        file.write(ogg[cut:])
    assert folder.look() == [NAME]
    assert folder.sent[0].audio == ogg


def test_a_file_that_is_still_open_for_writing_waits_however_long(folder: Folder, ogg: bytes) -> None:
    with (folder.input / NAME).open("wb") as file:
        file.write(ogg)
        file.flush()
        assert folder.look() == []
        assert folder.look(10 * SETTLE_S) == []
    assert folder.look() == [NAME]


@pytest.mark.parametrize("body", [b"", b"this is no sound", encode_ogg(np.zeros(64_000, np.float32))[:-100]], ids=["empty", "text", "half"])
def test_what_stays_as_it_is_goes_to_its_refusal(folder: Folder, body: bytes) -> None:
    (folder.input / NAME).write_bytes(body)
    assert folder.look() == []
    assert folder.look(SETTLE_S) == [NAME]
    assert folder.sent[0].audio == body


class _Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


@pytest.mark.parametrize("kind", ["numbers", "objects", "pickle"])
def test_an_npy_or_a_pickle_under_an_oggs_name_is_sent_as_sound_and_ends_as_no_sound(folder: Folder, kind: str, tmp_path: Path) -> None:
    """Log-mels come over HTTP alone: a file is never read as an array, and nothing in it is ever run."""
    trap, body = tmp_path / "it-was-run", io.BytesIO()
    if kind == "pickle":
        body.write(pickle.dumps(_Trap(trap)))
    else:
        np.save(body, np.array([_Trap(trap)], object) if kind == "objects" else np.ones((1, 128, 320), np.float16))
    (folder.input / NAME).write_bytes(body.getvalue())
    folder.look()
    assert folder.look(SETTLE_S) == [NAME]
    (event,) = folder.sent
    assert (event.content_type, event.feature_fingerprint, event.audio) == ("audio/ogg", None, body.getvalue())
    with pytest.raises(Invalid) as refused:
        decode(event.audio)
    assert refused.value.reason == Reason.NOT_AUDIO
    assert not trap.exists()


def test_the_same_bytes_in_two_files_are_both_sent_and_one_clip_of_one_recorder_and_time(folder: Folder, ogg: bytes) -> None:
    """Each keeps its own name, by which its answer is written; another recorder, or another time, makes another clip."""
    names = ["H02_a.ogg", "H02_b.ogg", "H03_a.ogg", "H02_20230420_112000.ogg"]
    for name in names:
        (folder.input / name).write_bytes(ogg)
        assert folder.look() == [name]
    assert folder.look(SETTLE_S) == []
    clips = {event.file_name: event.clip_id for event in folder.sent}
    assert clips["H02_a.ogg"] == clips["H02_b.ogg"]
    assert len(set(clips.values())) == 3


def test_a_file_beyond_the_message_is_encoded_again(folder: Folder) -> None:
    sound = np.random.default_rng(1).normal(0, 0.1, (MAX_MESSAGE_BYTES // 4 + 1000, 2))
    wav = io.BytesIO()
    soundfile.write(wav, sound, 48_000, format="WAV")
    (folder.input / NAME).write_bytes(wav.getvalue())
    folder.look()
    assert folder.look(SETTLE_S) == [NAME]
    (event,) = folder.sent
    assert event.audio.startswith(b"OggS")
    assert len(event.audio) <= MAX_MESSAGE_BYTES
    assert (event.original_type, event.original_rate, event.sha256) == ("audio/wav", 48_000, sha256(wav.getvalue()))


def test_what_can_never_be_sent_is_refused_beside_the_answers(folder: Folder) -> None:
    with (folder.input / "HUGE_1.ogg").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    (folder.input / "TEXT_1.ogg").write_bytes(b"text" * MAX_MESSAGE_BYTES)
    (folder.input / "bad\x01name.ogg").write_bytes(b"text")
    (folder.input / os.fsdecode(b"latin\xe9.ogg")).write_bytes(b"text")
    folder.look()
    assert folder.look(SETTLE_S) == []
    refused = {path.name: json.loads(path.read_bytes())["reason"] for path in folder.output.iterdir()}
    assert sorted(refused.values()) == ["malformed-event", "malformed-event", "not-audio", "too-large"]
    folder.start()
    assert not list(folder.watcher.new_files())


def test_only_ogg_files_of_the_folder_itself_are_taken(folder: Folder, ogg: bytes) -> None:
    (folder.input / "below.ogg").mkdir()
    for name in ("notes.txt", ".hidden.ogg", "below.ogg/inner.ogg", "half.ogg.part"):
        (folder.input / name).write_bytes(ogg)
    assert folder.look() == []
    (folder.input / "half.ogg.part").rename(folder.input / "half.ogg")
    assert folder.look() == ["half.ogg"]


def test_a_file_that_goes_while_it_is_looked_at_is_no_trouble(folder: Folder, ogg: bytes) -> None:
    (folder.input / NAME).write_bytes(ogg)
    ((path, seen),) = folder.watcher.new_files()
    path.unlink()
    assert not folder.watcher.deal_with(path, seen)


def test_bytes_that_change_while_they_are_read_are_not_taken(tmp_path: Path, ogg: bytes) -> None:
    path = tmp_path / NAME
    path.write_bytes(ogg)
    stale = look_of(path.stat())
    path.write_bytes(ogg + ogg)
    assert Arrivals(MAX_BYTES).arrived(path, stale, 0.0) is None
    assert isinstance(Arrivals(MAX_BYTES).arrived(path, look_of(path.stat()), 0.0), Arrived)


def test_an_ogg_ends_where_its_last_page_says(ogg: bytes) -> None:
    assert ends(ogg)
    assert not any(ends(ogg[:cut]) for cut in [0, 1, 27, len(ogg) // 2, len(ogg) - 1, *_pages(ogg)])
    assert not ends(ogg + b"more")


@pytest.mark.parametrize(
    ("stem", "stream", "moment"),
    [
        ("H02_20230420_112000", "H02", datetime(2023, 4, 20, 16, 20, tzinfo=UTC)),
        ("H02_north_20231231_235959", "H02", datetime(2024, 1, 1, 4, 59, 59, tzinfo=UTC)),
        ("H02_20231350_112000", "H02", None),
        ("H02", "H02", None),
        ("_20230420", "_20230420", None),
    ],
)
def test_a_name_tells_recorder_and_local_time(stem: str, stream: str, moment: datetime | None) -> None:
    assert (stream_of(stem), recorded_at(stem)) == (stream, moment)


def test_a_name_that_no_event_carries_is_refused() -> None:
    with pytest.raises(Invalid, match="rename it"):
        event_of("s", "x" * 201 + ".ogg", "0" * 64, b"")
