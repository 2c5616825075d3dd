"""What becomes of one record, whatever it holds and whatever is away: by fakes of Triton, deployments and broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from soundscape.errors import Broken, Invalid, Reason, Unavailable
from soundscape.events import ClipAnalysed, ClipDied, ClipRecorded, Place, ReleaseRef, SiteDeployed
from soundscape.features import LOG_MEL, FeatureSpec
from soundscape.isolation import ChildPool
from soundscape.metrics import CANARY_FAILED
from soundscape.release import LoadedRelease
from soundscape.testing import ogg
from soundscape.testing_log import clip
from soundscape.wire import Message, dead_letter, decode, encode, replayed, revived
from stream_processors import analyse, safe, sick
from stream_processors.analyse import Analyser
from stream_processors.safe import POISON_FAILURES, REPLAYS, Processor
from stream_processors.sites import Serving, Sites
from stream_processors.triton import ModelFailed, Triton

if TYPE_CHECKING:
    from tests.unit.stream_processors.conftest import Make

PLACE = Place(topic="clips", partition=3, offset=41)
Say = Callable[[], None]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other at once."""
    monkeypatch.setattr(safe, "RETRY_S", (0.0,))
    monkeypatch.setattr(sick, "PROBE_EVERY_S", 0.0)
    monkeypatch.setattr(analyse, "LATE_S", 0.05)


class FakeTriton:
    """Answers 0.9 for every label, unless a script says otherwise; counts what it was asked."""

    def __init__(self, labels: int = 2) -> None:
        self.labels = labels
        self.script: list[Exception | None] = []
        """What the next inferences raise; None answers. The last one repeats."""
        self.sick: list[bool] = []
        """What the next probes say; the last one repeats. Healthy where there is none."""
        self.asked: list[tuple[str, int, int]] = []
        """(model, windows, priority) of each inference."""
        self.probes = 0
        self.hangs: asyncio.Event | None = None
        """What the probes wait for once the script of `sick` has come to its last word."""
        self.late: set[str] = set()
        self.broken: set[str] = set()
        """Models that answer neither clips nor probes."""
        self.dies: set[str] = set()
        """Models that every clip kills, and that answer their probes."""
        self._again = asyncio.Event()

    async def asked_times(self, count: int) -> None:
        """Return when it was asked so often."""
        while len(self.asked) < count:
            self._again.clear()
            await self._again.wait()

    async def infer(self, model: str, batch: np.ndarray, priority: int) -> np.ndarray:
        """As the adapter's."""
        self.asked.append((model, len(batch), priority))
        self._again.set()
        if model in self.late:
            await asyncio.Event().wait()
        if model in self.broken | self.dies:
            await asyncio.sleep(0)
            raise ModelFailed(model, "gone")
        error = (self.script.pop(0) if len(self.script) > 1 else self.script[0]) if self.script else None
        await asyncio.sleep(0)
        if error is not None:
            raise error
        return np.full((len(batch), self.labels), 0.9, np.float32)

    async def healthy(self, model: str, shape: tuple[int, ...]) -> bool:
        """As the adapter's."""
        self.probes += 1
        await asyncio.sleep(0)
        if self.hangs is not None and len(self.sick) == 1:
            await self.hangs.wait()
        if model in self.dies:
            return True
        return model not in self.broken and not ((self.sick.pop(0) if len(self.sick) > 1 else self.sick[0]) if self.sick else False)


class FakeSites:
    """One site, `test`."""

    def __init__(self, loaded: LoadedRelease) -> None:
        self.ready = asyncio.Event()
        self.ready.set()
        self.generation, self.loaded = 1, loaded
        self.candidate: LoadedRelease | None = None
        """Answers every stream, where there is one."""
        self.open = False
        """Serves any site."""

    @property
    def models(self) -> set[str]:
        """As the real one's."""
        return {member.triton_name for member in self.loaded.release.members}

    def serving(self, clip: ClipRecorded, *, champion: bool = False) -> Serving:
        """As the real one."""
        if clip.site != "test" and not self.open:
            raise Invalid(Reason.NO_RELEASE, f"No release is deployed for site {clip.site!r}.")
        ref = ReleaseRef(name=self.loaded.release.name, digest=self.loaded.digest)
        at = datetime.now(UTC)
        state = SiteDeployed(site="test", generation=self.generation, champion=ref, reason="", actor="test", at=at)
        if self.candidate is not None and not champion:
            return Serving(state, self.candidate, "canary")
        return Serving(state, self.loaded, "champion")


class InPlace:
    """Children that are this process."""

    async def run(self, work: Any, *args: Any) -> Any:
        """The work's result."""
        return work(*args)


class Lane:
    """A processor with everything around it in memory."""

    def __init__(self, loaded: LoadedRelease, lane: str = "live", sick_limit_s: float = 60.0) -> None:
        self.triton, self.sites, self.children = FakeTriton(len(loaded.label_names)), FakeSites(loaded), InPlace()
        self.published: list[tuple[str, Message]] = []
        self.broker: list[Exception | None] = []
        """What the next publications raise."""
        triton, sites = cast(Triton, self.triton), cast(Sites, self.sites)
        analyser = Analyser(lane, triton, cast(ChildPool, self.children))
        self.processor = Processor(lane, analyser, triton, sites, self._publish, sick_limit_s)

    async def _publish(self, topic: str, message: Message) -> None:
        error = self.broker.pop(0) if self.broker else None
        if error is not None:
            raise error
        self.published.append((topic, message))

    def safe(self, message: Message) -> Awaitable[None]:
        """One record."""
        return self.processor.safe(PLACE, message.key, message.headers, message.value)

    @property
    def answers(self) -> list[ClipAnalysed]:
        """What went to `predictions`."""
        return [decode(ClipAnalysed, sent.headers, sent.value) for topic, sent in self.published if topic == "predictions"]

    @property
    def deaths(self) -> list[ClipDied]:
        """What went to `dead-letters`."""
        return [decode(ClipDied, sent.headers, sent.value) for topic, sent in self.published if topic == "dead-letters"]


def record(**fields: Any) -> Message:
    """A clip's record."""
    return encode(clip(ogg(10.0, 2000.0), **fields))


@pytest.fixture
def lane(release_of: Make) -> Iterator[Lane]:
    """The live lane, with one member."""
    yield Lane(release_of())


async def test_a_clip_becomes_one_prediction(lane: Lane) -> None:
    """With its place on the log, its release and its generation; asked of the model at the lane's priority."""
    began = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
    await lane.safe(record(tour_id="t", tour_started_at=began, latitude=6.76))
    (answer,) = lane.answers
    assert not lane.deaths and answer.place == PLACE and (answer.release, answer.generation) == ("r1", 1)
    assert (answer.tour_id, answer.tour_started_at, answer.latitude, len(answer.windows)) == ("t", began, 6.76, 2)
    assert [(windows, priority) for _, windows, priority in lane.triton.asked] == [(2, 1)]


async def test_the_bulk_lane_asks_for_little_at_a_time(release_of: Make) -> None:
    """Four windows a request, at the lower priority."""
    bulk = Lane(release_of(), "bulk")
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
    sent = record()
    await lane.safe(sent._replace(headers=list((dict(sent.headers) | {header: value}).items())))
    assert [died.reason for died in lane.deaths] == [reason]


async def test_without_headers_or_value(lane: Lane) -> None:
    """A tombstone or a stranger's record has its dead letter too, named by its place."""
    await lane.processor.safe(PLACE, None, [], None)
    (died,) = lane.deaths
    assert (died.clip_id, died.reason, died.original) == ("clips:3:41", Reason.UNKNOWN_EVENT, b"")


async def test_an_absent_model_server_is_waited_for(lane: Lane) -> None:
    """However long; meanwhile `waiting` says why, and afterwards nothing."""
    lane.triton.script = [Unavailable("Triton does not answer")]
    task = asyncio.ensure_future(lane.safe(record()))
    await lane.triton.asked_times(50)
    assert lane.processor.waiting == "Triton does not answer" and not lane.published
    lane.triton.script = []
    await task
    assert len(lane.answers) == 1 and not lane.deaths and lane.processor.waiting == ""


async def test_an_absent_broker_is_waited_for(lane: Lane) -> None:
    """The answer is published until it is acknowledged, a dead letter as well."""
    lane.broker = [Unavailable("the broker does not take the answer")] * 20
    await lane.safe(record())
    assert len(lane.answers) == 1
    lane.broker = [Unavailable("the broker does not take the answer")] * 20
    await lane.safe(encode(clip(b"no sound")))
    assert len(lane.deaths) == 1 and lane.processor.waiting == ""


async def test_a_clip_that_fails_on_a_model_that_is_well_is_poison(lane: Lane) -> None:
    """After five failures alone, each with a probe that succeeded before it; its bytes are kept."""
    lane.triton.script = [ModelFailed("one-000000000000", "the stub died")]
    sent = record()
    await lane.safe(sent)
    (died,) = lane.deaths
    assert (died.reason, died.original) == (Reason.POISON, sent.value)
    assert len(lane.triton.asked) == 1 + POISON_FAILURES, "once beside others, then five times alone"


async def test_a_model_that_heals_answers_the_clip(lane: Lane, release_of: Make) -> None:
    """A failure or two, a probe that fails for a moment: no clip dies of that."""
    name = lane.sites.loaded.release.members[0].triton_name
    lane.triton.script = [ModelFailed(name, "the stub died"), ModelFailed(name, "still dead"), None]
    lane.triton.sick = [True, True, False]
    await lane.safe(record())
    assert len(lane.answers) == 1 and not lane.deaths and lane.triton.probes >= 3


async def test_a_model_that_stays_sick_sends_its_clips_away(release_of: Make) -> None:
    """`model-unavailable`, so that the partition goes on; the clip itself is not blamed."""
    lane = Lane(release_of(), sick_limit_s=0.0)
    name = lane.sites.loaded.release.members[0].triton_name
    lane.triton.script, lane.triton.sick = [ModelFailed(name, "the stub died")], [True]
    await lane.safe(record())
    assert [died.reason for died in lane.deaths] == [Reason.MODEL_UNAVAILABLE]
    assert len(lane.triton.asked) == 1


async def test_a_model_that_hangs_holds_up_nobody_for_longer_than_the_first(release_of: Make) -> None:
    """Sixteen clips that it failed wait for one verdict, not each for its own; later ones for none; and it is asked until it is well."""
    lane = Lane(release_of(), sick_limit_s=0.0)
    name = lane.sites.loaded.release.members[0].triton_name
    lane.triton.script, lane.triton.sick = [ModelFailed(name, "Deadline Exceeded")], [True, True]
    lane.triton.hangs = asyncio.Event()
    clips = [record(stream=f"tour-{n}") for n in range(16)]
    await asyncio.wait_for(asyncio.gather(*map(lane.safe, clips)), 30.0)
    assert [died.reason for died in lane.deaths] == [Reason.MODEL_UNAVAILABLE] * 16
    asked = len(lane.triton.asked)
    await asyncio.wait_for(lane.safe(record(stream="later")), 30.0)
    assert len(lane.triton.asked) == asked and lane.deaths[-1].reason == Reason.MODEL_UNAVAILABLE
    assert lane.processor.waiting == ""
    lane.triton.script, lane.triton.sick = [], [False]
    lane.triton.hangs.set()
    await _until(lambda: not lane.processor._sick._given_up)
    await lane.safe(record(stream="healed"))
    assert [answer.stream for answer in lane.answers] == ["healed"]


def came_back(letter: Message, times: int = 1) -> Message:
    """The record of a dead letter, sent again by itself."""
    message = revived(letter.headers, letter.value)
    for _ in range(times):
        message = replayed(message)
    return message


async def test_a_clip_that_hangs_its_model_is_not_sent_again_for_ever(release_of: Make) -> None:
    """Each time the model heals and the clip hangs it: after three automatic replays the dead letter stays, and says why."""
    sent, reasons = record(), []
    for _ in range(1 + REPLAYS):
        lane = Lane(release_of(), sick_limit_s=0.0)
        name = lane.sites.loaded.release.members[0].triton_name
        lane.triton.script, lane.triton.sick = [ModelFailed(name, "Deadline Exceeded")], [True]
        await lane.safe(sent)
        (died,) = lane.deaths
        reasons.append(died.reason)
        sent = came_back(lane.published[0][1])
    assert reasons == [*[Reason.MODEL_UNAVAILABLE] * REPLAYS, Reason.POISON]
    assert f"Sent again {REPLAYS} times" in died.detail and name in died.detail and died.detail.endswith("not sent again by itself.")


async def test_who_came_back_beside_it_is_not_blamed(release_of: Make) -> None:
    """They are tried one at a time; the first is the cause, and the others are sent away unasked, to come back once more."""
    lane = Lane(release_of(), sick_limit_s=0.0)
    name = lane.sites.loaded.release.members[0].triton_name
    lane.triton.script, lane.triton.sick = [ModelFailed(name, "Deadline Exceeded")], [True, True]
    lane.triton.hangs = asyncio.Event()
    clips = [record(stream=f"tour-{n}") for n in range(16)]
    for _ in range(REPLAYS):
        clips = [replayed(one) for one in clips]
    await asyncio.wait_for(asyncio.gather(*map(lane.safe, clips)), 30.0)
    assert sorted(died.reason for died in lane.deaths) == [*[Reason.MODEL_UNAVAILABLE] * 15, Reason.POISON]
    assert len(lane.triton.asked) == 1


async def test_a_clip_that_came_back_often_is_answered_like_any(lane: Lane) -> None:
    sent = record()
    letter = dead_letter(PLACE, sent.key, sent.headers, sent.value, Invalid(Reason.MODEL_UNAVAILABLE, "sick."))
    await lane.safe(came_back(letter, 2 * REPLAYS))
    assert len(lane.answers) == 1 and not lane.deaths


async def test_a_model_that_no_release_names_any_more_is_watched_no_longer(release_of: Make) -> None:
    """Nobody asks it again: its site has another."""
    lane = Lane(release_of(), sick_limit_s=0.0)
    name = lane.sites.loaded.release.members[0].triton_name
    lane.triton.script, lane.triton.sick = [ModelFailed(name, "the stub died")], [True]
    await lane.safe(record())
    assert lane.processor._sick._given_up.keys() == {name}
    lane.sites.loaded = release_of({"new": (["a", "b"], 1.0, FeatureSpec(n_mels=64))}, name="r2")
    await _until(lambda: not lane.processor._sick._given_up)
    lane.triton.script = []
    await lane.safe(record())
    assert [answer.release for answer in lane.answers] == ["r2"]


async def test_a_clip_that_waits_for_a_models_probe_says_so(release_of: Make) -> None:
    """A rebalance that takes its partition ends the worker instead of waiting with it."""
    lane = Lane(release_of())
    name = lane.sites.loaded.release.members[0].triton_name
    lane.triton.script, lane.triton.sick = [ModelFailed(name, "the stub died"), None], [True]
    task = asyncio.ensure_future(lane.safe(record()))
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


async def test_a_clip_that_kills_a_model_again_and_again_is_poison_not_the_models_sickness(
    release_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time it heals within the limit; together it was sick for much longer."""
    lane, clock = Lane(release_of(), sick_limit_s=10.0), iter(range(0, 10_000, 4))
    monkeypatch.setattr("stream_processors.safe.time.monotonic", lambda: float(next(clock)))
    name = lane.sites.loaded.release.members[0].triton_name
    lane.triton.script = [ModelFailed(name, "the stub died")]
    lane.triton.sick = [True, False] * POISON_FAILURES
    await lane.safe(record())
    assert [died.reason for died in lane.deaths] == [Reason.POISON]


async def test_neighbours_of_a_poisonous_clip_are_answered(lane: Lane) -> None:
    """Suspects are tried one at a time, so that no innocent clip is counted among the failures."""
    name = lane.sites.loaded.release.members[0].triton_name
    bad = record(stream="bad")
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
    await asyncio.gather(lane.safe(silent), *(lane.safe(record(stream=f"good-{n}")) for n in range(6)))
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
    await lane.safe(record())
    (died,) = lane.deaths
    assert died.reason == Reason.POISON and "ZeroDivisionError" in died.detail


async def test_cancellation_passes(lane: Lane) -> None:
    """A rebalance takes the clip away: neither an answer nor a dead letter, and the offset stays."""
    lane.triton.script = [Unavailable("Triton does not answer")]
    task = asyncio.ensure_future(lane.safe(record()))
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
    await lane.safe(record())
    assert len(lane.answers) == 1
    deaths = 3
    await lane.safe(record(stream="again"))
    assert [died.reason for died in lane.deaths] == [Reason.DECODER_DIED]


async def test_a_promotion_while_a_clip_waits(lane: Lane, release_of: Make) -> None:
    """It is answered by the release in force when the model server is back, with features computed anew where they differ."""
    lane.triton.script = [Unavailable("Triton does not answer")]
    task = asyncio.ensure_future(lane.safe(record()))
    await lane.triton.asked_times(3)
    other = FeatureSpec(n_mels=64)
    lane.sites.loaded, lane.sites.generation = release_of({"new": (["a", "b"], 1.0, other)}, name="r2"), 2
    lane.triton.script = []
    await task
    (answer,) = lane.answers
    assert (answer.release, answer.generation, answer.feature_fingerprints) == ("r2", 2, (other.fingerprint,))


async def test_a_late_member_is_left_out_of_a_live_answer(release_of: Make) -> None:
    """And named; the bulk lane would wait for it."""
    loaded = release_of({"one": (["a", "b"], 1.0, LOG_MEL), "slow": (["a", "b"], 1.0, LOG_MEL)})
    lane = Lane(loaded)
    lane.triton.late = {loaded.release.members[1].triton_name}
    await lane.safe(record())
    (answer,) = lane.answers
    assert [one.member for one in answer.left_out] == ["slow"] and answer.windows[0].scores == (0.9, 0.9)
    bulk = Lane(loaded, "bulk")
    bulk.triton.late = lane.triton.late
    task = asyncio.ensure_future(bulk.safe(encode(clip(ogg(5.0, 2000.0), lane="bulk"))))
    done, _ = await asyncio.wait({task}, timeout=0.3)
    assert not done and not bulk.published
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("at", ["live", "bulk"])
async def test_a_member_that_is_stopped_is_left_out_until_it_answers_again(release_of: Make, at: str) -> None:
    """A guide's clip does not wait for it, a recorder's until it is given up; nobody asks it in between, and it comes back by itself."""
    loaded = release_of({"one": (["a", "b"], 1.0, LOG_MEL), "two": (["a", "b"], 1.0, LOG_MEL)})
    lane, stopped = Lane(loaded, at, sick_limit_s=0.0), loaded.release.members[1].triton_name
    lane.triton.broken = {stopped}
    for n in range(3):
        await lane.safe(record(stream=f"s{n}"))
    assert [[one.member for one in answer.left_out] for answer in lane.answers] == [["two"]] * 3 and not lane.deaths
    fusions = [answer.fusion.weights for answer in lane.answers if answer.fusion]
    assert fusions == [{"one": 1.0}] * 3 and not any(answer.calibrated for answer in lane.answers)
    asked = [model for model, _, _ in lane.triton.asked].count(stopped)
    assert asked == 1, "nobody waits for it again"
    lane.triton.broken = set()
    await asyncio.gather(*lane.processor._sick._aside.values(), *lane.processor._sick._given_up.values())
    await lane.safe(record(stream="well"))
    assert not lane.answers[-1].left_out


@pytest.mark.parametrize("at", ["live", "bulk"])
async def test_a_clip_that_kills_every_member_is_poison(release_of: Make, at: str) -> None:
    """However they take turns in dying and healing: nobody behind it waits for more than a few tries."""
    loaded = release_of({"one": (["a", "b"], 1.0, LOG_MEL), "two": (["a", "b"], 1.0, LOG_MEL)})
    lane = Lane(loaded, at)
    lane.triton.dies = {member.triton_name for member in loaded.release.members}
    await asyncio.wait_for(lane.safe(record()), 20.0)
    assert [died.reason for died in lane.deaths] == [Reason.POISON] and not lane.answers
    assert len(lane.triton.asked) <= 4 * (POISON_FAILURES + 2)


async def test_where_all_members_are_stopped_the_clip_waits_aside(release_of: Make, tmp_path: Path) -> None:
    """Also where the only one that takes its features is: that is no poison."""
    wave = FeatureSpec(kind="waveform", sample_rate=48_000)
    loaded = release_of({"own": (["a", "b"], 1.0, LOG_MEL), "birdnet": (["a", "b"], 1.0, wave)})
    lane = Lane(loaded, sick_limit_s=0.0)
    lane.triton.broken = {member.triton_name for member in loaded.release.members}
    await lane.safe(record())
    lane.triton.broken = {loaded.release.members[0].triton_name}
    np.save(tmp_path / "mels.npy", np.full((1, *LOG_MEL.shape), 0.5, np.float16))
    mels = (tmp_path / "mels.npy").read_bytes()
    await lane.safe(encode(clip(mels, content_type="application/x-npy", feature_fingerprint=LOG_MEL.fingerprint)))
    assert [died.reason for died in lane.deaths] == [Reason.MODEL_UNAVAILABLE] * 2 and not lane.answers


async def test_uploaded_log_mels_leave_out_the_members_that_hear_sound(release_of: Make, tmp_path: Path) -> None:
    """The answer says so."""
    wave = FeatureSpec(kind="waveform", sample_rate=48_000)
    loaded = release_of({"own": (["a", "b"], 1.0, LOG_MEL), "birdnet": (["a", "b"], 1.0, wave)})
    lane = Lane(loaded)
    np.save(tmp_path / "mels.npy", np.full((1, *LOG_MEL.shape), 0.5, np.float16))
    body = (tmp_path / "mels.npy").read_bytes()
    await lane.safe(encode(clip(body, content_type="application/x-npy", feature_fingerprint=LOG_MEL.fingerprint)))
    (answer,) = lane.answers
    assert [one.member for one in answer.left_out] == ["birdnet"] and [one.label for one in answer.detections] == ["a", "b"]


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
    await lane.safe(record())
    (answer,) = lane.answers
    assert (answer.release, answer.role) == ("r1", "champion") and not lane.deaths
    assert CANARY_FAILED.labels("test")._value.get() == failed + 1


async def test_a_candidate_answers_its_streams(lane: Lane, release_of: Make) -> None:
    lane.sites.candidate = release_of({"new": (["a", "b"], 1.0, LOG_MEL)}, name="r2")
    await lane.safe(record())
    assert [(answer.release, answer.role) for answer in lane.answers] == [("r2", "canary")]
