"""How a range is said, and what belongs to it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from soundscape.errors import Invalid
from trainer.replay.range import Span, parse_bound

SIX = datetime(2026, 3, 1, 6, tzinfo=UTC)


MOMENTS = ["2026-03-01T06:00", "2026-03-01T06:00:00", "2026-03-01T06:00:00.000+00:00", "2026-03-01T06:00Z", "2026-03-01T01:00-05:00"]


@pytest.mark.parametrize("text", MOMENTS)
def test_a_moment_is_utc_unless_it_says_otherwise(text: str) -> None:
    assert parse_bound([text], None, "from") == SIX


def test_places_are_offsets_by_topic_and_partition() -> None:
    assert parse_bound(["clips:3:100", "clips:4:7", "recordings:0:0"], None, "from") == {"clips": {3: 100, 4: 7}, "recordings": {0: 0}}
    assert parse_bound([], None, "to") is None


NO_BOUNDS = [["yesterday"], ["clips:3"], ["clips:-1:0"], ["2026-03-01", "2026-03-02"], ["clips:1:2", "2026-03-01"], ["1960-01-01"], [""]]
NO_OFFSETS = ["", "[]", '{"clips": 3}', '{"clips": {"x": 1}}', '{"clips": {"0": -1}}', '{"offsets": {}}', "[" * 100_000, "\udc80"]


@pytest.mark.parametrize("texts", NO_BOUNDS)
def test_what_is_no_bound_is_refused(texts: list[str]) -> None:
    with pytest.raises(Invalid):
        parse_bound(texts, None, "from")


def test_offsets_come_from_a_manifest_or_a_bare_map(tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps({"offsets": {"from": {"clips": {"0": 5}}, "to": {"clips": {"0": 9}, "labels": {"1": 2}}}}))
    assert parse_bound([], file, "from") == {"clips": {0: 5}}
    assert parse_bound([], file, "to") == {"clips": {0: 9}, "labels": {1: 2}}
    file.write_text('{"clips": {"3": 4}}')
    assert parse_bound([], file, "to") == {"clips": {3: 4}}
    with pytest.raises(Invalid, match="not both"):
        parse_bound(["2026-03-01"], file, "to")


@pytest.mark.parametrize("body", NO_OFFSETS)
def test_a_file_without_offsets_is_refused(tmp_path: Path, body: str) -> None:
    file = tmp_path / "offsets.json"
    file.write_bytes(body.encode(errors="surrogateescape"))
    with pytest.raises(Invalid, match="holds no offsets"):
        parse_bound([], file, "from")


def test_what_is_gone_belongs_to_a_range_by_its_offset_or_else_by_its_time() -> None:
    """The log begins at 100 now; by offset the range began at 50, by time at six."""
    end, beginning = {"clips": {0: 200}}, {"clips": {0: 100}}
    by_offset = Span({"clips": {0: 100}}, end, (), None, beginning, {"clips": {0: 50}})
    assert [by_offset.holds("clips", 0, offset, SIX) for offset in (49, 50, 99, 100, 199, 200)] == [False, True, True, True, True, False]
    by_time = Span({"clips": {0: 100}}, end, (), SIX, beginning, {"clips": {0: 100}})
    assert by_time.holds("clips", 0, 99, SIX) and not by_time.holds("clips", 0, 99, SIX - timedelta(seconds=1))
    assert by_time.holds("clips", 0, 100, SIX - timedelta(hours=1)), "what is there is judged by its offset"
    assert not by_offset.holds("clips", 1, 60, SIX) and not by_offset.holds("recordings", 0, 60, SIX)
    assert by_offset.records == 100
