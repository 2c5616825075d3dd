"""The share of the random stratum that nobody was given to label: by the recorded rate, and by reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from prometheus_client import REGISTRY

from consumers import quality
from consumers.quality_withheld import Rates
from soundscape.events import ClipAnalysed, ClipLabelled, ClipSampled, Place, Stages, Window
from soundscape.sampling import random_window, unit
from soundscape.settings import Settings
from soundscape.wire import encode

AT = datetime(2026, 3, 1, tzinfo=UTC)
NEXT = AT + timedelta(days=1)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """The records by topic."""
    records: dict[str, list[Any]] = {"samples": [], "labels": [], "predictions": []}
    monkeypatch.setattr(quality, "new_consumer", lambda settings: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(quality, "read_all", lambda consumer, topics: iter(records[topics[0]]))
    monkeypatch.setattr(quality, "_champion", lambda settings, site: None)
    return records


def put(log: dict[str, list[Any]], topic: str, event: ClipAnalysed | ClipLabelled | ClipSampled) -> None:
    said = encode(event)
    log[topic].append(SimpleNamespace(topic=topic, partition=0, offset=0, key=said.key, headers=said.headers, value=said.value))


def clips(low: float, high: float, count: int) -> list[UUID]:
    """Clips that stand there in hash order."""
    found = (UUID(int=n) for n in range(10**6))
    wanted = (clip for clip in found if low <= unit(clip) < high)
    return [next(wanted) for _ in range(count)]


def answered(log: dict[str, list[Any]], clip: UUID, at: datetime, voice_at: int | None = None, tells: bool = True) -> None:
    """An answer of four windows; `voice_at` is the window with a voice."""
    windows = tuple(
        Window(start_s=5.0 * n, end_s=5.0 * n + 5, scores=(0.1,), events={"speech": 0.9 if n == voice_at else 0.0} if tells else {})
        for n in range(4)
    )
    event = ClipAnalysed(
        clip_id=clip, stream="REC", site="s", place=Place(topic="clips", partition=0, offset=0), release="r", release_digest="d",
        generation=1, feature_fingerprints=("f",), labels=("owl",), windows=windows, detections=(),
        stages=Stages(published=at, received=at, decoded=at, features=at, inferred=at, predicted=at),
    )  # fmt: skip
    put(log, "predictions", event)


def sampled(log: dict[str, list[Any]], clip: UUID, at: datetime, rate: float) -> None:
    event = ClipSampled(
        clip_id=clip, stream="REC", site="s", reason="random", probability=rate, topic="clips", partition=0, offset=0, sampled_at=at,
        audio=b"OggS",
    )  # fmt: skip
    put(log, "samples", event)


def test_each_reason_has_its_share(tmp_path: Path, log: dict[str, list[Any]]) -> None:
    kept, spoken, beside, denied, untold, gone = clips(0.0, 0.05, 6)
    answered(log, kept, AT)
    sampled(log, kept, AT, 0.05)
    answered(log, spoken, AT, voice_at=random_window(spoken, 4))
    answered(log, beside, AT, voice_at=(random_window(beside, 4) + 1) % 4 if random_window(beside, 4) < 3 else 2)
    answered(log, denied, AT)
    answered(log, untold, AT, tells=False)
    answered(log, gone, AT, voice_at=(random_window(gone, 4) + 2) % 4)
    put(log, "labels", ClipLabelled(
        label_id="1", clip_id=denied, stream="REC", site="s", start_s=0.0, end_s=5.0, verdict="speech", by="ana", provenance="page",
        labelled_at=AT,
    ))  # fmt: skip
    found, drift = quality.measure(Settings(data_dir=tmp_path), "s")
    assert found.withheld.value == pytest.approx(5 / 6) and found.withheld.n == 6
    assert {why: round(6 * (share.value or 0)) for why, share in found.withheld_by.items()} == {
        "speech": 2, "denied": 1, "untold": 1, "other": 1,
    }  # fmt: skip
    quality._publish("s", found, drift)
    for why, count in (("speech", 2), ("denied", 1), ("untold", 1), ("other", 1)):
        assert REGISTRY.get_sample_value("soundscape_quality_withheld", {"site": "s", "reason": why}) == pytest.approx(count / 6)


def test_the_rate_is_the_one_that_the_samples_record(tmp_path: Path, log: dict[str, list[Any]]) -> None:
    """On the first day a fifth was drawn, on the second a twentieth; the setting of today says nothing of either."""
    low, early, late = *clips(0.0, 0.05, 1), *clips(0.05, 0.2, 2)
    sampled(log, low, AT, 0.2)
    answered(log, low, AT)
    answered(log, early, AT + timedelta(minutes=1))
    other = clips(0.0, 0.05, 2)[1]
    sampled(log, other, NEXT, 0.05)
    answered(log, other, NEXT)
    answered(log, late, NEXT + timedelta(minutes=1))
    for today in (0.01, 0.9):
        found, _ = quality.measure(Settings(data_dir=tmp_path, sample_rate=today), "s")
        assert found.withheld.value == pytest.approx(1 / 3) and found.withheld.n == 3


def test_without_a_sample_the_setting_says_the_rate() -> None:
    assert Rates([], 0.3).at(AT) == 0.3
    assert [Rates([(AT, 0.1), (NEXT, 0.2)], 0.3).at(AT + timedelta(days=n)) for n in (-1, 0, 1, 2)] == [0.1, 0.1, 0.2, 0.2]
