"""Records and back: what is unknown is refused, what is extra passes, a dead letter keeps every byte."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundscape.errors import Invalid, Reason
from soundscape.events import ClipDied, ClipRecorded, Place, ReleaseRef, SiteDeployed
from soundscape.topics import DEAD_LETTER_ROOM_BYTES, MAX_MESSAGE_BYTES
from soundscape.wire import (
    DROPPED,
    REPLAY_OF,
    REPLAYS,
    Headers,
    Message,
    dead_letter,
    decode,
    encode,
    identity,
    replayed,
    replays,
    revived,
    texts,
)

AT = datetime(2026, 11, 24, 11, 30, tzinfo=UTC)
CLIP = ClipRecorded(
    clip_id=UUID(int=1), site="el-silencio", stream="gira-ñandú", sha256="0" * 64, published_at=AT, latitude=6.76, audio=b"OggS\xff"
)
PLACE = Place(topic="clips", partition=3, offset=4711)
names = st.text(st.characters(blacklist_categories=("Cc", "Cs"), blacklist_characters="/\\"), min_size=1, max_size=200)


@given(site=names, stream=names, audio=st.binary(max_size=100), latitude=st.floats(-90, 90))
def test_any_name_and_any_bytes_survive_the_wire(site: str, stream: str, audio: bytes, latitude: float) -> None:
    """Headers are UTF-8; numbers keep every digit."""
    clip = ClipRecorded.model_validate(CLIP.model_dump() | {"site": site, "stream": stream, "audio": audio, "latitude": latitude})
    message = encode(clip)
    assert decode(ClipRecorded, message.headers, message.value) == clip
    assert message.key == stream.encode()


def test_a_record_is_a_cloud_event() -> None:
    """Binary mode: `specversion`, `id`, `source`, `type` in `ce_*` headers, the body alone in the value."""
    message = encode(CLIP)
    said = texts(message.headers)
    assert (said["ce_specversion"], said["ce_id"], said["ce_source"]) == ("1.0", str(UUID(int=1)), "/el-silencio")
    assert (said["ce_type"], said["content-type"], message.value) == (ClipRecorded.TYPE, "audio/ogg", b"OggS\xff")
    assert all(name == "content-type" or (name.removeprefix("ce_").isalnum() and name.islower()) for name in said)


def test_unknown_extensions_pass() -> None:
    """Another system's metadata is not ours to refuse."""
    message = encode(CLIP)
    assert decode(ClipRecorded, [*message.headers, ("ce_weather", b"rain"), ("x", b"\xff")], message.value) == CLIP


@pytest.mark.parametrize("said", [b"org.elsilencio.clip.recorded.v2", b"org.elsilencio.clip.analysed.v1", b"", b"\xff", None])
def test_an_unknown_type_or_version_is_refused(said: bytes | None) -> None:
    """With a reason of its own: a newer writer, not a broken one."""
    headers = {name: value for name, value in encode(CLIP).headers if name != "ce_type"} | ({"ce_type": said} if said is not None else {})
    with pytest.raises(Invalid) as refused:
        decode(ClipRecorded, headers, b"OggS")
    assert refused.value.reason is Reason.UNKNOWN_EVENT


@pytest.mark.parametrize("body", [None, b"", b"{}", b"[]", b"\xff", b'{"site": 1}'])
def test_a_body_that_does_not_hold_is_refused(body: bytes | None) -> None:
    """Naming the field that does not."""
    deployed = SiteDeployed(site="s", generation=1, champion=ReleaseRef(name="r", digest="d"), reason="first", actor="ana", at=AT)
    with pytest.raises(Invalid) as refused:
        decode(SiteDeployed, encode(deployed).headers, body)
    assert refused.value.reason is Reason.MALFORMED_EVENT


@given(
    key=st.none() | st.text(min_size=1).map(str.encode),
    value=st.binary(max_size=200),
    extra=st.lists(st.tuples(st.sampled_from(["ce_type", "ce_site", "other"]), st.binary(max_size=20)), max_size=5),
)
def test_a_dead_letter_keeps_every_byte_and_revives(key: bytes | None, value: bytes, extra: list[tuple[str, bytes]]) -> None:
    """Whatever the record was: it was not understood, so nothing of it may be thrown away."""
    message = dead_letter(PLACE, key, extra, value, Invalid(Reason.NOT_AUDIO, "no sound."))
    again = revived(message.headers, message.value)
    assert (again.value, again.headers, again.key) == (value, [*extra, (REPLAY_OF, str(PLACE).encode())], key or b"")
    letter = decode(ClipDied, message.headers[: len(message.headers) - len(extra)], message.value)
    assert (letter.reason, letter.topic, letter.partition, letter.offset) == ("not-audio", "clips", 3, 4711)


def test_a_dead_letter_of_a_clip_has_the_clips_identity() -> None:
    """So that its answer finds the one who waits; a record without one is known by its place."""
    message = encode(CLIP)
    letter = dead_letter(PLACE, message.key, message.headers, message.value, Invalid(Reason.TOO_SHORT, "short."))
    assert letter.key.decode() == str(CLIP.clip_id)
    assert decode(ClipDied, letter.headers, letter.value).stream == CLIP.stream
    assert identity({}, PLACE) == "clips:3:4711"
    assert identity(texts(message.headers), PLACE) == str(CLIP.clip_id)


def test_a_dead_letters_detail_is_cut_not_refused() -> None:
    """An error about an error would stop the partition."""
    letter = dead_letter(PLACE, None, [], None, Invalid(Reason.POISON, "x" * 5000))
    assert len(decode(ClipDied, letter.headers, letter.value).detail) == 2000


@pytest.mark.parametrize(
    "extra",
    [[("ce_site", b"s" * 180_000)], [("ce_filename", b"f" * 180_000)], [("", b"")] * 60_000, [("x", b"\xff" * 9000)] * 20],
    ids=["site", "file", "many", "large"],
)
def test_a_dead_letter_fits_its_topic_and_keeps_the_body(extra: Headers) -> None:
    """Headers that have no room are left out and counted."""
    body = bytes(1_900_000)
    key = b"k" * 10_000
    letter = dead_letter(PLACE, key, [*encode(CLIP).headers, *extra], body, Invalid(Reason.POISON, "\u2603" * 2000))
    size = 128 + len(letter.key) + len(letter.value) + sum(10 + len(name.encode()) + len(item) for name, item in letter.headers)
    assert size <= MAX_MESSAGE_BYTES + DEAD_LETTER_ROOM_BYTES and letter.value == body
    whole = len(encode(CLIP).headers) + len(extra)
    assert len(revived(letter.headers, body).headers) + int(texts(letter.headers).get(DROPPED, "0")) == whole


@pytest.mark.parametrize("name", [b"a\0.ogg", b"x" * 201, b"../up.ogg", b""])
def test_a_dead_letter_names_only_what_holds_as_a_name(name: bytes) -> None:
    """Whoever reads it makes files and keys of it."""
    headers = [("ce_type", ClipRecorded.TYPE.encode()), *((f"ce_{field}", name) for field in ("id", "site", "stream", "filename"))]
    letter = dead_letter(PLACE, None, headers, b"", Invalid(Reason.POISON, "no."))
    died = decode(ClipDied, letter.headers, b"")
    assert (died.site, died.stream, died.file_name, died.clip_id) == (None, None, None, str(PLACE))
    assert revived(letter.headers, b"").headers == [*headers, (REPLAY_OF, str(PLACE).encode())]


def test_a_record_that_names_no_clip_stays_the_same_one_however_often_it_is_sent_again() -> None:
    """Else each replay would add a dead letter, and none would ever go."""
    letter = dead_letter(PLACE, None, [("ce_type", b"other")], b"?", Invalid(Reason.UNKNOWN_EVENT, "no."))
    for offset in (5000, 6000):
        again = revived(letter.headers, letter.value)
        place = Place(topic="clips", partition=7, offset=offset)
        assert identity(texts(again.headers), place) == str(PLACE)
        letter = dead_letter(place, again.key, again.headers, again.value, Invalid(Reason.UNKNOWN_EVENT, "no."))
        assert letter.key == str(PLACE).encode() and again.headers.count((REPLAY_OF, str(PLACE).encode())) == 1


def test_a_record_says_how_often_it_was_sent_again_by_itself() -> None:
    """Through each of its deaths; what is no number there is none."""
    message = encode(CLIP)
    for times in range(1, 4):
        letter = dead_letter(PLACE, message.key, message.headers, message.value, Invalid(Reason.MODEL_UNAVAILABLE, "sick."))
        message = replayed(revived(letter.headers, letter.value))
        assert replays(message.headers) == times
        assert decode(ClipRecorded, message.headers, message.value) == CLIP
    assert [name for name, _ in message.headers].count(REPLAYS) == 1
    for said in (b"", b"-1", b"three", b"9" * 5000):
        assert replays([(REPLAYS, said)]) == 0
    assert replays(replayed(Message(b"", b"", [(REPLAYS, b"999")])).headers) == 999


def test_a_clip_is_sent_again_as_it_was() -> None:
    message = encode(CLIP)
    letter = dead_letter(PLACE, message.key, message.headers, message.value, Invalid(Reason.TOO_SHORT, "short."))
    assert revived(letter.headers, letter.value) == message
