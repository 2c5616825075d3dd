"""The labeler's desk: a sample handed out, its labels taken in, its answer shown, a voice erased."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from consumers.labeler.erase import erase
from consumers.labeler.pictures import Drawn, axis, draw
from consumers.labeler.problems import Problem
from consumers.labeler.queue import Done, Leases, done_by, next_task, stage_of, task_for
from consumers.labeler.reveal import is_open, revealed
from consumers.labeler.rules import judge, withdrawn
from consumers.labeler.schemas import LabelSent
from consumers.labeler.shelf import Sample, Shelf
from consumers.labeler.species import SpeciesList
from soundscape.audio import WINDOW_S
from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.events import ClipAnalysed, ClipLabelled
from soundscape.judgements import blind_pairs, kappa
from soundscape.keys import Key
from soundscape.settings import Settings

log = logging.getLogger(__name__)

HELD = 12
"""Sounds with their pictures that are kept at hand: 4 MB each at most."""


class Logs(Protocol):
    """consumers.labeler.log.Log, or a test's."""

    def sound(self, sample: Sample) -> bytes | None:
        """Raises Unavailable."""

    def answer(self, sample: Sample) -> ClipAnalysed | None:
        """Raises Unavailable."""

    def label(self, event: ClipLabelled) -> int:
        """Raises Unavailable."""

    def forget(self, clip_id: str) -> int:
        """Raises Unavailable."""


class Children(Protocol):
    """soundscape.isolation.ChildPool, or a test's."""

    async def run(self, work: Callable[[bytes], Drawn], sound: bytes, /) -> Drawn:
        """Raises what the work raises, and Invalid."""


class Lists(Protocol):
    """consumers.labeler.species.SiteSpecies, or a test's."""

    def of(self, site: str) -> SpeciesList:
        """Raises Unavailable."""


@dataclass(frozen=True)
class Sound:
    """A sample's sound at hand."""

    ogg: bytes
    drawn: Drawn


class Desk:
    """What labelers do, one at a time where it matters."""

    def __init__(self, settings: Settings, shelf: Shelf, logs: Logs, children: Children, species: Lists) -> None:
        self.shelf, self.species, self.leases = shelf, species, Leases()
        self._settings, self._logs, self._children = settings, logs, children
        self._judging, self._drawing = asyncio.Lock(), asyncio.Lock()
        self._sounds: OrderedDict[tuple[str, int], Sound] = OrderedDict()

    def see(self, key: Key, clip_id: str) -> Sample:
        """The sample of a clip. Raises Problem: 404 unknown or another site's, 410 deleted; 503 while the log is read."""
        self._require_ready()
        sample = self.shelf.sample(clip_id)
        if self.shelf.denied(clip_id):
            raise Problem(410, "deleted", "A voice was heard in this clip and its sound was deleted; go on with GET /v1/queue/next.")
        if sample is None or (key.bound and key.site != sample.site):
            raise Problem(404, "not-found", f"There is no sample {clip_id} that this key may see; GET /v1/queue/next gives one.")
        return sample

    async def sound(self, sample: Sample) -> Sound:
        """The sample's sound and pictures. Raises Problem (410) where it is gone from the log or cannot be heard; Unavailable."""
        place = (sample.clip_id, sample.place.offset)
        async with self._drawing:
            if (held := self._sounds.get(place)) is None:
                try:
                    if (ogg := await asyncio.to_thread(self._logs.sound, sample)) is None:
                        raise Invalid(Reason.EMPTY, "The sound of this sample is no longer on the log.")
                    held = Sound(ogg, await self._children.run(draw, ogg))
                except Invalid as error:
                    self.shelf.gone(sample)
                    raise Problem(410, "gone", f"{error.detail} Go on with GET /v1/queue/next.") from error
                self._sounds[place] = held
                while len(self._sounds) > HELD:
                    self._sounds.popitem(last=False)
            self._sounds.move_to_end(place)
            return held

    async def next(self, labeler: str, site: str) -> dict[str, Any] | None:
        """What the labeler gets next, leased to them; None where there is nothing. Raises Unavailable, Problem (503)."""
        self._require_ready()
        while True:
            task = await asyncio.to_thread(next_task, self._view(site), labeler, self.leases.holder)
            if task is None:
                return None
            lease_s = self.leases.take(task.sample.clip_id, labeler)
            try:
                sound = await self.sound(task.sample)
            except Problem:
                continue  # gone since: the next one
            sample = task.sample
            if sample.end_s is not None:
                break
            self.shelf.measured(sample, sound.drawn.seconds)  # and it is asked for again, now by all its windows
        asked = {start for start, _ in task.windows}
        return {
            "clip_id": sample.clip_id,
            "site": sample.site,
            "recorder": sample.recorder,
            "recorded_at": sample.recorded_at.isoformat() if sample.recorded_at else None,
            "start_s": sample.start_s,
            "seconds": sound.drawn.seconds,
            "windows": [{"n": n, "start_s": s, "end_s": e, "asked": s in asked} for n, (s, e) in enumerate(sample.windows)],
            "whole": task.whole,
            "lease_s": lease_s,
            "window_s": WINDOW_S,
            "axis": axis(),
        }

    async def label(self, sent: list[LabelSent], key: Key) -> dict[str, Any]:
        """Take labels in, all or none, and show the answers they open. Raises Problem (404, 409, 410, 422, 503), Unavailable."""
        self._require_ready()
        for clip in {str(one.clip_id) for one in sent}:
            sample = self.shelf.sample(clip)
            if sample is not None and sample.end_s is None:  # as after a restart: how many windows it has is not known yet
                self.shelf.measured(sample, (await self.sound(self.see(key, clip))).drawn.seconds)
        async with self._judging:
            judged = judge(sent, key.name, lambda clip: self.see(key, clip), self.shelf, self._may_name, datetime.now(UTC))
            for one in judged:
                if one.new:
                    await self._say(one.event)
            for clip in {str(one.event.clip_id) for one in judged if one.event.verdict == "speech"}:
                await asyncio.to_thread(self.forget, clip)
        clips = dict.fromkeys(str(one.event.clip_id) for one in judged)
        for clip in clips:
            rest = self.shelf.sample(clip)
            if self.leases.holder(clip) == key.name and (rest is None or not task_for(rest, self.shelf.labels_of(clip), key.name)):
                self.leases.release(key.name)
        return {
            "labels": [one.event.model_dump(mode="json") for one in judged],
            "answers": {clip: await self._answer(clip, key.name) for clip in clips},
        }

    async def withdraw(self, label_id: str, key: Key) -> ClipLabelled:
        """Take a label back. Raises Problem (404, 403), Unavailable."""
        self._require_ready()
        async with self._judging:
            label = self.shelf.label(label_id)
            if label is None or (key.bound and key.site != label.site):
                raise Problem(404, "not-found", f"There is no label {label_id} that this key may see.")
            if key.role != "operator" and label.by != key.name:
                raise Problem(403, "forbidden", f"The label is {label.by}'s; they or an operator can withdraw it.")
            if label.verdict != "withdrawn":
                label = withdrawn(label, datetime.now(UTC))
                await self._say(label)
            return label

    def forget(self, clip_id: str) -> None:
        """Remove the sound of a denied clip: what was made of it, then itself, by a tombstone on `samples`. Raises Unavailable.

        In this order, since `sweep` finds by the sample what a kill has left undone.
        """
        for place in [place for place in list(self._sounds) if place[0] == clip_id]:
            self._sounds.pop(place, None)
        kept: OSError | None = None
        try:
            erase(self._settings, clip_id)
        except OSError as error:  # the sound on the log goes all the same
            kept = error
        for sample in self.shelf.denied_samples():
            if sample.clip_id == clip_id:
                self.shelf.removed(clip_id, self._logs.forget(clip_id))
        if kept is not None:
            raise Unavailable(f"A file made of clip {clip_id} cannot be removed ({kept}); send the label again.") from kept

    def sweep(self) -> None:
        """Forget every denied clip that is sampled still, as after a crash between label and tombstone. Raises Unavailable."""
        for sample in self.shelf.denied_samples():
            self.forget(sample.clip_id)

    def progress(self, labeler: str, site: str) -> dict[str, Any]:
        """How far the samples of a site are, and the labeler's part in it."""
        view = self._view(site)
        stages = {"waiting": 0, "second": 0, "third": 0, "settled": 0}
        random = {"samples": 0, "settled": 0}
        for sample, labels in view:
            stage = stage_of(sample, labels)
            stages[stage] += 1
            if sample.stratum == "random":
                random["samples"] += 1
                random["settled"] += stage == "settled"
        mine: Done = done_by(labeler, view)
        return {"site": site, "samples": len(view), **stages, "random": random, "yours": {"random": mine.random, "value": mine.value}}

    def agreement(self, site: str) -> list[dict[str, Any]]:
        """Cohen's kappa of each pair of labelers over the windows that both judged blind."""
        pairs = kappa(blind_pairs(self.shelf.labels(site)))
        return [{"labelers": list(who), "kappa": round(value, 4), "windows": n} for who, (value, n) in sorted(pairs.items())]

    def _view(self, site: str) -> list[tuple[Sample, list[ClipLabelled]]]:
        return [(sample, self.shelf.labels_of(sample.clip_id)) for sample in self.shelf.samples(site)]

    def _may_name(self, site: str) -> set[str]:
        return set(self.species.of(site).by_label)

    def _require_ready(self) -> None:
        if not self.shelf.ready.is_set():
            raise Unavailable("The samples and labels are still being read; try again in a moment.")

    async def _say(self, event: ClipLabelled) -> None:
        self.shelf.labelled(event, await asyncio.to_thread(self._logs.label, event))

    async def _answer(self, clip_id: str, labeler: str) -> dict[str, Any]:
        sample = self.shelf.sample(clip_id)
        if sample is None:
            return {"hidden": False, "deleted": True, "reasons": [], "release": None, "windows": []}
        if not is_open(sample, self.shelf.labels_of(clip_id), labeler):
            return {"hidden": True, "reasons": [], "release": None, "windows": []}
        try:
            species: SpeciesList | None = self.species.of(sample.site)
            answer = await asyncio.to_thread(self._logs.answer, sample)
        except Unavailable as error:  # the labels stand; what is shown beside them can wait
            log.warning("the answer of %s is not shown: %s", clip_id, error)
            species = answer = None
        return revealed(sample, answer, species)
