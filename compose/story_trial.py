"""The steps of the story in which a model earns its place: gate, shadow, canary, promotion, and the alarm that ends a poisoned one."""

from __future__ import annotations

from typing import Any

from compose.demo_story import StepFailed
from compose.story_log import events, require, until
from compose.story_people import Sent
from compose.story_tale import SITE, TOURS_AT_ONCE, Tale, all_of, answered, as_json, rotate, state_of
from soundscape.canary import unit
from soundscape.events import DeploymentStepped, Step
from soundscape.topics import DEPLOYMENT_LOG, PREDICTIONS, SHADOW_PREDICTIONS

SHADOW_CLIPS, BATCH, MOST_CANARY = 40, 60, 460
"""Clips of the tours in the shadow; at a time on the canary; and there at most."""
MOST_POISONED = 200
"""Clips of a poisoned candidate within which the alarm must have ended it."""


def gate(tale: Tale) -> dict[str, Any]:
    """The gate lets the candidate in, and refuses one whose labels were rotated by one."""
    code, said = judged(tale, tale.candidate)
    require(code == 0 and said["passed"], f"The gate refused {tale.candidate}: {said['reasons']}")
    rotated = rotate(tale.settings, tale.candidate)
    code, said = judged(tale, rotated)
    require(code == 1 and not said["passed"] and said["reasons"], f"The gate let {rotated} past.")
    passed, _ = stepped(tale, "gated", tale.candidate, "passed the gate")
    against, step = stepped(tale, "gated", rotated, "refused by the gate")
    return {"release": tale.candidate, "passed": passed, "rotated": rotated, "refused": against, "reasons": step.detail}


def judged(tale: Tale, release: str) -> tuple[int, dict[str, Any]]:
    """The gate's exit code, and what it says of a release. Raises StepFailed where it judged nothing."""
    code, lines, _ = tale.story.ask("gate", release, "--site", SITE, "--data", str(tale.other), "--json")
    return code, as_json(lines)


def shadow(tale: Tale) -> dict[str, Any]:
    """The candidate answers beside the champion, and nobody sees it."""
    tale.story.run("candidate", tale.candidate, "--site", SITE)
    place, state = state_of(tale)
    require(state.stage == "shadow" and state.candidate and state.candidate.name == tale.candidate, "It is not in the shadow.")
    sent = tale.walk(SHADOW_CLIPS)
    effective = answered(tale, PREDICTIONS, sent)
    seen = {one.release for one in sent} | {one.release for one in effective.values()}
    require(seen == {tale.champion}, "A guide saw the candidate in the shadow.")
    found = until(lambda: all_of(tale, SHADOW_PREDICTIONS, sent), "the shadow's answers")
    require({one.release for one in found.values()} == {tale.candidate}, "The shadow was another release's.")
    return {"state": place, "answers": sorted(effective), "beside": sorted(found)}


def canary(tale: Tale) -> dict[str, Any]:
    """The candidate answers a share of the tours that start now, until its trial lacks nothing; those under way stay as they are."""
    candidate = state_of(tale)[1].candidate
    if candidate is None:
        raise StepFailed("The candidate is gone.")
    names = [f"{name}-canary" for name in tale.tour_names]
    stands = sorted(unit(name, candidate.digest) for name in names)
    share = (stands[TOURS_AT_ONCE // 2 - 1] + stands[TOURS_AT_ONCE // 2]) / 2  # half of so few tours; of many it would be a half
    tale.story.run("canary", f"{share:.6f}", "--site", SITE)
    under_way = tale.walk(TOURS_AT_ONCE)
    require({one.release for one in under_way} == {tale.champion}, "A tour that was under way changed its release.")
    tale.begin(names)
    sent: list[Sent] = []
    while (missing := tale.command("trial", "--site", SITE)["missing"]) and len(sent) < MOST_CANARY:
        tale.story.say(f"[dim]Missing: {'; '.join(missing)}[/]")
        sent += tale.walk(BATCH)
    require(not missing, f"The trial still lacks: {missing}")
    place, state = state_of(tale)
    require(state.stage == "canary" and state.candidate == candidate, "The candidate is on the canary no more.")
    answers = answered(tale, PREDICTIONS, sent)
    by_tour = {name: {one.release for one in answers.values() if one.stream == name} for name in tale.tour_names}
    require(all(len(releases) == 1 for releases in by_tour.values()), "A tour heard two releases.")
    said = {name: next(iter(releases)) for name, releases in by_tour.items()}
    require(set(said.values()) == {tale.champion, tale.candidate}, "The share of the tours is all or none.")
    kept = sorted(answered(tale, PREDICTIONS, under_way))
    return {"state": place, "share": share, "answers": sorted(answers), "tours": said, "under_way": kept}


def promotion(tale: Tale) -> dict[str, Any]:
    """The candidate is promoted; every worker obeys the event."""
    tale.story.run("promote", "--site", SITE)
    place, state = state_of(tale)
    require(state.champion.name == tale.candidate and state.candidate is None, f"The site is answered by {state.champion.name}.")
    sent = tale.walk(TOURS_AT_ONCE * 2)
    answers = answered(tale, PREDICTIONS, sent)
    seen = {one.release for one in sent} | {one.release for one in answers.values()}
    require(seen == {tale.candidate}, "A clip was still answered by the old champion.")
    return {"state": place, "generation": state.generation, "champion": state.champion.name, "answers": sorted(answers)}


def alarm(tale: Tale) -> dict[str, Any]:
    """A poisoned candidate, let past on purpose, is rolled back by the alarm, which names the clips behind it."""
    rotated = rotate(tale.settings, tale.candidate)
    tale.story.run("candidate", rotated, "--site", SITE, "--force")
    tale.story.run("canary", "1.0", "--site", SITE, "--force")
    tale.begin([f"{name}-alarm" for name in tale.tour_names])
    clips = 0

    def ended() -> bool:
        return state_of(tale)[1].candidate is None

    while not ended():
        require(clips < MOST_POISONED, f"There was no alarm within {MOST_POISONED} clips.")
        clips += len(tale.walk(20))
        until(lambda: all_of(tale, SHADOW_PREDICTIONS, tale.sent[-20:]) or ended(), "the champion's answers beside it")
    place, state = state_of(tale)
    require(state.champion.name == tale.candidate and state.actor == "deployer", "It was not the alarm that ended it.")
    at, step = stepped(tale, "alarmed", rotated, "alarm")
    named = [one.clip_id for one in tale.sent[-clips:] if one.clip_id in step.detail]
    require(named, "The alarm names no clip of this story.")
    return {"state": place, "step": at, "clips": clips, "named": named, "reason": state.reason}


def stepped(tale: Tale, step: Step, release: str, says: str) -> tuple[str, DeploymentStepped]:
    """(place, event) of what `deployment-log` says last of this step of a release since the story began; it begins with `says`.

    Raises StepFailed where it says nothing of it, or otherwise.
    """
    found = events(
        tale.settings, DEPLOYMENT_LOG, DeploymentStepped,
        lambda one: (one.site, one.step, one.release) == (SITE, step, release) and one.at >= tale.since,
    )  # fmt: skip
    require(found, f"{DEPLOYMENT_LOG.name} does not say that {release} was {step}.")
    place, event = list(found.items())[-1]
    require(event.detail.startswith(says), f"At {place} stands: {event.detail}")
    return place, event
