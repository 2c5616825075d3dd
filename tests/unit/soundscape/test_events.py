"""Who a clip is: an id that follows from what the client sent, and from nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from pydantic import ValidationError

from soundscape.events import ClipRecorded, MinuteRecorded, Place, clip_id

AT = datetime(2026, 11, 24, 11, 30, 0, 123_000, tzinfo=UTC)
SHA = "ab" * 32


def test_a_clip_keeps_its_id() -> None:
    """The ids that are on logs already: computed by `uuid5` of RFC 9562 over site, stream, moment in UTC and SHA-256, a line each."""
    assert clip_id("el-silencio", "tour-7", AT, SHA) == "def585b5-1f4c-561d-8f51-c2c19750d320"
    assert clip_id("el-silencio", "ana", None, SHA) == "629d4ca0-32de-55b3-bdc8-541c92c20d70"


def test_the_same_moment_in_another_zone_is_the_same_clip() -> None:
    """A phone that travels."""
    bogota = AT.astimezone(timezone(timedelta(hours=-5)))
    assert clip_id("s", "t", bogota, SHA) == clip_id("s", "t", AT, SHA)


def test_every_part_of_the_identity_counts() -> None:
    """Another site, stream, time or sound is another clip, and no two parts run together."""
    parts = [("s", "t", AT, SHA), ("x", "t", AT, SHA), ("s", "x", AT, SHA), ("s", "t", None, SHA), ("s", "t", AT, "cd" * 32)]
    parts += [("st", "", AT, SHA), ("", "st", AT, SHA), ("s", "t", AT + timedelta(milliseconds=1), SHA)]
    assert len({clip_id(*one) for one in parts}) == len(parts)


def clip(**changes: object) -> ClipRecorded:
    """A clip with changes."""
    said = {"clip_id": UUID(int=1), "site": "s", "stream": "t", "sha256": SHA, "published_at": AT, "audio": b"OggS"}
    return ClipRecorded.model_validate(said | changes)


def test_keys_of_the_two_lanes() -> None:
    """Live: by stream, in order. Bulk: by clip, spread evenly."""
    assert clip().key() == "t"
    assert MinuteRecorded.model_validate(clip().model_dump()).key() == str(UUID(int=1))


@pytest.mark.parametrize(
    "changes",
    [
        {"site": ""}, {"site": "a/b"}, {"stream": "a\nb"}, {"file_name": "..\\x"}, {"sha256": "AB" * 32}, {"latitude": 91},
        {"longitude": -180.1}, {"published_at": "2026-11-24T11:30:00"}, {"content_type": "text/html"}, {"lang": "fr"},
        {"unknown": 1}, {"audio": bytes(2_000_001)},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_fields_that_do_not_hold_are_refused(changes: dict[str, object]) -> None:
    """Names that are no file names, places off the earth, moments without a zone, fields that nobody declared."""
    with pytest.raises(ValidationError):
        clip(**changes)


def test_moments_are_kept_in_utc_and_places_read_well() -> None:
    """Whatever zone the client wrote."""
    assert clip(recorded_at="2026-11-24T06:30:00-05:00").recorded_at == datetime(2026, 11, 24, 11, 30, tzinfo=UTC)
    assert str(Place(topic="clips", partition=3, offset=4711)) == "clips:3:4711"
