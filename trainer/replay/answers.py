"""A stretch of the log answered by another release: onto `shadow-predictions`, under a run id of its own, where no guide sees it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from soundscape.denied import DenyList, read_denied
from soundscape.errors import Invalid, Reason
from soundscape.events import ClipRecorded, Place
from soundscape.events import clip_id as identity
from soundscape.isolation import ChildPool
from soundscape.kafka import abandon, new_consumer, new_producer, publish
from soundscape.release import named_release
from soundscape.settings import Settings
from soundscape.topics import SHADOW_PREDICTIONS
from soundscape.wire import PREFIX, decode, encode, texts
from trainer.replay.cut import in_child
from trainer.replay.log import Batch, Journal, batches, following
from trainer.replay.release import LocalRelease, extract, warm_up
from trainer.replay.run import Plan, Progress, Request, run_in


class Answering:
    """One run of a release over a stretch of the log."""

    def __init__(self, settings: Settings, release: LocalRelease, request: Request, plan: Plan, denied: DenyList) -> None:
        """Raises Unavailable without a broker."""
        self._release, self._request, self._plan, self._denied = release, request, plan, denied
        self.consumer = new_consumer(settings)
        self._producer = new_producer(settings)
        self._pool = ChildPool(settings.decoding_children, warm_up)
        self._lost: Counter[str] = Counter()

    def close(self) -> None:
        """End the children and leave the broker."""
        self._pool.close()
        abandon(self._producer)
        self.consumer.close()

    def run(self, journal: Journal, progress: Progress, runner: asyncio.Runner) -> Counter[str]:
        """Answer what is left of the stretch; returns what became of all its clips. Raises Unavailable, Invalid."""
        for batch in batches(self.consumer, self._plan.clips, self._request.topics, journal.positions, self._lost):
            became = runner.run(self._take(batch))
            became.update(removed_meanwhile=self._lost.total())
            self._lost.clear()
            journal.note(following(batch), (), +became)
            progress.done(batch[-1].topic, len(batch))
        return journal.left + Counter(removed_meanwhile=self._lost.total())

    async def _take(self, batch: Batch) -> Counter[str]:
        """Features of all of them at once, then an answer after the other: each is acknowledged before the batch counts as done."""
        became: Counter[str] = Counter()
        clips = [(record, clip) for record in batch if (clip := self._wanted(record, became)) is not None]
        received = time.time()
        found = await asyncio.gather(
            *(in_child(self._pool, extract, one.audio, one.content_type, one.feature_fingerprint, self._release.specs) for _, one in clips)
        )
        for (record, clip), heard in zip(clips, found, strict=True):
            try:
                if isinstance(heard, Invalid):
                    raise heard
                place = Place(topic=record.topic, partition=record.partition, offset=record.offset)
                answer = self._release.answer(clip, place, heard, self._plan.run_id, received)
            except Invalid as error:
                became[str(error.reason)] += 1
                continue
            publish(self._producer, SHADOW_PREDICTIONS.name, encode(answer))
            became["answered"] += 1
        return became

    def _wanted(self, record: Any, became: Counter[str]) -> ClipRecorded | None:
        named = texts(record.headers)
        if named.get(PREFIX + "probe") == "true" or self._request.site not in (None, named.get(PREFIX + "site")):
            return None
        if named.get(PREFIX + "id", "") in self._denied:
            became["denied"] += 1
            return None
        try:
            clip = decode(ClipRecorded, record.headers, record.value)
            if str(clip.clip_id) != identity(clip.site, clip.stream, clip.recorded_at, clip.sha256):
                raise Invalid(Reason.WRONG_IDENTITY, "The clip's id does not follow from what it says.")
        except Invalid as error:
            became[str(error.reason)] += 1
            return None
        return clip


def replay_release(settings: Settings, request: Request, progress: Progress) -> dict[str, Any]:
    """Answer a stretch of the log by the request's release; goes on with an unfinished run of the same request. Returns its manifest.

    The journal lies in `replays` under the data folder, under a name that follows from the request; when the run has ended its folder
    takes the run id as name, so that the same request again is a new run. Raises Invalid where the range is empty or the release does
    not fit, Unavailable without a broker.
    """
    release = LocalRelease(named_release(settings.releases, (request.release or "")))
    digest = hashlib.sha256(json.dumps([request.plain(), release.loaded.digest], sort_keys=True).encode()).hexdigest()
    folder = settings.root / "replays" / f"unfinished-{digest[:12]}"

    def work(plan: Plan, journal: Journal) -> dict[str, Any]:
        answering = Answering(settings, release, request, plan, read_denied(settings))
        try:
            with asyncio.Runner() as runner:
                became = answering.run(journal, progress, runner)
        finally:
            answering.close()
        return {
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "release": {"name": release.loaded.release.name, "digest": release.loaded.digest},
            "topic": SHADOW_PREDICTIONS.name,
            "offsets": {"from": plan.clips.asked, "to": plan.clips.end},
            "removed": [str(one) for one in plan.clips.removed],
            "answered": became.pop("answered", 0),
            "left_out": dict(sorted((+became).items())),
        }

    manifest = run_in(settings, request, folder, (), progress, work)
    folder.rename(folder.with_name(manifest["run_id"]))
    return manifest
