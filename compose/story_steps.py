"""The steps of the story: what each does, and the evidence of it, read back from the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from compose.demo_story import StepFailed, everything
from compose.story_log import events, require, until
from compose.story_people import Guide, Labeler, Sent, truths
from compose.story_tale import SITE, Tale, all_of, answered, as_json, rotate
from soundscape.canary import unit
from soundscape.deployments import read_states
from soundscape.events import ClipLabelled, ClipSampled, DeploymentStepped, FeedbackGiven, TourMoved, TourSummed
from soundscape.release import RELEASE_FILE
from soundscape.topics import DEPLOYMENT_LOG, FEEDBACK, LABELS, PREDICTIONS, SAMPLES, SHADOW_PREDICTIONS, TOUR_EVENTS, TOURS

SEED, CLIPS, MINUTES = 7, 14, 40
"""Of the forest that the champion learns and the tours walk through."""
OTHER_SEED, OTHER_CLIPS, OTHER_MINUTES = 8, 6, 10
"""Of the one that is only judged by."""
TRAINING, RETRAINING = 1.0, 0.7
"""Minutes."""
MODEL = "small"
FIRST_CLIPS, SHADOW_CLIPS, BATCH, MOST_CANARY = 150, 40, 60, 460
"""Clips of the tours before there is a candidate; in the shadow; at a time on the canary; and there at most."""
TOURS_AT_ONCE = 8
MOST_POISONED = 200
"""Clips of a poisoned candidate within which the alarm must have ended it."""


def stack(tale: Tale) -> dict[str, Any]:
    """The stack is up."""
    tale.story.run("up", shown=lambda line: " is healthy" in line)
    rows = as_json(tale.story.run("status", "--json"))
    require(all(row["healthy"] for row in rows), "A process is not healthy.")
    return {"processes": [row["name"] for row in rows]}


def champion(tale: Tale) -> dict[str, Any]:
    """A first model is trained on the synthetic forest and answers the site."""
    for folder, seed, clips, minutes in ((tale.forest, SEED, CLIPS, MINUTES), (tale.other, OTHER_SEED, OTHER_CLIPS, OTHER_MINUTES)):
        tale.story.run("forest", "make", str(folder), "--seed", str(seed), "--clips", str(clips), "--minutes", str(minutes))
    arguments = ("--data", str(tale.forest), "--model", MODEL, "--minutes", f"{TRAINING:g}")
    tale.champion = tale.story.run("train", *arguments, shown=everything)[-1].strip()
    tale.story.run("deploy", tale.champion, "--site", SITE)
    state = read_states(tale.settings)[SITE]
    require(state.champion.name == tale.champion, f"The site is answered by {state.champion.name}.")
    tale.clips = list(truths(tale.forest))
    return {"release": tale.champion, "digest": state.champion.digest, "generation": state.generation, "clips": len(tale.clips)}


def tours(tale: Tale) -> dict[str, Any]:
    """Guides start tours and send clips, as guide, power user and phone; each is answered."""
    tale.since = datetime.now(UTC)
    stamp = f"{tale.since:%H%M%S}"
    names = {role: f"story-{role}-{stamp}" for role in ("guide", "ana", "luz")}
    tale.guide = Guide(tale.settings, tale.key(names["guide"], "guide"), SITE)
    tale.labelers = [Labeler(tale.settings, names[role], tale.key(names[role], "labeler"), SITE) for role in ("ana", "luz")]
    tale.tour_names = [f"story-{stamp}-{n}" for n in range(TOURS_AT_ONCE)]
    for name in tale.tour_names:
        tale.guide.door.ask("POST", "/v1/tours", json={"tour_id": name, "site": SITE})
    sent = tale.walk(FIRST_CLIPS)
    started = events(tale.settings, TOUR_EVENTS, TourMoved, lambda one: one.tour_id in tale.tour_names)
    require(len(started) >= TOURS_AT_ONCE, "A tour's start is not on the log.")
    answers = answered(tale, PREDICTIONS, sent)
    require(len(answers) == len({one.clip_id for one in sent}), "A clip's answer is not on the log.")
    return {"tours": sorted(started), "clips": len(sent), "first": next(iter(answers)), "users": dict(Counter(one.client for one in sent))}


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

    def corrected() -> dict[str, TourSummed]:
        summed = events(tale.settings, TOURS, TourSummed, lambda one: one.tour_id in wanted)
        latest = {one.tour_id: one for one in summed.values()}
        return latest if all(name in latest and latest[name].feedback >= wanted[name] for name in wanted) else {}

    latest: dict[str, TourSummed] = until(corrected, "the tours' summaries with the guides' judgements")
    by_person = sum(species.by_person for one in latest.values() for species in one.heard)
    require(by_person, "No species of a tour was settled by a person.")
    return {"feedback": sorted(there), "tours": {one.tour_id: one.feedback for one in latest.values()}, "species_by_person": by_person}


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
    """Two labelers work their queues off."""
    truth_of = {one.clip_id: one.truth for one in tale.sent}
    said = [label for labeler in tale.labelers for label in labeler.work(truth_of, 120)]
    require(said, "The queues were empty.")
    there = events(tale.settings, LABELS, ClipLabelled, lambda one: one.label_id in said)
    require({one.label_id for one in there.values()} == set(said), "A label is not on the log.")
    strata, reviews = (Counter(getattr(one, what) for one in there.values()) for what in ("stratum", "review"))
    return {"labels": len(there), "first": sorted(there)[:3], "strata": dict(strata), "reviews": dict(reviews)}


def replay(tale: Tale) -> dict[str, Any]:
    """The stretch of the log becomes a dataset; the same stretch gives the same digest."""
    tale.dataset, again = (tale.home / f"{name}-{tale.since:%H%M%S}" for name in ("new", "again"))
    first = tale.command("replay", "--from", tale.since.isoformat(), "--site", SITE, "--out", str(tale.dataset))
    manifest = str(tale.dataset / "manifest.json")
    second = tale.command("replay", "--from-offsets", manifest, "--to-offsets", manifest, "--site", SITE, "--out", str(again))
    require(first["digest"] == second["digest"], "The same stretch gave another digest.")
    return {"digest": first["digest"], "folder": tale.dataset.name}


def retraining(tale: Tale) -> dict[str, Any]:
    """The champion is trained on with the labels; what it forgot is measured."""
    arguments = ("--data", str(tale.forest), "--new", str(tale.dataset), "--site", SITE, "--minutes", f"{RETRAINING:g}")
    said = tale.command("retrain", *arguments)
    tale.candidate = said["release"]
    require((tale.settings.releases / tale.candidate / RELEASE_FILE).is_file(), "There is no such release.")
    return said


def gate(tale: Tale) -> dict[str, Any]:
    """The gate lets the candidate in, and refuses one whose labels were rotated by one."""
    said = tale.command("gate", tale.candidate, "--site", SITE, "--data", str(tale.other))
    require(said["passed"], f"The gate refused {tale.candidate}: {said['reasons']}")
    rotated = rotate(tale.settings, tale.candidate)
    code, lines, _ = tale.story.ask("gate", rotated, "--site", SITE, "--data", str(tale.other), "--json")
    refused = as_json(lines)
    require(code == 1 and not refused["passed"] and refused["reasons"], f"The gate let {rotated} past.")
    return {"release": tale.candidate, "passed": True, "refused": rotated, "reasons": refused["reasons"][:3]}


def shadow(tale: Tale) -> dict[str, Any]:
    """The candidate answers beside the champion, and nobody sees it."""
    tale.story.run("candidate", tale.candidate, "--site", SITE)
    sent = tale.walk(SHADOW_CLIPS)
    require({one.release for one in sent} == {tale.champion}, "A guide saw the candidate in the shadow.")
    found = until(lambda: all_of(tale, SHADOW_PREDICTIONS, sent), "the shadow's answers")
    require({one.release for one in found.values()} == {tale.candidate}, "The shadow was another release's.")
    return {"clips": len(found), "first": sorted(found)[:3]}


def canary(tale: Tale) -> dict[str, Any]:
    """The candidate answers a share of the tours, until its trial lacks nothing."""
    candidate_ref = read_states(tale.settings)[SITE].candidate
    if candidate_ref is None:
        raise StepFailed("The candidate is gone.")
    stands = sorted(unit(name, candidate_ref.digest) for name in tale.tour_names)
    share = (stands[TOURS_AT_ONCE // 2 - 1] + stands[TOURS_AT_ONCE // 2]) / 2  # half of so few tours; of many it would be a half
    tale.story.run("canary", f"{share:.6f}", "--site", SITE)
    sent: list[Sent] = []
    while (missing := tale.command("trial", "--site", SITE)["missing"]) and len(sent) < MOST_CANARY:
        tale.story.say(f"[dim]Missing: {'; '.join(missing)}[/]")
        sent += tale.walk(BATCH)
    require(not missing, f"The trial still lacks: {missing}")
    by_tour = {name: {one.release for one in sent if one.stream == name} for name in tale.tour_names}
    require(all(len(releases) == 1 for releases in by_tour.values()), "A tour heard two releases.")
    require(len({next(iter(one)) for one in by_tour.values()}) == 2, "The share of the tours is all or none.")
    return {"share": share, "clips": len(sent), "tours": {name: next(iter(releases)) for name, releases in by_tour.items()}}


def promotion(tale: Tale) -> dict[str, Any]:
    """The candidate is promoted; every worker obeys the event."""
    tale.story.run("promote", "--site", SITE)
    state = read_states(tale.settings)[SITE]
    require(state.champion.name == tale.candidate and state.candidate is None, f"The site is answered by {state.champion.name}.")
    sent = tale.walk(TOURS_AT_ONCE * 2)
    require({one.release for one in sent} == {tale.candidate}, "A clip was still answered by the old champion.")
    return {"generation": state.generation, "champion": state.champion.name, "clips": [one.clip_id for one in sent]}


def alarm(tale: Tale) -> dict[str, Any]:
    """A poisoned candidate, let past on purpose, is rolled back by the alarm."""
    rotated = rotate(tale.settings, tale.candidate)
    tale.story.run("candidate", rotated, "--site", SITE, "--force")
    tale.story.run("canary", "1.0", "--site", SITE, "--force")
    clips = 0

    def ended() -> bool:
        return read_states(tale.settings)[SITE].candidate is None

    while not ended():
        require(clips < MOST_POISONED, f"There was no alarm within {MOST_POISONED} clips.")
        clips += len(tale.walk(20))
        until(lambda: all_of(tale, SHADOW_PREDICTIONS, tale.sent[-20:]) or ended(), "the champion's answers beside it")
    state = read_states(tale.settings)[SITE]
    steps = events(tale.settings, DEPLOYMENT_LOG, DeploymentStepped, lambda one: one.site == SITE and one.step == "alarmed")
    require(steps and state.champion.name == tale.candidate and state.actor == "deployer", "It was not the alarm that ended it.")
    return {"clips": clips, "generation": state.generation, "reason": state.reason, "step": sorted(steps)[-1]}


def quality(tale: Tale) -> dict[str, Any]:
    """How right the live answers are, from the random sample alone; and why one of them was given."""
    said = tale.command("quality", "--site", SITE)
    clip = tale.sent[0].clip_id
    why = tale.command("explain", clip)
    require(why, f"Nothing explains {clip}.")
    return {"completed": said["completed"], "overall": said["overall"], "explained": clip}


STEPS: tuple[tuple[str, str, Callable[[Tale], dict[str, Any]]], ...] = (
    ("stack", "every process is up", stack),
    ("champion", "a first model answers the site", champion),
    ("tours", "guides send clips of their tours", tours),
    ("feedback", "guides judge, tours correct themselves", feedback),
    ("samples", "random and flagged clips reach the labelers", samples),
    ("labels", "two labelers work", labels),
    ("replay", "a stretch of the log becomes a dataset", replay),
    ("retraining", "the champion learns on", retraining),
    ("gate", "a candidate is let in, a poisoned one is not", gate),
    ("shadow", "it answers unseen", shadow),
    ("canary", "it answers a share of the tours", canary),
    ("promotion", "it becomes champion", promotion),
    ("alarm", "a poisoned one that was let past is rolled back", alarm),
    ("quality", "what the random sample says, and why an answer was given", quality),
)
"""All of them, in order."""
