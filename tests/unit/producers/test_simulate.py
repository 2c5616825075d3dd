"""The simulator: the same seed the same clips, sent in the order in which they end, with their truth."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from kafka.errors import KafkaTimeoutError

from producers import sinks
from producers.recordings import LATITUDE, MINUTE_S, Recording, Take, loudest, render, stem_at, way
from producers.scenes import PlacedCall
from producers.simulate import by_due, simulate
from producers.sinks import IN_FLIGHT, Broker, event_of, write_truth
from producers.takes import Plan, folder_takes, forest_takes, soundscapes_of, truth_of
from producers.watcher import COLOMBIA
from soundscape.audio import SAMPLE_RATE, decode, encode_ogg, sha256
from soundscape.errors import Invalid, Unavailable
from soundscape.events import ClipRecorded, MinuteRecorded, clip_id
from soundscape.settings import Settings
from soundscape.wire import decode as decode_event
from soundscape.wire import encode

BEGAN = datetime(2026, 6, 1, 5, 0, tzinfo=COLOMBIA)


def recording(stem: str = "REC01_20260601_050000", tour: bool = False, due_s: float = 60.0, audio: bytes = b"OggS") -> Recording:
    return Recording(stem, stem.partition("_")[0], tour, BEGAN, due_s, 60.0, 6.76, -74.21, (("a", "b"), ()), (), audio)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two labelled soundscapes of ten seconds, one without labels, and a focal recording."""
    folder = tmp_path / "data"
    (folder / "train_soundscapes").mkdir(parents=True)
    (folder / "train_audio" / "a").mkdir(parents=True)
    noise = np.random.default_rng(1).normal(0, 0.01, 10 * SAMPLE_RATE).astype(np.float32)
    for stem in ("COMP_20240101_000000", "COMP_20240101_010000", "OTHER"):
        (folder / "train_soundscapes" / f"{stem}.ogg").write_bytes(encode_ogg(noise))
    tone = np.sin(np.arange(4 * SAMPLE_RATE) / 10, dtype=np.float32)
    (folder / "train_audio" / "a" / "XC1.ogg").write_bytes(encode_ogg(tone))
    (folder / "train.csv").write_text("primary_label,filename\na,a/XC1.ogg\n")
    (folder / "soundscape_labels.csv").write_text(
        "row_id,labels\nCOMP_20240101_000000_5,b a\nCOMP_20240101_000000_10,\nCOMP_20240101_010000_5,\nCOMP_20240101_010000_10,c\n"
    )
    return folder


def test_a_tour_is_cut_into_clips_whose_truth_is_that_of_their_own_five_seconds() -> None:
    take = Take("TOUR01", 0, 0, BEGAN, 0.0, 3, clips=4)
    clips = render(take)
    again = render(take)

    # The bytes differ: an OGG's serial number is drawn anew each time it is written.
    assert all(np.array_equal(decode(one.audio), decode(other.audio)) for one, other in zip(clips, again, strict=True))
    assert [one.stem[-6:] for one in clips] == ["050000", "050005", "050010", "050015"]
    assert [one.due_s for one in clips] == [5.0, 10.0, 15.0, 20.0]
    assert [decode(one.audio).size for one in clips] == [5 * SAMPLE_RATE] * 4
    assert len({(one.latitude, one.longitude) for one in clips}) == 4
    assert any(one.calls for one in clips)
    for one in clips:
        assert one.rows is not None
        assert len(one.rows) == 1
        assert set(one.rows[0]) <= {call.label for call in one.calls}
        assert all(0 <= call.start < call.end <= 5 for call in one.calls)
    other = render(Take("TOUR01", 0, 0, BEGAN, 0.0, 4, clips=1))[0]
    assert not np.array_equal(decode(other.audio), decode(clips[0].audio))


def test_a_walk_of_two_stretches_is_one_walk() -> None:
    whole = way(5, 1, 10)

    assert list(way(5, 1, 4)) == list(whole[:4])
    assert max(abs(latitude - LATITUDE) for latitude, _ in whole) < 0.001


def test_the_forest_is_recorded_minute_by_minute_by_all_recorders() -> None:
    takes = forest_takes(Plan(BEGAN, recorders=2, minutes=2, tours=1, clips=3, seed=1))

    assert [(take.stream, take.due_s) for take in takes if not take.clips] == [
        ("REC01", 0.0), ("REC02", 0.0), ("REC01", MINUTE_S), ("REC02", MINUTE_S),
    ]  # fmt: skip
    assert [stem_at(take.stream, take.began) for take in takes if not take.clips][-1] == "REC02_20260601_050100"
    assert sum(take.clips for take in takes) == 3


def test_recordings_are_sent_in_the_order_in_which_they_end() -> None:
    takes = [Take("TOUR01", 0, 0, BEGAN, 0.0, 1, clips=3), *(Take(f"REC{n}", n, 0, BEGAN, n * 6.0, 1) for n in (1, 2))]
    found = [[recording(due_s=due) for due in (5.0, 10.0, 15.0)], [recording(due_s=8.0)], [recording(due_s=20.0)]]

    assert [one.due_s for one in by_due(iter(found), takes)] == [5.0, 8.0, 10.0, 15.0, 20.0]


def test_a_folders_soundscapes_go_as_they_are_with_their_rows(data: Path) -> None:
    files = soundscapes_of(data, labelled=True)
    takes = folder_takes(Plan(BEGAN, 2, 5, 0, 0, 1), files, *truth_of(data))
    played = [render(take)[0] for take in takes]

    assert [take.stream for take in takes] == ["REC01", "REC02"]
    assert [one.stem for one in played] == ["COMP_20240101_000000", "COMP_20240101_010000"]
    assert [one.audio for one in played] == [path.read_bytes() for path in files]
    assert played[0].rows == (("a", "b"), ())
    assert played[1].recorded_at == datetime(2024, 1, 1, 1, 0, tzinfo=COLOMBIA)
    assert [one.stream for one in folder_takes(Plan(BEGAN, 1, 5, 0, 0, 1), files, {}, {})] == ["COMP", "COMP"]
    with pytest.raises(Invalid, match="no labelled soundscape named OTHER"):
        soundscapes_of(data, "OTHER*", labelled=True)


def test_an_overlay_adds_calls_at_the_ratio_that_was_asked_for(data: Path, tmp_path: Path) -> None:
    files, truth = tmp_path / "files", tmp_path / "truth"
    arguments = ["--data", str(data), "--only", "*_000000*", "--overlay", "12", "--rate", "max"]
    result = CliRunner().invoke(simulate, [*arguments, "--folder", str(files), "--truth", str(truth)], catch_exceptions=False)

    assert result.exit_code == 0
    calls = rows_of(truth / "soundscape_events.csv")
    assert {(call["primary_label"], call["clip"], call["snr_db"]) for call in calls} == {("a", "a/XC1.ogg", "12.0")}
    labels = {row["row_id"]: row["labels"].split() for row in rows_of(truth / "soundscape_labels.csv")}
    assert set(labels) == {"COMP_20240101_000000_5", "COMP_20240101_000000_10"}
    assert "b" in labels["COMP_20240101_000000_5"]
    assert "a" in labels["COMP_20240101_000000_10"]
    before = decode((data / "train_soundscapes" / "COMP_20240101_000000.ogg").read_bytes())
    after = decode((files / "COMP_20240101_000000.ogg").read_bytes())
    first = int(float(calls[0]["start"]) * SAMPLE_RATE)
    assert np.square(after[first : first + SAMPLE_RATE]).mean() > 5 * np.square(before[first : first + SAMPLE_RATE]).mean()


def test_the_loudest_stretch_holds_the_call() -> None:
    wave = np.zeros(10 * SAMPLE_RATE, np.float32)
    wave[6 * SAMPLE_RATE : 7 * SAMPLE_RATE] = 0.5

    assert math.isclose(float(np.square(loudest(wave)).sum()), 0.25 * SAMPLE_RATE)
    assert loudest(wave).size == 3 * SAMPLE_RATE


def test_a_written_file_is_the_clip_that_the_truth_names(data: Path, tmp_path: Path) -> None:
    files, truth = tmp_path / "files", tmp_path / "truth"
    result = CliRunner().invoke(
        simulate,
        ["--data", str(data), "--labelled", "--rate", "max", "--site", "here", "--folder", str(files), "--truth", str(truth)],
        catch_exceptions=False,
    )

    assert result.exit_code == 0
    clips = {row["stem"]: row["clip_id"] for row in rows_of(truth / "clips.csv")}
    body = (files / "COMP_20240101_000000.ogg").read_bytes()
    moment = datetime(2024, 1, 1, tzinfo=COLOMBIA)
    assert clips["COMP_20240101_000000"] == clip_id("here", "COMP", moment, sha256(body))
    assert len(clips) == 2


@pytest.mark.parametrize("arguments", [["--rate", "0"], ["--rate", "fast"], ["--rate", "inf"]])
def test_a_rate_is_a_positive_number_or_max(arguments: list[str]) -> None:
    result = CliRunner().invoke(simulate, arguments)

    assert result.exit_code == 2
    assert "is no rate" in result.output


def test_choosing_among_recordings_needs_a_folder() -> None:
    with pytest.raises(Invalid, match="--data"):
        CliRunner().invoke(simulate, ["--labelled"], catch_exceptions=False)


def test_a_minute_goes_to_the_bulk_lane_and_a_tours_clip_to_the_live_one() -> None:
    minute = event_of("here", recording())
    clip = event_of("here", recording("TOUR01_20260601_050000", tour=True))

    assert (minute.recorder, minute.tour_id, minute.key()) == ("REC01", None, str(minute.clip_id))
    assert (clip.recorder, clip.tour_id, clip.key()) == (None, "TOUR01", "TOUR01")
    assert isinstance(minute, MinuteRecorded)
    message = encode(clip)
    assert decode_event(ClipRecorded, message.headers, message.value) == clip
    with pytest.raises(Invalid, match="site"):
        event_of("no/site", recording())


class Acknowledgement:
    """What a producer promises; `works` says how it ends."""

    def __init__(self, works: bool) -> None:
        self.is_done, self._works, self.asked = False, works, False

    def get(self, timeout: float) -> None:
        self.asked = True
        if not self._works:
            raise KafkaTimeoutError


class Producer:
    """Acknowledges the first `works` records, when it is asked."""

    def __init__(self, works: int) -> None:
        self.promises: list[Acknowledgement] = []
        self._works = works

    def send(self, topic: str, **message: Any) -> Acknowledgement:
        self.promises.append(Acknowledgement(len(self.promises) < self._works))
        return self.promises[-1]

    def close(self, timeout: float) -> None:
        """Nothing to close."""


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Producer]:
    """Stands where the broker's client stands: acknowledges forty records."""
    one = Producer(40)
    monkeypatch.setattr(sinks, "new_producer", lambda settings: one)
    yield one


def test_every_acknowledgement_is_awaited_and_few_are_open_at_once(producer: Producer) -> None:
    broker = Broker(Settings(), "here")
    for n in range(40):
        broker.put(recording(audio=b"OggS%d" % n))
        assert sum(not one.asked for one in producer.promises) <= IN_FLIGHT
    assert len(broker.sent) == 40 - IN_FLIGHT
    broker.finish()

    assert all(one.asked for one in producer.promises)
    assert len(broker.sent) == 40


def test_what_was_acknowledged_meanwhile_counts_at_once(producer: Producer) -> None:
    broker = Broker(Settings(), "here")
    for n in range(3):
        broker.put(recording(audio=b"OggS%d" % n))
    for one in producer.promises[:2]:
        one.is_done = True
    broker.settle()

    assert len(broker.sent) == 2


def test_without_acknowledgement_nothing_is_said_to_have_arrived(producer: Producer, tmp_path: Path) -> None:
    broker = Broker(Settings(), "here")
    for n in range(41):
        broker.put(recording(f"REC01_20260601_{n:06d}", audio=b"OggS%d" % n))
    with pytest.raises(Unavailable, match="40 recordings had arrived"):
        broker.finish()
    write_truth(tmp_path, broker.sent)

    assert len(rows_of(tmp_path / "clips.csv")) == 40
    assert rows_of(tmp_path / "soundscape_labels.csv")[:2] == [
        {"row_id": "REC01_20260601_000000_5", "labels": "a b"}, {"row_id": "REC01_20260601_000000_10", "labels": ""},
    ]  # fmt: skip


def test_the_truth_of_a_call_keeps_its_time_and_ratio(tmp_path: Path) -> None:
    call = PlacedCall(1.25, 2.5, "a", 11.0)
    one = Recording("X_20260601_050000", "X", False, BEGAN, 0.0, 60.0, 0.0, 0.0, (("a",),), (call,), b"")
    write_truth(tmp_path, [sinks.Sent("id", one)])

    assert rows_of(tmp_path / "soundscape_events.csv") == [
        {"filename": "X_20260601_050000.ogg", "start": "1.25", "end": "2.5", "primary_label": "a", "clip": "", "snr_db": "11.0"}
    ]
