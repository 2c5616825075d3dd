"""A release run here answers as the stream's code does."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from soundscape.audio import encode_ogg
from soundscape.errors import Invalid
from soundscape.events import ClipAnalysed, Place
from soundscape.features import LOG_MEL, FeatureSpec
from soundscape.release import LoadedRelease
from soundscape.testing import ogg, tone, tone_release
from soundscape.testing_log import clip
from stream_processors import extract as streamed
from trainer.replay import release as replay_release
from trainer.replay.release import LocalRelease, extract

PLACE = Place(topic="clips", partition=3, offset=14)
SOUND = FeatureSpec(kind="waveform", sample_rate=48_000)


@pytest.fixture
def release(tmp_path: Path) -> LoadedRelease:
    """The release of three tones."""
    return tone_release(tmp_path / "tones", "tones")


def answered(release: LoadedRelease, body: bytes) -> ClipAnalysed:
    """The answer to a clip of these bytes."""
    local = LocalRelease(release)
    event = clip(body, tour_id="tour", client="guide", recorded_at=datetime(2026, 3, 1, tzinfo=UTC))
    return local.answer(event, PLACE, extract(event.audio, event.content_type, None, local.specs), "run-1", 1e9)


@pytest.mark.parametrize("body", [ogg(7.0), encode_ogg(np.concatenate([np.zeros(160_000, np.float32), tone(5.0, 500.0)]))])
def test_features_are_those_of_the_stream(body: bytes) -> None:
    """The same numbers, and the same windows silent."""
    specs = (LOG_MEL, SOUND)
    here, there = extract(body, "audio/ogg", None, specs), streamed.from_sound(body, specs)
    assert here.silent == there.silent and here.features.keys() == there.features.keys()
    for fingerprint, found in here.features.items():
        np.testing.assert_array_equal(found, there.features[fingerprint])
    assert replay_release.SILENCE == streamed.SILENCE


def test_log_mels_are_read_as_in_the_stream(tmp_path: Path) -> None:
    np.save(tmp_path / "mels.npy", LOG_MEL.compute(tone(10.0, 2000.0)).astype(np.float16))
    body = (tmp_path / "mels.npy").read_bytes()
    here = extract(body, "application/x-npy", LOG_MEL.fingerprint, (LOG_MEL,))
    there = streamed.from_log_mels(body, LOG_MEL.fingerprint, (LOG_MEL,))
    assert here.silent == there.silent
    np.testing.assert_array_equal(here.features[LOG_MEL.fingerprint], there.features[LOG_MEL.fingerprint])
    with pytest.raises(Invalid, match="does not take"):
        extract(body, "application/x-npy", "0" * 16, (LOG_MEL,))


@pytest.mark.parametrize(("hertz", "label"), [(500.0, "low"), (2000.0, "mid"), (8000.0, "top")])
def test_the_answer_is_a_replays(release: LoadedRelease, hertz: float, label: str) -> None:
    event = answered(release, ogg(hertz=hertz))
    assert [one.label for one in event.detections] == [label]
    assert (event.role, event.run_id, event.release, event.generation) == ("replay", "run-1", "tones", 0)
    assert (event.place, event.tour_id, event.client, event.stream) == (PLACE, "tour", "guide", "tour-1")
    assert event.event_id().endswith("/tones/run-1") and isinstance(event.clip_id, UUID)
    assert event.release_digest == release.digest and event.stages.recorded == event.recorded_at


def test_a_runtime_that_is_not_there_is_named(release: LoadedRelease, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    member = release.release.members[0].model_copy(update={"runtime": "openvino"})
    other = LoadedRelease(release.folder, release.release.model_copy(update={"members": (member,)}), release.digest)
    with pytest.raises(Invalid, match="openvino"):
        LocalRelease(other)


def test_features_that_no_member_takes_are_refused(release: LoadedRelease) -> None:
    with pytest.raises(Invalid, match="No member"):
        LocalRelease(release).infer({SOUND.fingerprint: np.zeros((1, *SOUND.shape), np.float32)})
