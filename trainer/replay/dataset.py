"""A stretch of the log as a dataset: first what people said, then one pass over the clips, then the samples of clips that are gone."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from soundscape.answers import write_whole
from soundscape.denied import read_denied
from soundscape.derived import note_folder
from soundscape.errors import Invalid, Reason
from soundscape.events import ClipAnalysed, ClipLabelled, ClipRecorded, ClipSampled, FeedbackGiven
from soundscape.events import clip_id as identity
from soundscape.holdout import held_out
from soundscape.isolation import ChildPool
from soundscape.kafka import new_consumer
from soundscape.settings import Settings
from soundscape.taxonomy import TAXA
from soundscape.topics import FEEDBACK, LABELS, PREDICTIONS, SAMPLES, Topic
from soundscape.wire import PREFIX, E, decode, texts
from trainer.replay.cut import Cut, cut, in_child, warm_up
from trainer.replay.judged import WEIGHTS, Piece, Wanted, wanted
from trainer.replay.log import Batch, Journal, batches, following
from trainer.replay.log_dataset import Entry, Heard, counts, digest_of, entry_of, is_safe, load_entry, write_tables
from trainer.replay.pseudo import Speech, pseudo_pieces
from trainer.replay.run import Plan, Progress, Request, run_in
from trainer.replay.species import Names, read_names
from trainer.replay.voices import Voices

Stretches = list[tuple[float, float | None]]
"""Start and end in seconds; None: to the end."""


class Building:
    """One dataset in the making. `journal` knows what an earlier run of it has done."""

    def __init__(self, settings: Settings, request: Request, plan: Plan, journal: Journal, progress: Progress) -> None:
        """Raises Unavailable without a broker, Invalid where no release says which species there are."""
        self._settings, self._request, self._plan, self._journal, self._progress = settings, request, plan, journal, progress
        self._consumer = new_consumer(settings)
        self._pool = ChildPool(settings.decoding_children, warm_up)
        self._lost: Counter[str] = Counter()
        self._seen = {said["seen"] for said in journal.entries if "seen" in said}
        self._names: Names = read_names(settings, request.site)

    def close(self) -> None:
        """End the children and leave the broker."""
        self._pool.close()
        self._consumer.close()

    def build(self, runner: asyncio.Runner) -> dict[str, Any]:
        """Make it; returns the manifest, not yet written. Raises Unavailable, Invalid."""
        todo = self._judged()
        for batch in batches(self._consumer, self._plan.clips, self._request.topics, self._journal.positions, self._lost):
            runner.run(self._take(batch, todo))
            self._progress.done(batch[-1].topic, len(batch))
        missing = {clip: pieces for clip, pieces in todo.pieces.items() if clip not in self._seen}
        standing = self._standing(missing)
        for batch in batches(self._consumer, self._plan.said, [SAMPLES.name], self._journal.positions):
            runner.run(self._take_samples(batch, missing, standing))
            self._progress.done(SAMPLES.name, len(batch))
        return self._finished(todo)

    def _judged(self) -> Wanted:
        """What is wanted of which clip, from all that people said up to the range's end."""
        labels, feedback = list(self._read(LABELS, ClipLabelled)), list(self._read(FEEDBACK, FeedbackGiven))
        left: Counter[str] = Counter()
        known = {label for label in self._names.species if is_safe(label)}
        pseudo: dict[str, list[Piece]] = {}
        judged = {str(one.clip_id) for one in labels} | {str(one.clip_id) for one in feedback}
        limit, untold, least = self._settings.speech_limit, self._settings.sample_untold_speech, self._request.pseudo
        voices, speech = Voices(limit, untold), Speech(self._settings)
        animals = {label for label in known if self._names.species[label].taxon in TAXA}
        for answer in self._read(PREDICTIONS, ClipAnalysed, judged if least is None else None):
            lies, clip = answer.place, str(answer.clip_id)
            if clip in judged:
                voices.note(answer)
            if least is None or answer.probe:
                continue
            if not self._plan.clips.holds(lies.topic, lies.partition, lies.offset, answer.stages.published):
                continue
            pseudo[clip] = pseudo_pieces(answer, least, speech, limit, untold, animals, left)
        found = wanted(labels, feedback, pseudo, read_denied(self._settings), known)
        voices.leave_out(found)
        found.left.update(left)
        return found

    def _read(self, topic: Topic, kind: type[E], clips: Container[str] | None = None) -> Iterator[E]:
        """The site's events on a topic that people or releases spoke to, of some clips or of all; what does not decode says nothing."""
        for batch in batches(self._consumer, self._plan.said, [topic.name], {}):
            for record in batch:
                if clips is not None and texts(record.headers).get(PREFIX + "clipid") not in clips:
                    continue
                try:
                    event: Any = decode(kind, record.headers, record.value)
                except Invalid:
                    continue
                if self._request.site in (None, event.site):
                    yield event
            self._progress.done(topic.name, len(batch))

    async def _take(self, batch: Batch, todo: Wanted) -> None:
        """Cut what is wanted out of some clips, and note it."""
        found: list[tuple[ClipRecorded, list[Piece]]] = []
        left: Counter[str] = Counter()
        for record in batch:
            named = texts(record.headers)
            clip_id = named.get(PREFIX + "id", "")
            if clip_id in self._seen or (pieces := todo.pieces.get(clip_id)) is None:
                continue
            self._seen.add(clip_id)
            try:
                clip = decode(ClipRecorded, record.headers, record.value)
                if clip_id != identity(clip.site, clip.stream, clip.recorded_at, clip.sha256):
                    raise Invalid(Reason.WRONG_IDENTITY, "The clip's id does not follow from what it says.")
            except Invalid:
                left["unreadable"] += len(pieces)
                continue
            if clip.content_type != "audio/ogg":
                left["no sound, only log-mels"] += len(pieces)
            else:
                found.append((clip, pieces))
        heard = [
            Heard(str(clip.clip_id), clip.site, clip.stream, (clip.recorded_at or clip.published_at).date(), clip.recorded_at,
                  clip.latitude, clip.longitude) for clip, _ in found
        ]  # fmt: skip
        stretches: list[Stretches] = [[(piece.start_s, piece.end_s) for piece in pieces] for _, pieces in found]
        cuts = await self._cut([clip.audio for clip, _ in found], stretches)
        entries = self._written([(one, pieces, got) for one, (_, pieces), got in zip(heard, found, cuts, strict=True)], left)
        seen = [{"seen": clip_id} for record in batch if (clip_id := texts(record.headers).get(PREFIX + "id", "")) in todo.pieces]
        left.update({"removed by retention meanwhile": lost} if (lost := self._lost.total()) else {})
        self._lost.clear()
        self._journal.note(following(batch), [*entries, *seen], left)

    def _standing(self, missing: dict[str, list[Piece]]) -> dict[str, tuple[int, int]]:
        """Where the last sample of each missing clip lies; a tombstone takes it away."""
        standing: dict[str, tuple[int, int]] = {}
        for batch in batches(self._consumer, self._plan.said, [SAMPLES.name], {}) if missing else ():
            for record in batch:
                key = (record.key or b"").decode(errors="replace")
                if record.value is None:
                    standing.pop(key, None)
                elif key in missing:
                    standing[key] = record.partition, record.offset
        return standing

    async def _take_samples(self, batch: Batch, missing: dict[str, list[Piece]], standing: dict[str, tuple[int, int]]) -> None:
        found: list[tuple[Heard, list[Piece], ClipSampled]] = []
        left: Counter[str] = Counter()
        for record in batch:
            key = (record.key or b"").decode(errors="replace")
            if standing.get(key) != (record.partition, record.offset):
                continue
            try:
                sample = decode(ClipSampled, record.headers, record.value)
            except Invalid:
                left["unreadable"] += len(missing[key])
                continue
            moment = sample.recorded_at or sample.sampled_at
            if not self._plan.clips.holds(sample.topic, sample.partition, sample.offset, moment):
                continue
            covered = [piece for piece in missing[key] if _covers(sample, piece)]
            left["gone"] += len(missing[key]) - len(covered)
            self._seen.add(key)
            before = (sample.sampled_at - timedelta(days=1)).date()
            if sample.recorded_at is None and held_out(sample.stream, before) != held_out(sample.stream, moment.date()):
                left["its day is not known"] += len(covered)
                continue
            heard = Heard(key, sample.site, sample.stream, moment.date(), sample.recorded_at, source="sample")
            found.append((heard, covered, sample))
        stretches: list[Stretches] = [
            [(max(0.0, piece.start_s - one.start_s), None if piece.end_s is None else piece.end_s - one.start_s) for piece in pieces]
            for _, pieces, one in found
        ]
        cuts = await self._cut([sample.audio for _, _, sample in found], stretches)
        entries = self._written([(heard, pieces, got) for (heard, pieces, _), got in zip(found, cuts, strict=True)], left)
        self._journal.note(following(batch), [*entries, *({"seen": heard.clip_id} for heard, _, _ in found)], left)

    async def _cut(self, bodies: list[bytes], stretches: list[Stretches]) -> list[list[Cut | None] | None]:
        """None for a clip that does not decode."""
        found = await asyncio.gather(*(in_child(self._pool, cut, *both) for both in zip(bodies, stretches, strict=True)))
        return [None if isinstance(one, Invalid) else one for one in found]

    def _written(self, found: list[tuple[Heard, list[Piece], list[Cut | None] | None]], left: Counter[str]) -> list[dict[str, Any]]:
        """Write the sounds; returns the journal's entries."""
        entries = []
        for heard, pieces, cuts in found:
            if cuts is None:
                left["unreadable"] += len(pieces)
                continue
            for piece, got in zip(pieces, cuts, strict=True):
                if got is None:
                    left["beyond the sound"] += 1
                elif (entry := entry_of(piece, heard, got.seconds)) is None:
                    left["held out, and no labeler's"] += 1
                else:
                    write_whole(self._journal.folder / entry.file, got.body)
                    entries.append(asdict(entry))
        return entries

    def _finished(self, todo: Wanted) -> dict[str, Any]:
        by_name = {entry.file: entry for entry in map(load_entry, (said for said in self._journal.entries if "name" in said))}
        denied = read_denied(self._settings)  # a voice may have been found while this ran
        left = todo.left + self._journal.left
        left["removed by retention meanwhile"] += self._lost.total()
        for entry in [entry for entry in by_name.values() if entry.clip_id in denied]:
            (self._journal.folder / entry.file).unlink(missing_ok=True)
            left["denied"] += 1
            del by_name[entry.file]
        for clip, pieces in todo.pieces.items():
            if clip not in self._seen:
                left[self._why_missing(todo, clip)] += len(pieces)
        entries: list[Entry] = list(by_name.values())
        used = {label for entry in entries for label in entry.labels}
        write_tables(self._journal.folder, entries, self._names.species, sorted(used | self._names.listed))
        plan = self._plan
        return {
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "topics": list(self._request.topics),
            "offsets": {"from": plan.clips.asked, "to": plan.clips.end | plan.said.end},
            "removed": [str(one) for one in plan.clips.removed],
            "counts": counts(entries),
            "left_out": {why: n for why, n in sorted(left.items()) if n},
            "weights": WEIGHTS,
            "seconds": round(sum(entry.seconds for entry in entries), 1),
            "digest": digest_of(entries),
        }

    def _why_missing(self, todo: Wanted, clip: str) -> str:
        """Where a guide's feedback says where the clip lies, it is known whether it should have been there."""
        place, clips = todo.places.get(clip), self._plan.clips
        if place is None or (end := clips.end.get(place.topic, {}).get(place.partition)) is None or place.offset >= end:
            return "not in the range"
        if place.offset >= clips.start[place.topic][place.partition]:
            return "another clip lies at its place"
        return "gone" if place.offset >= clips.asked[place.topic][place.partition] else "not in the range"


def _covers(sample: ClipSampled, piece: Piece) -> bool:
    """Whether a sample, which is trimmed, holds all of a piece."""
    if piece.end_s is None:
        return sample.start_s == 0 and sample.end_s is None
    return sample.start_s <= piece.start_s and (sample.end_s is None or piece.end_s <= sample.end_s + 1e-3)


def make_dataset(settings: Settings, request: Request, folder: Path, progress: Progress) -> dict[str, Any]:
    """Make the dataset of a request in a folder, or go on with it; returns its manifest.

    Raises Invalid where the range is empty or the folder holds something else, Unavailable without a broker.
    """
    from trainer.training.tracking import git_commit

    note_folder(settings, folder)  # so that a voice that is found later is erased there too
    def work(plan: Plan, journal: Journal) -> dict[str, Any]:
        building = Building(settings, request, plan, journal, progress)
        try:
            with asyncio.Runner() as runner:
                return {**building.build(runner), "code": git_commit()}
        finally:
            building.close()

    return run_in(settings, request, folder, (LABELS, FEEDBACK, PREDICTIONS, SAMPLES), progress, work)
