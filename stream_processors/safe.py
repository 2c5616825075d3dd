"""What becomes of one record, whatever it holds: a prediction or a dead letter, acknowledged by the broker before its offset passes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from soundscape.errors import Broken, Invalid, Reason, Unavailable
from soundscape.events import ClipAnalysed, ClipRecorded, Place
from soundscape.metrics import CANARY_FAILED, CLIPS_IN, CLIPS_OUT, DEAD_LETTERS, IN_FLIGHT, WAITING
from soundscape.release import LoadedRelease
from soundscape.topics import DEAD_LETTERS as DEAD_LETTERS_TOPIC
from soundscape.topics import PREDICTIONS
from soundscape.wire import ORIGINAL, Headers, Message, dead_letter, decode, encode, replays
from stream_processors import sick
from stream_processors.analyse import Analyser
from stream_processors.extract import Extracted
from stream_processors.sick import SickModels
from stream_processors.sites import Serving, Sites
from stream_processors.triton import ModelFailed, Triton

log = logging.getLogger(__name__)

POISON_FAILURES = 5
"""A clip that failed so often, alone, on a model that answers its probe, is the cause."""
REPLAYS = 3
"""So often a clip is sent again by itself when its model answers again. Then it is tried alone, and not again if the model falls sick once
more: a clip that hangs its model would go round for ever, and take its site's clips with it."""
RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Pauses between tries while something that everybody needs is away; the last one repeats."""

Publish = Callable[[str, Message], Awaitable[None]]


class Processor:
    """Answers records of one lane by the safe pattern (docs/decisions/0003-stream.md): nothing escapes but Broken and cancellation."""

    def __init__(self, lane: str, analyser: Analyser, triton: Triton, sites: Sites, publish: Publish, sick_limit_s: float) -> None:
        self._lane, self._analyser, self._triton, self._sites, self._publish = lane, analyser, triton, sites, publish
        self._sick = SickModels(triton, sites, sick_limit_s)
        self._alone: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._last_try: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._waits: dict[Place, str] = {}

    @property
    def waiting(self) -> str:
        """Why clips wait, for what everybody needs or for a model that may heal in a moment; empty if none does."""
        return next(iter(self._waits.values()), "")

    async def safe(self, place: Place, key: bytes | None, headers: Headers, value: bytes | None) -> None:
        """Answer one record, or make it a dead letter; return when the broker has acknowledged either. Raises Broken if it never will."""
        received = time.time()
        CLIPS_IN.labels("analyse", self._lane).inc()
        with IN_FLIGHT.labels(self._lane).track_inprogress(), self._forgotten(place):
            try:
                await self._persist(place, PREDICTIONS.name, encode(await self._answered(place, headers, value, received)))
            except Exception as error:  # what escapes here is acknowledged and lost
                why = error if isinstance(error, Invalid) else _fault(error)
                log.warning("dead letter %s: %s: %s", place, why.reason, why.detail, exc_info=None if why is error else error)
                DEAD_LETTERS.labels(self._lane, why.reason).inc()
                await self._bury(place, key, headers, value, why)
        CLIPS_OUT.labels("analyse", self._lane).inc()

    async def _bury(self, place: Place, key: bytes | None, headers: Headers, value: bytes | None, why: Invalid) -> None:
        """Publish a dead letter, without the record's headers if the broker takes it no other way. Raises Broken if it takes none."""
        try:
            letter = dead_letter(place, key, headers, value, why)
            try:
                await self._persist(place, DEAD_LETTERS_TOPIC.name, letter)
            except Invalid:
                bare = [(name, item) for name, item in letter.headers if not name.startswith(ORIGINAL)]
                await self._persist(place, DEAD_LETTERS_TOPIC.name, letter._replace(headers=bare))
        except Exception as error:
            raise Broken(f"The dead letter of {place} cannot be published ({error}); the record is read again.") from error

    async def _answered(self, place: Place, headers: Headers, value: bytes | None, received: float) -> ClipAnalysed:
        clip = decode(ClipRecorded, headers, value)
        await self._sites.ready.wait()
        found = await self._analyser.features(clip, self._sites.serving(clip).loaded)
        replayed = replays(headers)
        if replayed < REPLAYS:
            return await self._tried(clip, place, received, found, replayed)
        async with self._last_try[clip.site]:  # so that nobody who came back with it is taken for the cause
            return await self._tried(clip, place, received, found, replayed)

    async def _tried(self, clip: ClipRecorded, place: Place, received: float, found: Extracted, replayed: int) -> ClipAnalysed:
        failed = Counter[str]()
        suspect: ModelFailed | None = None
        fallen = False
        for attempt in range(10**9):
            serving = self._sites.serving(clip, champion=fallen)  # a promotion while the clip waited
            loaded = serving.loaded
            if any(member.feature_fingerprint not in found.features for member in loaded.release.members):
                found = await self._analyser.features(clip, loaded)
            models = {member.name: member.triton_name for member in loaded.release.members if member.feature_fingerprint in found.features}
            out = self._sick.left_out(models.values()) if serving.role != "canary" else set()
            try:
                if serving.role != "canary" and not out:
                    self._sick.refuse(models.values())
                if suspect is None or suspect.model in out:
                    answer = await self._analyser.answer(clip, place, received, found, serving, out)
                else:
                    answer = await self._alone_with(suspect.model, serving, clip, place, received, found, out)
                self._waits.pop(place, None)
                silent = {models[one.member] for one in answer.left_out if one.member in models}
                self._sick.answered(set(models.values()) - silent)
                self._set_aside(loaded, silent - out)  # those that were late
                return answer
            except Unavailable as error:
                await self._wait(place, str(error), attempt)
            except Invalid as error:
                if error.reason == Reason.MODEL_UNAVAILABLE and self._sick.left_out(models.values()) - out:
                    continue  # the member that it waited for has been given up meanwhile: the others answer
                if error.reason == Reason.MODEL_UNAVAILABLE and suspect is not None and replayed >= REPLAYS:
                    what = f"Sent again {replayed} times, the clip failed on {suspect.model}, which then did not answer its own probe"
                    raise Invalid(Reason.POISON, f"{what}; it is kept for a look, and not sent again by itself.") from error
                raise
            except ModelFailed as error:
                self._waits.pop(place, None)
                log.warning("clip %s: %s", clip.clip_id, error)
                if serving.role == "canary":  # a candidate that fails keeps nobody waiting: the champion answers, and it counts
                    fallen = True
                    CANARY_FAILED.labels(clip.site).inc()
                    continue
                failed[error.model] += 1
                if self._lane == "live" and len(models) > 1 and failed[error.model] == 1:  # a guide waits for no member: the others answer
                    self._set_aside(loaded, {error.model})
                    if self._sick.left_out(models.values()) - out:
                        continue
                suspect = error
                if (again := failed.total() - len(failed)) >= POISON_FAILURES:  # the first failure of each may have been its own
                    what = f"The clip failed {again} times more on {error.model}, which answers its probe; it is kept for a look."
                    raise Invalid(Reason.POISON, what) from error
        raise AssertionError("unreachable")

    def _set_aside(self, loaded: LoadedRelease, models: set[str]) -> None:
        for model in models:
            self._sick.set_aside(model, _shapes(loaded)[model])

    async def _alone_with(
        self, model: str, serving: Serving, clip: ClipRecorded, place: Place, received: float, found: Extracted, out: set[str]
    ) -> ClipAnalysed:
        """Try a clip on which a model failed once more, with no other suspect beside it, once the model answers its own probe.

        Raises Invalid (model-unavailable) if the model has failed its probe for longer than the limit while the server lives.
        """
        shape = _shapes(serving.loaded).get(model)
        async with self._alone[model]:
            while shape is not None and not await self._sick.well(model, shape):
                self._say_waiting(place, f"model {model} does not answer its probe")
                await asyncio.sleep(sick.PROBE_EVERY_S)
            self._waits.pop(place, None)
            return await self._analyser.answer(clip, place, received, found, serving, out)

    @contextmanager
    def _forgotten(self, place: Place) -> Iterator[None]:
        """Whatever becomes of a clip, also one that is taken away: it waits no more."""
        try:
            yield
        finally:
            self._waits.pop(place, None)
            WAITING.labels(self._lane).set(len(self._waits) > 0)

    def _say_waiting(self, place: Place, why: str) -> None:
        self._waits[place] = why
        WAITING.labels(self._lane).set(1)

    async def _wait(self, place: Place, why: str, attempt: int) -> None:
        self._say_waiting(place, why)
        await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])

    async def _persist(self, place: Place, topic: str, message: Message) -> None:
        """Publish until the broker has acknowledged. Raises Invalid if it never will: the message is too large."""
        for attempt in range(10**9):
            try:
                await self._publish(topic, message)
            except Unavailable as error:
                await self._wait(place, str(error), attempt)
            else:
                return


def _shapes(loaded: LoadedRelease) -> dict[str, tuple[int, ...]]:
    """Of a window of features, by model."""
    features = loaded.release.features
    return {member.triton_name: features[member.feature_fingerprint].shape for member in loaded.release.members}


def _fault(error: Exception) -> Invalid:
    return Invalid(Reason.POISON, f"The clip could not be analysed ({type(error).__name__}); it is kept for a look.")
