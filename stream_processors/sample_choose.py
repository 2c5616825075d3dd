"""Step 4 of a clip's path: from an answer or a guide's flag to a sample on the log, or to the reason why there is none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from soundscape.clip_reader import ClipReader
from soundscape.denied import DenyList
from soundscape.errors import Invalid
from soundscape.events import ClipAnalysed, ClipSampled, FeedbackGiven, Place
from soundscape.isolation import ChildPool
from soundscape.metrics import SAMPLED, WITHHELD
from soundscape.release import load_release
from soundscape.sampling import Measure, Wanted, flagged, part, private, tells_speech, wanted
from soundscape.settings import Settings
from soundscape.topics import SAMPLES
from soundscape.wire import Message, encode
from stream_processors.sample_cut import cut
from stream_processors.sample_known import Heard, Sampled, Samples

log = logging.getLogger(__name__)

FLAGS = ("wrong", "species", "unknown")
"""Verdicts of a guide that ask for a labeler."""
MEASURES = 16
"""Releases whose thresholds are kept at hand."""

Publish = Callable[[str, Message], Awaitable[None]]


@dataclass(frozen=True)
class Found:
    """An answer, where it lies, and the reasons that were found to sample its clip."""

    answer: ClipAnalysed
    place: Place
    wants: list[Wanted]


class Chooser:
    """Chooses and publishes samples, one after the other: quotas and a clip's reasons are read and written in one step."""

    def __init__(self, settings: Settings, samples: Samples, denied: DenyList, children: ChildPool, publish: Publish) -> None:
        self._settings, self._samples, self._denied, self._children, self._publish = settings, samples, denied, children, publish
        self._heard = Heard()
        self._measures: dict[str, Measure | None] = {}
        self._reader: ClipReader | None = None
        self._one, self._opening = asyncio.Lock(), asyncio.Lock()

    async def reasons(self, place: Place, event: ClipAnalysed | FeedbackGiven) -> Found | None:
        """What speaks for a sample of the record's clip; None if nothing does. Raises Unavailable."""
        return await (self._of_answer(place, event) if isinstance(event, ClipAnalysed) else self._of_flag(event))

    async def _of_answer(self, place: Place, answer: ClipAnalysed) -> Found | None:
        if answer.probe:
            return None
        measure, day = await self._measure(answer), answer.stages.predicted.date()

        def rare(label: str) -> bool:
            if measure is None:
                return self._heard.rare(answer.site, label, day)
            return label in measure.thresholds and (label in measure.rare or self._heard.rare(answer.site, label, day))

        wants = wanted(answer, self._settings.sample_rate, measure, rare)
        self._heard.note(answer.site, [one.label for one in answer.detections], day)
        return Found(answer, place, wants) if wants else None

    async def _of_flag(self, said: FeedbackGiven) -> Found | None:
        if said.verdict not in FLAGS:
            return None
        answer = await asyncio.to_thread((await self._open()).answer, said.answer_place, said.clip_id)
        if answer is None:
            WITHHELD.labels("flagged", "gone").inc()
            return None
        return None if answer.probe else Found(answer, said.answer_place, [flagged(answer, said.heard)])

    async def sample(self, found: Found) -> None:
        """Publish the clip's sample and wait for the acknowledgement, or count why not; one that has these reasons stays as it is.

        Raises Unavailable: nothing was counted, and the same again is the same.
        """
        clip = str(found.answer.clip_id)
        async with self._one:
            before = self._samples.get(clip)
            new = [want for want in found.wants if before is None or want.reason not in before.reasons]
            refused = {want.reason: why for want in new if (why := self._why_not(found.answer, want))}
            chosen = [want for want in new if want.reason not in refused]
            if chosen and (why := await self._said(found, chosen, before)):
                refused |= dict.fromkeys((want.reason for want in chosen), why)
        for want in new:
            if want.reason in refused:
                WITHHELD.labels(want.reason, refused[want.reason]).inc()
            else:
                SAMPLED.labels(want.reason).inc()

    def _why_not(self, answer: ClipAnalysed, want: Wanted) -> str:
        """Why the clip is not sampled for this reason; empty if it may be."""
        if answer.clip_id in self._denied:
            return "denied"
        if not tells_speech(answer) and not self._settings.sample_untold_speech:
            return "untold"
        if part(want, len(answer.windows), private(answer, self._settings.speech_limit)) is None:
            return "speech"
        return "" if self._samples.room(answer.site, want, datetime.now(UTC).date()) else "quota"

    async def _said(self, found: Found, chosen: list[Wanted], before: Sampled | None) -> str:
        """Publish a sample for these reasons and those before; returns why it was not. Raises Unavailable."""
        answer = found.answer
        start_s, end_s = self._heard_part(answer, chosen, before)
        withheld = private(answer, self._settings.speech_limit)
        if any(answer.windows[n].start_s < end_s and answer.windows[n].end_s > start_s for n in withheld):
            return "speech"  # the part was chosen by another answer, which heard no voice
        clip = await asyncio.to_thread((await self._open()).read, answer.place, answer.clip_id)
        if clip is None:
            return "gone"
        if clip.content_type != "audio/ogg":
            return "log-mels"
        try:
            sound, end_s = await self._children.run(cut, clip.audio, start_s, end_s)
            event = self._event(found, chosen, before, start_s, end_s, sound)
            if answer.clip_id in self._denied:  # a labeler heard somebody in the meantime
                return "denied"
            await self._publish(SAMPLES.name, encode(event))
        except Invalid as error:
            log.warning("clip %s is not sampled: %s", answer.clip_id, error)
            return str(error.reason)
        self._samples.put(str(answer.clip_id), Sampled.of(event))
        return ""

    def _heard_part(self, answer: ClipAnalysed, chosen: list[Wanted], before: Sampled | None) -> tuple[float, float]:
        """Seconds from and to. A random window stays what it is, and what labelers have begun to hear stays; else the first reason's."""
        if before is not None and before.end_s is not None and chosen[0].reason != "random":
            return before.start_s, before.end_s
        found = part(chosen[0], len(answer.windows), private(answer, self._settings.speech_limit))
        assert found is not None  # `_why_not` has refused it otherwise
        return answer.windows[found[0]].start_s, answer.windows[found[1] - 1].end_s

    def _event(
        self, found: Found, chosen: list[Wanted], before: Sampled | None, start_s: float, end_s: float, sound: bytes
    ) -> ClipSampled:
        answer, added = found.answer, [want.reason for want in chosen]
        reasons = list(dict.fromkeys([*(before.reasons if before else ()), *added]))
        reasons.sort(key=lambda reason: reason != "random")
        drawn = self._settings.sample_rate if "random" in added else 1.0
        return ClipSampled.model_validate(
            {
                **answer.model_dump(include={"clip_id", "stream", "site", "tour_id", "recorder", "recorded_at", "release"}),
                **answer.place.model_dump(),
                "reason": reasons[0],
                "reasons": ",".join(reasons),
                "probability": before.probability if before and "random" not in added else drawn,
                "start_s": start_s,
                "end_s": end_s,
                "answer_place": str(found.place),
                "sampled_at": before.sampled_at if before else datetime.now(UTC),
                "audio": sound,
            }
        )

    async def _measure(self, answer: ClipAnalysed) -> Measure | None:
        """The measure of the answer's release; None where that is no longer there."""
        digest = answer.release_digest
        if digest not in self._measures:
            measure = None
            try:
                measure = Measure.of(await asyncio.to_thread(load_release, self._settings.releases / answer.release, digest))
            except Invalid as error:
                log.warning("answers of %s are sampled without its thresholds: %s", answer.release, error)
            self._measures = dict([*self._measures.items()][1 - MEASURES :]) | {digest: measure}
        return self._measures[digest]

    async def _open(self) -> ClipReader:
        """The reader of clips, made on first use. Raises Unavailable."""
        async with self._opening:
            if self._reader is None:
                self._reader = await asyncio.to_thread(ClipReader, self._settings)
            return self._reader
