"""What becomes of one record, whatever it holds and whatever is away: by fakes of Triton, deployments and broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from soundscape.errors import Broken, Invalid, Reason, Unavailable
from soundscape.features import LOG_MEL, FeatureSpec
from soundscape.metrics import CANARY_FAILED
from soundscape.testing import ogg
from soundscape.testing_log import clip
from soundscape.wire import Message, dead_letter, encode, replayed, revived
from stream_processors.safe import POISON_FAILURES, REPLAYS
from stream_processors.triton import ModelFailed

if TYPE_CHECKING:
    from tests.unit.stream_processors.conftest import Lane, Make

Say = Callable[[], None]


async def test_a_clip_becomes_one_prediction(lane: Lane) -> None:
    """With its place on the log, its release and its generation; asked of the model at the lane's priority."""
    began = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
    await lane.safe(lane.record(tour_id="t", tour_started_at=began, latitude=6.76))
    (answer,) = lane.answers
    assert not lane.deaths and answer.place == lane.place and (answer.release, answer.generation) == ("r1", 1)
    assert (answer.tour_id, answer.tour_started_at, answer.latitude, len(answer.windows)) == ("t", began, 6.76, 2)
    assert [(windows, priority) for _, windows, priority in lane.triton.asked] == [(2, 1)]


async def test_the_bulk_lane_asks_for_little_at_a_time(lane_of: type[Lane], release_of: Make) -> None:
    """Four windows a request, at the lower priority."""
    bulk = lane_of(release_of(), "bulk")
    await bulk.safe(encode(clip(ogg(30.0, 2000.0), lane="bulk")))
    assert [(windows, priority) for _, windows, priority in bulk.triton.asked] == [(4, 2), (2, 2)]
    assert len(bulk.answers[0].windows) == 6


@pytest.mark.parametrize(
    ("fields", "body", "reason"),
    [
        ({}, b"no sound", Reason.NOT_AUDIO),
        ({}, b"", Reason.EMPTY),
        ({"site": "elsewhere"}, ogg(5.0, 2000.0), Reason.NO_RELEASE),
        ({"content_type": "application/x-npy", "feature_fingerprint": "0" * 16}, b"x", Reason.UNKNOWN_FEATURES),
    ],
)
async def test_what_will_never_work_becomes_a_dead_letter(lane: Lane, fields: dict[str, Any], body: bytes, reason: Reason) -> None:
    """At once, with its bytes, key and headers unchanged: it can be brought back as it was."""
    sent = encode(clip(body, **fields))
    await lane.safe(sent)
    (died,) = lane.deaths
    assert (died.reason, died.original, died.topic, died.partition, died.offset) == (reason, body, "clips", 3, 41)
    assert not lane.answers and not lane.triton.asked
    letter = lane.published[0][1]
    assert revived(letter.headers, letter.value) == sent


@pytest.mark.parametrize(
    ("header", "value", "reason"),
    [
        ("ce_type", b"org.elsilencio.clip.recorded.v2", Reason.UNKNOWN_EVENT),
        ("ce_latitude", b"north", Reason.MALFORMED_EVENT),
        ("ce_site", b"another", Reason.WRONG_IDENTITY),
        ("ce_sha256", b"0" * 64, Reason.WRONG_IDENTITY),
    ],
)
async def test_a_record_that_is_no_clip(lane: Lane, header: str, value: bytes, reason: Reason) -> None:
    """It decodes inside: nothing escapes, nothing is dropped."""
    if header == "ce_site":
        lane.sites.open = True
    sent = lane.record()
    await lane.safe(sent._replace(headers=list((dict(sent.headers) | {header: value}).items())))
    assert [died.reason for died in lane.deaths] == [reason]


async def test_without_headers_or_value(lane: Lane) -> None:
    """A tombstone or a stranger's record has its dead letter too, named by its place."""
    await lane.processor.safe(lane.place, None, [], None)
    (died,) = lane.deaths
    assert (died.clip_id, died.reason, died.original) == ("clips:3:41", Reason.UNKNOWN_EVENT, b"")


async def test_an_absent_model_server_is_waited_for(lane: Lane) -> None:
    """However long; meanwhile `waiting` says why, and afterwards nothing."""
    lane.triton.script = [Unavailable("Triton does not answer")]
    task = asyncio.ensure_future(lane.safe(lane.record()))
    await lane.triton.asked_times(50)
    assert lane.processor.waiting == "Triton does not answer" and not lane.published
    lane.triton.script = []
    await task
    assert len(lane.answers) == 1 and not lane.deaths and lane.processor.waiting == ""


async def test_an_absent_broker_is_waited_for(lane: Lane) -> None:
    """The answer is published until it is acknowledged, a dead letter as well."""
    lane.broker = [Unavailable("the broker does not take the answer")] * 20
    await lane.safe(lane.record())
    assert len(lane.answers) == 1
    lane.broker = [Unavailable("the broker does not take the answer")] * 20
    await lane.safe(encode(clip(b"no sound")))
    assert len(lane.deaths) == 1 and lane.processor.waiting == ""


async def test_a_clip_that_fails_on_a_model_that_is_well_is_poison(lane: Lane) -> None:
    """After five failures alone, each with a probe that succeeded before it; its bytes are kept."""
    lane.triton.script = [ModelFailed("one-000000000000", "the stub died")]
    sent = lane.record()
    await lane.safe(sent)
    (died,) = lane.deaths
    assert (died.reason, died.original) == (Reason.POISON, sent.value)
    assert len(lane.triton.asked) == 1 + POISON_FAILURES, "once beside others, then five times alone"


async def test_a_model_that_heals_answers_the_clip(lane: Lane, release_of: Make) -> None:
    """A failure or two, a probe that fails for a moment: no clip dies of that."""
    name = lane.sites.loaded.release.members[0].triton_name
    lane.triton.script = [ModelFailed(name, "the stub died"), ModelFailed(name, "still dead"), None]
    lane.triton.sick = [True, True, False]
    await lane.safe(lane.record())
    assert len(lane.answers) == 1 and not lane.deaths and lane.triton.probes >= 3


async def test_a_model_that_stays_sick_sends_its_clips_away(lane_of: type[Lane], release_of: Make) -> None:
    """`model-unavailable`, so that the partition goes on; the clip itself is not blamed."""
    lane = lane_of(release_of(), sick_limit_s=0.0)
    name = lane.sites.loaded.release.members[0].triton_name
    lane.triton.script, lane.triton.sick = [ModelFailed(name, "the stub died")], [True]
    await lane.safe(lane.record())
    assert [died.reason for died in lane.deaths] == [Reason.MODEL_UNAVAILABLE]
    assert len(lane.triton.asked) == 1


async def test_a_model_that_hangs_holds_up_nobody_for_longer_than_the_first(lane_of: type[Lane], release_of: Make) -> None:
    """Sixteen clips that it failed wait for one verdict, not each for its own; later ones for none; and it is asked until it is well."""
    lane = lane_of(release_of(), sick_limit_s=0.0)
    name = lane.sites.loaded.release.members[0].triton_name
    lane.triton.script, lane.triton.sick = [ModelFailed(name, "Deadline Exceeded")], [True, True]
    lane.triton.hangs = asyncio.Event()
    clips = [lane.record(stream=f"tour-{n}") for n in range(16)]
    await asyncio.wait_for(asyncio.gather(*map(lane.safe, clips)), 30.0)
    assert [died.reason for died in lane.deaths] == [Reason.MODEL_UNAVAILABLE] * 16
    asked = len(lane.triton.asked)
    await asyncio.wait_for(lane.safe(lane.record(stream="later")), 30.0)
    assert len(lane.triton.asked) == asked and lane.deaths[-1].reason == Reason.MODEL_UNAVAILABLE
    assert lane.processor.waiting == ""
    lane.triton.script, lane.triton.sick = [], [False]
    lane.triton.hangs.set()
    await _until(lambda: not lane.processor._sick._given_up)
    await lane.safe(lane.record(stream="healed"))
    assert [answer.stream for answer in lane.answers] == ["healed"]


def came_back(letter: Message, times: int = 1) -> Message:
    """The record of a dead letter, sent again by itself."""
    message = revived(letter.headers, letter.value)
    for _ in range(times):
        message = replayed(message)
    return message


async def test_a_clip_that_hangs_its_model_is_not_sent_again_for_ever(lane_of: type[Lane], release_of: Make) -> None:
    """Each time the model heals and the clip hangs it: after three automatic replays the dead letter stays, and says why."""
    sent, reasons = lane_of.record(), []
    for _ in range(1 + REPLAYS):
        lane = lane_of(release_of(), sick_limit_s=0.0)
        name = lane.sites.loaded.release.members[0].triton_name
        lane.triton.script, lane.triton.sick = [ModelFailed(name, "Deadline Exceeded")], [True]
        await lane.safe(sent)
        (died,) = lane.deaths
        reasons.append(died.reason)
        sent = came_back(lane.published[0][1])
    assert reasons == [*[Reason.MODEL_UNAVAILABLE] * REPLAYS, Reason.POISON]
    assert f"Sent again {REPLAYS} times" in died.detail and name in died.detail and died.detail.endswith("not sent again by itself.")


async def test_who_came_back_beside_it_is_not_blamed(lane_of: type[Lane], release_of: Make) -> None:
    """They are tried one at a time; the first is the cause, and the others are sent away unasked, to come back once more."""
    lane = lane_of(release_of(), sick_limit_s=0.0)
    name = lane.sites.loaded.release.members[0].triton_name
    lane.triton.script, lane.triton.sick = [ModelFailed(name, "Deadline Exceeded")], [True, True]
    lane.triton.hangs = asyncio.Event()
    clips = [lane.record(stream=f"tour-{n}") for n in range(16)]
    for _ in range(REPLAYS):
        clips = [replayed(one) for one in clips]
    await asyncio.wait_for(asyncio.gather(*map(lane.safe, clips)), 30.0)
    assert sorted(died.reason for died in lane.deaths) == [*[Reason.MODEL_UNAVAILABLE] * 15, Reason.POISON]
    assert len(lane.triton.asked) == 1


async def test_a_clip_that_came_back_often_is_answered_like_any(lane: Lane) -> None:
    sent = lane.record()
    letter = dead_letter(lane.place, sent.key, sent.headers, sent.value, Invalid(Reason.MODEL_UNAVAILABLE, "sick."))
    await lane.safe(came_back(letter, 2 * REPLAYS))
    assert len(lane.answers) == 1 and not lane.deaths


async def test_a_model_that_no_release_names_any_more_is_watched_no_longer(lane_of: type[Lane], release_of: Make) -> None:
    """Nobody asks it again: its site has another."""
    lane = lane_of(release_of(), sick_limit_s=0.0)
    name = lane.sites.loaded.release.members[0].triton_name
    lane.triton.script, lane.triton.sick = [ModelFailed(name, "the stub died")], [True]
    await lane.safe(lane.record())
    assert lane.processor._sick._given_up.keys() == {name}
    lane.sites.loaded = release_of({"new": (["a", "b"], 1.0, FeatureSpec(n_mels=64))}, name="r2")
    await _until(lambda: not lane.processor._sick._given_up)
    lane.triton.script = []
    await lane.safe(lane.record())
    assert [answer.release for answer in lane.answers] == ["r2"]


async def test_a_clip_that_waits_for_a_models_probe_says_so(lane_of: type[Lane], release_of: Make) -> None:
    """A rebalance that takes its partition ends the worker instead of waiting with it."""
    lane = lane_of(release_of())
    name = lane.sites.loaded.release.members[0].triton_name
    lane.triton.script, lane.triton.sick = [ModelFailed(name, "the stub died"), None], [True]
    task = asyncio.ensure_future(lane.safe(lane.record()))
    await _until(lambda: lane.processor.waiting)
    assert name in lane.processor.waiting
    lane.triton.sick = [False]
    await task
    assert len(lane.answers) == 1 and lane.processor.waiting == ""


async def _until(condition: Callable[[], Any]) -> None:
    """Let the others run until it holds."""
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never held")


async def test_a_clip_that_kills_a_model_again_and_again_is_poison_not_the_models_sickness(lane_of: type[Lane],
    release_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time it heals within the limit; together it was sick for much longer."""
    lane, clock = lane_of(release_of(), sick_limit_s=10.0), iter(range(0, 10_000, 4))
    monkeypatch.setattr("stream_processors.safe.time.monotonic", lambda: float(next(clock)))
    name = lane.sites.loaded.release.members[0].triton_name
    lane.triton.script = [ModelFailed(name, "the stub died")]
    lane.triton.sick = [True, False] * POISON_FAILURES
    await lane.safe(lane.record())
    assert [died.reason for died in lane.deaths] == [Reason.POISON]


async def test_neighbours_of_a_poisonous_clip_are_answered(lane: Lane) -> None:
    """Suspects are tried one at a time, so that no innocent clip is counted among the failures."""
    name = lane.sites.loaded.release.members[0].triton_name
    bad = lane.record(stream="bad")
    running = 0

    async def infer(model: str, batch: np.ndarray, priority: int) -> np.ndarray:
        """Dies of the bad clip, and everything beside it with it."""
        nonlocal running
        running += 1
        beside, poisonous = running > 1, float(batch.max()) == 0.0
        await asyncio.sleep(0)
        running -= 1
        if poisonous or (beside and not lane.deaths):
            raise ModelFailed(name, "the stub died")
        return np.full((len(batch), 2), 0.9, np.float32)

    lane.triton.infer = infer  # type: ignore[method-assign]
    silent = encode(clip(_silence(), stream="bad"))
    await asyncio.gather(lane.safe(silent), *(lane.safe(lane.record(stream=f"good-{n}")) for n in range(6)))
    assert [died.reason for died in lane.deaths] == [Reason.POISON]
    assert {answer.stream for answer in lane.answers} == {f"good-{n}" for n in range(6)}
    assert bad.key == silent.key


def _silence() -> bytes:
    from soundscape.audio import encode_ogg

    return encode_ogg(np.zeros(160_000, np.float32))


async def test_a_bug_becomes_a_dead_letter(lane: Lane) -> None:
    """What escaped would be acknowledged and lost."""

    async def run(work: Any, *args: Any) -> Any:
        raise ZeroDivisionError("a bug")

    lane.children.run = run  # type: ignore[method-assign]
    await lane.safe(lane.record())
    (died,) = lane.deaths
    assert died.reason == Reason.POISON and "ZeroDivisionError" in died.detail


async def test_cancellation_passes(lane: Lane) -> None:
    """A rebalance takes the clip away: neither an answer nor a dead letter, and the offset stays."""
    lane.triton.script = [Unavailable("Triton does not answer")]
    task = asyncio.ensure_future(lane.safe(lane.record()))
    await lane.triton.asked_times(3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not lane.published and lane.processor.waiting == ""


async def test_a_child_that_dies_is_given_the_clip_again(lane: Lane) -> None:
    """It may have died for another's sake; three deaths are its own."""
    deaths = 2

    async def run(work: Any, *args: Any) -> Any:
        nonlocal deaths
        if deaths:
            deaths -= 1
            raise Invalid(Reason.DECODER_DIED, "The file killed the process that decoded it.")
        return work(*args)

    lane.children.run = run  # type: ignore[method-assign]
    await lane.safe(lane.record())
    assert len(lane.answers) == 1
    deaths = 3
    await lane.safe(lane.record(stream="again"))
    assert [died.reason for died in lane.deaths] == [Reason.DECODER_DIED]


async def test_a_promotion_while_a_clip_waits(lane: Lane, release_of: Make) -> None:
    """It is answered by the release in force when the model server is back, with features computed anew where they differ."""
    lane.triton.script = [Unavailable("Triton does not answer")]
    task = asyncio.ensure_future(lane.safe(lane.record()))
    await lane.triton.asked_times(3)
    other = FeatureSpec(n_mels=64)
    lane.sites.loaded, lane.sites.generation = release_of({"new": (["a", "b"], 1.0, other)}, name="r2"), 2
    lane.triton.script = []
    await task
    (answer,) = lane.answers
    assert (answer.release, answer.generation, answer.feature_fingerprints) == ("r2", 2, (other.fingerprint,))


async def test_a_dead_letter_too_large_goes_without_the_headers(lane: Lane) -> None:
    """The body is what must not be lost."""
    lane.broker = [Invalid(Reason.TOO_LARGE, "no room")]
    await lane.safe(encode(clip(b"no sound")))
    assert [died.original for died in lane.deaths] == [b"no sound"]
    assert not any(name.startswith("original_") for name, _ in lane.published[0][1].headers)


async def test_a_dead_letter_that_is_never_taken_ends_the_process(lane: Lane) -> None:
    """Returning would acknowledge a record that is nowhere."""
    lane.broker = [Invalid(Reason.TOO_LARGE, "no room")] * 2
    with pytest.raises(Broken):
        await lane.safe(encode(clip(b"no sound")))
    assert not lane.published


async def test_a_candidate_that_fails_keeps_nobody_waiting(lane: Lane, release_of: Make) -> None:
    """The champion answers the clip in its place, and the failure is counted."""
    failed = CANARY_FAILED.labels("test")._value.get()
    lane.sites.candidate = release_of({"new": (["a", "b"], 1.0, LOG_MEL)}, name="r2")
    name = lane.sites.candidate.release.members[0].triton_name
    lane.triton.script = [ModelFailed(name, "broken"), None]
    await lane.safe(lane.record())
    (answer,) = lane.answers
    assert (answer.release, answer.role) == ("r1", "champion") and not lane.deaths
    assert CANARY_FAILED.labels("test")._value.get() == failed + 1


async def test_a_candidate_answers_its_streams(lane: Lane, release_of: Make) -> None:
    lane.sites.candidate = release_of({"new": (["a", "b"], 1.0, LOG_MEL)}, name="r2")
    await lane.safe(lane.record())
    assert [(answer.release, answer.role) for answer in lane.answers] == [("r2", "canary")]
