"""The steps of the story: what each does, and the evidence of it, read back from the log."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compose.demo_story import everything
from compose.story_log import ends, events, require, until
from compose.story_people import Guide, Labeler, truths
from compose.story_tale import SITE, TOURS_AT_ONCE, Tale, answered, as_json, state_of
from compose.story_trial import alarm, canary, gate, promotion, shadow
from soundscape.events import ClipLabelled, ClipSampled, FeedbackGiven, TourMoved, TourSummed
from soundscape.release import named_release
from soundscape.topics import FEEDBACK, LABELS, PREDICTIONS, SAMPLES, TOPICS, TOUR_EVENTS, TOURS

SEED, CLIPS, MINUTES = 7, 14, 40
"""Of the forest that the champion learns and the tours walk through."""
OTHER_SEED, OTHER_CLIPS, OTHER_MINUTES = 8, 6, 10
"""Of the one that is only judged by."""
TRAINING, RETRAINING = 1.0, 0.7
"""Minutes."""
MODEL = "small"
FIRST_CLIPS = 150
"""Clips of the tours before there is a candidate."""
TURNS, A_TURN = 3, 40
"""Turns of each labeler, and samples in one."""


def stack(tale: Tale) -> dict[str, Any]:
    """The stack is up."""
    tale.story.run("up", shown=lambda line: " is healthy" in line)
    rows = as_json(tale.story.run("status", "--json"))
    require(rows and all(row["healthy"] for row in rows), "A process is not healthy.")
    there = ends(tale.settings)
    missing = [topic.name for topic in TOPICS if topic.name not in there]
    require(not missing, f"The log lacks topics: {', '.join(missing)}.")
    return {"processes": [row["name"] for row in rows], "ends": there}


def champion(tale: Tale) -> dict[str, Any]:
    """A first model is trained on the synthetic forest and answers the site."""
    for folder, seed, clips, minutes in ((tale.forest, SEED, CLIPS, MINUTES), (tale.other, OTHER_SEED, OTHER_CLIPS, OTHER_MINUTES)):
        tale.story.run("forest", "make", str(folder), "--seed", str(seed), "--clips", str(clips), "--minutes", str(minutes))
    arguments = ("--data", str(tale.forest), "--model", MODEL, "--minutes", f"{TRAINING:g}")
    tale.champion = tale.story.run("train", *arguments, shown=everything)[-1].strip()
    tale.story.run("deploy", tale.champion, "--site", SITE)
    place, state = state_of(tale)
    require(state.champion.name == tale.champion, f"The site is answered by {state.champion.name}.")
    tale.clips = list(truths(tale.forest))
    return {"state": place, "generation": state.generation, "release": tale.champion, "digest": state.champion.digest}


def tours(tale: Tale) -> dict[str, Any]:
    """Guides start tours and send clips, as guide, power user and phone; each is answered."""
    tale.since = datetime.now(UTC)
    stamp = f"{tale.since:%H%M%S}"
    names = {role: f"story-{role}-{stamp}" for role in ("guide", "ana", "luz")}
    tale.guide = Guide(tale.settings, tale.key(names["guide"], "guide"), SITE)
    tale.labelers = [Labeler(tale.settings, names[role], tale.key(names[role], "labeler"), SITE) for role in ("ana", "luz")]
    tale.begin([f"story-{stamp}-{n}" for n in range(TOURS_AT_ONCE)])
    sent = tale.walk(FIRST_CLIPS)
    started = events(tale.settings, TOUR_EVENTS, TourMoved, lambda one: one.tour_id in tale.tour_names and one.what == "started")
    require({one.tour_id for one in started.values()} == set(tale.tour_names), "A tour's start is not on the log.")
    answers = answered(tale, PREDICTIONS, sent)
    require(len(answers) == len({one.clip_id for one in sent}), "A clip's answer is not on the log.")
    require({one.release for one in answers.values()} == {tale.champion}, "A clip was answered by another release.")
    return {"tours": sorted(started), "answers": sorted(answers), "users": dict(Counter(one.client for one in sent))}


def feedback(tale: Tale) -> dict[str, Any]:
    """Guides say what was wrong; the tours correct themselves."""
    assert tale.guide is not None
    wrong = [one for one in tale.sent if one.heard != one.truth]
    right = [one for one in tale.sent if one.heard == one.truth and one.truth]
    judged = [one for one in (*wrong[:30], *right[:10])]
    tale.judged = [said for one in judged if (said := tale.guide.judge(one)) is not None]
    require(tale.judged, "There was nothing to judge.")
    there = events(tale.settings, FEEDBACK, FeedbackGiven, lambda one: one.feedback_id in tale.judged)
    require({one.feedback_id for one in there.values()} == set(tale.judged), "A judgement is not on the log.")
    wanted = Counter(one.stream for one in judged)

    def corrected() -> dict[str, tuple[str, TourSummed]]:
        summed = events(tale.settings, TOURS, TourSummed, lambda one: one.tour_id in wanted)
        latest = {one.tour_id: (place, one) for place, one in summed.items()}
        return latest if all(name in latest and latest[name][1].feedback >= wanted[name] for name in wanted) else {}

    latest: dict[str, tuple[str, TourSummed]] = until(corrected, "the tours' summaries with the guides' judgements")
    by_person = sum(species.by_person for _, one in latest.values() for species in one.heard)
    require(by_person, "No species of a tour was settled by a person.")
    summaries = {place: one.feedback for place, one in latest.values()}
    return {"feedback": sorted(there), "summaries": summaries, "species_by_person": by_person}


def samples(tale: Tale) -> dict[str, Any]:
    """Random and flagged clips reach the labelers' topic with their sound."""
    mine = {one.clip_id for one in tale.sent}

    def there() -> dict[str, ClipSampled]:
        found = events(tale.settings, SAMPLES, ClipSampled, lambda one: str(one.clip_id) in mine)
        reasons = {reason for one in found.values() for reason in (one.reasons or one.reason).split(",")}
        return found if {"random", "flagged"} <= reasons else {}

    found: dict[str, ClipSampled] = until(there, "random and flagged samples")
    require(all(one.audio[:4] == b"OggS" for one in found.values()), "A sample has no sound.")
    return {"samples": sorted(found), "reasons": dict(Counter(one.reason for one in found.values()))}


def labels(tale: Tale) -> dict[str, Any]:
    """Two labelers work their queues off, in turns: over what they disagree with an earlier one, the other decides."""
    truth_of = {one.clip_id: one.truth for one in tale.sent}
    said = [label for _ in range(TURNS) for labeler in tale.labelers for label in labeler.work(truth_of, A_TURN)]
    require(said, "The queues were empty.")
    there = events(tale.settings, LABELS, ClipLabelled, lambda one: one.label_id in said)
    require({one.label_id for one in there.values()} == set(said), "A label is not on the log.")
    strata, reviews = (Counter(getattr(one, what) for one in there.values()) for what in ("stratum", "review"))
    return {"labels": sorted(there), "strata": dict(strata), "reviews": dict(reviews)}


def quality(tale: Tale) -> dict[str, Any]:
    """How right the live answers are, from the random sample alone: now, while labelers have completed some of it."""
    said = tale.command("quality", "--site", SITE)
    there = events(tale.settings, LABELS, ClipLabelled, lambda one: one.site == SITE and one.stratum == "random")
    windows = {(one.clip_id, one.start_s) for one in there.values()}
    require(said["completed"] and said["overall"], "Nothing of the random sample is complete: the quality is not known.")
    require(said["completed"] <= len(windows), "It counts windows of the random sample that nobody has labelled.")
    return {"labels": sorted(there), "completed": said["completed"], "overall": said["overall"]}


def replay(tale: Tale) -> dict[str, Any]:
    """The stretch of the log becomes a dataset; the same stretch gives the same digest."""
    tale.dataset, again = (tale.home / f"{name}-{tale.since:%H%M%S}" for name in ("new", "again"))
    first = tale.command("replay", "--from", tale.since.isoformat(), "--site", SITE, "--out", str(tale.dataset))
    manifest = str(tale.dataset / "manifest.json")
    second = tale.command("replay", "--from-offsets", manifest, "--to-offsets", manifest, "--site", SITE, "--out", str(again))
    require(first["digest"] == second["digest"], "The same stretch gave another digest.")
    taught = clips_of(tale.dataset)
    require(taught, "There is nothing to learn from in the dataset.")
    answers = answered(tale, PREDICTIONS, [one for one in tale.sent if one.clip_id in taught])
    require({str(one.clip_id) for one in answers.values()} == taught, "A clip of the dataset is none of this story's on the log.")
    lie = [one.place for one in answers.values()]
    start, end = (first["offsets"][bound] for bound in ("from", "to"))
    inside = (start[one.topic][str(one.partition)] <= one.offset < end[one.topic][str(one.partition)] for one in lie)
    require(all(inside), "A clip of the dataset lies outside the stretch.")
    return {"digest": first["digest"], "folder": tale.dataset.name, "clips": sorted(map(str, lie))}


def clips_of(folder: Path) -> set[str]:
    """The ids of the clips that a dataset teaches."""
    found: set[str] = set()
    for name in ("train.csv", "background.csv"):
        with (folder / name).open(newline="", encoding="utf-8") as file:
            found.update(row["clip_id"] for row in csv.DictReader(file))
    return found


def retraining(tale: Tale) -> dict[str, Any]:
    """The champion is trained on with the labels; what it forgot is measured."""
    arguments = ("--data", str(tale.forest), "--new", str(tale.dataset), "--site", SITE, "--minutes", f"{RETRAINING:g}")
    said = tale.command("retrain", *arguments)
    tale.candidate = said["release"]
    made = named_release(tale.settings.releases, tale.candidate)
    place, state = state_of(tale)
    began = made.release.metrics["training"]["plan"]["begins_with"]
    require(began == state.champion.digest, f"It was not begun with the champion at {place}.")
    require(said["forgetting"] is not None, "What it forgot was not measured.")
    measured = {what: said[what] for what in ("forgetting", "learning")}
    return {"release": tale.candidate, "digest": made.digest, "begun_with": began, "champion": place, **measured}


def explanation(tale: Tale) -> dict[str, Any]:
    """Why a judged clip was answered as it was: the same clip, answer, release and judgement as on the log."""
    there = events(tale.settings, FEEDBACK, FeedbackGiven, lambda one: one.feedback_id in tale.judged)
    require(there, "No judgement is on the log.")
    place, judged = next(iter(there.items()))
    clip = str(judged.clip_id)
    why = tale.command("explain", clip)
    answers = answered(tale, PREDICTIONS, [one for one in tale.sent if one.clip_id == clip])
    require(answers and why.get("windows") and why.get("thresholds"), f"Nothing explains {clip}.")
    at, answer = next(iter(answers.items()))
    found = (why["place"], why["clip"]["place"], why["release"]["digest"])
    require(found == (at, str(answer.place), answer.release_digest), f"The explanation of {clip} is another answer's.")
    require(judged.feedback_id in {one["feedback_id"] for one in why["feedback"]}, f"The explanation lacks the judgement at {place}.")
    return {"clip": clip, "recording": why["clip"]["place"], "answer": at, "feedback": place, "release": answer.release}


STEPS: tuple[tuple[str, str, Callable[[Tale], dict[str, Any]]], ...] = (
    ("stack", "every process is up", stack),
    ("champion", "a first model answers the site", champion),
    ("tours", "guides send clips of their tours", tours),
    ("feedback", "guides judge, tours correct themselves", feedback),
    ("samples", "random and flagged clips reach the labelers", samples),
    ("labels", "two labelers work", labels),
    ("quality", "what the random sample says", quality),
    ("replay", "a stretch of the log becomes a dataset", replay),
    ("retraining", "the champion learns on", retraining),
    ("gate", "a candidate is let in, a poisoned one is not", gate),
    ("shadow", "it answers unseen", shadow),
    ("canary", "it answers a share of the tours", canary),
    ("promotion", "it becomes champion", promotion),
    ("alarm", "a poisoned one that was let past is rolled back", alarm),
    ("explanation", "why an answer was given", explanation),
)
"""All of them, in order."""
