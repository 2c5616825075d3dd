"""When a candidate is an alarm, when it may be promoted, and that the order of what is said does not matter."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import pytest

from consumers.trial import FEW_PAIRS, NAMED, Trial, stability
from soundscape.canary import role_of
from soundscape.events import (
    NAMESPACE,
    ClipAnalysed,
    Detection,
    FeedbackGiven,
    Names,
    Place,
    ReleaseRef,
    Share,
    SiteDeployed,
    Stages,
    Window,
)

LABELS = ("a", "b", "c", "d")
NOW = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)
OLD, NEW = ReleaseRef(name="old", digest="aa"), ReleaseRef(name="new", digest="bb")
STATE = SiteDeployed(
    site="here", generation=3, champion=OLD, candidate=NEW, stage="canary", share=0.5, since=NOW, reason="", actor="ana", at=NOW
)
ENOUGH = 40


def clip_of(n: int) -> UUID:
    """The id of a clip."""
    return uuid5(NAMESPACE, str(n))


def answer(n: int, release: ReleaseRef, named: str, **changes: Any) -> ClipAnalysed:
    """What a release says of clip `n`: one species with 0.9."""
    stream, took = f"tour-{n % 10}", changes.pop("took", 0.03)
    at = NOW + timedelta(seconds=n)
    moments = {name: at for name in ("published", "received", "decoded", "features", "inferred")}
    species = Detection(
        label=named, names=Names(scientific=named, en=named, es=named), taxon="Aves" if named in "ab" else "Insecta",
        confidence=changes.pop("score", 0.9), unweighted=0.9, threshold=0.5, start_s=0, end_s=5,
    )  # fmt: skip
    fields: dict[str, Any] = {
        "clip_id": clip_of(n), "stream": stream, "site": "here", "client": ("guide", "power", "mobile")[n % 3],
        "place": Place(topic="clips", partition=0, offset=n), "release": release.name, "release_digest": release.digest, "generation": 3,
        "role": "champion", "feature_fingerprints": ("f",), "labels": LABELS,
        "windows": (Window(start_s=0, end_s=5, scores=tuple(species.confidence if one == named else 0.01 for one in LABELS)),),
        "detections": (species,), "stages": Stages(**moments, predicted=at + timedelta(seconds=took)),
    }  # fmt: skip
    return ClipAnalysed.model_validate(fields | changes)


def both(n: int, old: str, new: str, **changes: Any) -> list[ClipAnalysed]:
    """What both say of a clip, each in its part."""
    on_canary = role_of(STATE, f"tour-{n % 10}") == "canary"
    return [
        answer(n, OLD, old, role="shadow" if on_canary else "champion"),
        answer(n, NEW, new, role="canary" if on_canary else "shadow", **changes),
    ]


def trial_of(events: list[ClipAnalysed], verdicts: list[FeedbackGiven] | None = None) -> Trial:
    """A trial that was told all of this, in any order, and some of it twice."""
    trial, told = Trial(STATE, frozenset(LABELS)), [*events, *events[:5]]
    random.Random(1).shuffle(told)
    for event in told:
        trial.answered(event)
    for verdict in verdicts or []:
        trial.judged(verdict)
    return trial


def kinds(trial: Trial) -> list[str]:
    """The alarms by kind."""
    return [alarm.kind for alarm in trial.alarms(ENOUGH)]


def verdict(n: int, release: ReleaseRef, said: str) -> FeedbackGiven:
    """A guide's word on clip `n`."""
    place = Place(topic="clips", partition=0, offset=n)
    return FeedbackGiven(
        feedback_id=f"f{n}", clip_id=clip_of(n), stream="s", site="here", verdict=said, release=release.name,
        clip_place=place, answer_place=place, by="ana", given_at=NOW,
    )  # fmt: skip


def test_two_that_agree_are_no_alarm() -> None:
    trial = trial_of([event for n in range(200) for event in both(n, LABELS[n % 4], LABELS[n % 4])])
    assert kinds(trial) == [] and len(trial.both) == 200
    found = {row["label"]: (row["both"], row["champion"], row["candidate"]) for row in trial.differences()}
    assert found == dict.fromkeys(LABELS, (50, 0, 0))


def test_labels_rotated_by_one_are_an_alarm_that_names_clips_and_taxa() -> None:
    trial = trial_of([event for n in range(60) for event in both(n, LABELS[n % 4], LABELS[(n + 1) % 4])])
    (alarm,) = trial.alarms(ENOUGH)
    assert alarm.kind == "disagreement" and "Aves" in alarm.says and "Insecta" in alarm.says
    assert set(alarm.clips) <= {str(clip_of(n)) for n in range(60)} and alarm.clips


def test_a_few_clips_prove_nothing() -> None:
    assert kinds(trial_of([event for n in range(FEW_PAIRS - 1) for event in both(n, "a", "b")])) == []
    doubtful = [event for n in range(ENOUGH) for event in both(n, "a", "a" if n % 10 < 3 else "b")]
    assert kinds(trial_of(doubtful[: 2 * (ENOUGH - 1)])) == [], "fewer than are wanted, and not far enough below"
    assert kinds(trial_of(doubtful)) == ["disagreement"]


def test_a_taxon_that_is_heard_no_more_is_an_alarm_of_its_own() -> None:
    """Of five clips four agree; the fifth is of the taxon that the candidate has lost."""
    events = [event for n in range(300) for event in both(n, "c" if n % 5 == 0 else "a", "a")]
    (alarm,) = trial_of(events).alarms(ENOUGH)
    assert alarm.kind == "disagreement" and "of Insecta" in alarm.says
    assert set(alarm.clips) <= {str(clip_of(n)) for n in range(0, 300, 5)}


def test_what_leaves_no_doubt_needs_fewer() -> None:
    clear = [event for n in range(FEW_PAIRS) for event in both(n, "a", "a" if n % 20 == 0 else "b")]
    assert kinds(trial_of(clear)) == ["disagreement"]


def test_a_third_of_other_answers_is_a_better_model_and_no_alarm() -> None:
    assert kinds(trial_of([event for n in range(99) for event in both(n, "a", "b" if n % 3 == 0 else "a")])) == []


def test_a_label_that_only_one_of_them_knows_is_not_compared() -> None:
    trial = Trial(STATE, frozenset({"a"}))
    for n in range(60):
        for event in both(n, "a" if n % 2 else "c", "a" if n % 2 else "d"):
            trial.answered(event)
    assert trial.alarms(ENOUGH) == [] and [row["label"] for row in trial.differences()] == ["a"]


def test_clips_that_the_champion_had_to_answer() -> None:
    on_canary = [n for n in range(200) if role_of(STATE, f"tour-{n % 10}") == "canary"]
    good, failed = on_canary[:40], on_canary[40:60]
    events = [event for n in good for event in both(n, "a", "a")] + [answer(n, OLD, "a") for n in failed]
    (alarm,) = trial_of(events).alarms(ENOUGH)
    assert alarm.kind == "errors" and len(alarm.clips) == NAMED and set(alarm.clips) <= {str(clip_of(n)) for n in failed}
    before = [answer(n, OLD, "a", generation=2) for n in failed]
    assert kinds(trial_of([*(event for n in good for event in both(n, "a", "a")), *before])) == [], "answered before the share was raised"


def test_an_outage_of_the_model_server_is_not_held_against_the_candidate() -> None:
    """It took the champion's model away too, which was back a moment sooner."""
    on_canary = [n for n in range(200) if role_of(STATE, f"tour-{n % 10}") == "canary"]
    good, failed = on_canary[:40], on_canary[40:60]
    at_once = [answer(n, OLD, "a").stages.model_copy(update={"predicted": NOW + timedelta(seconds=200)}) for n in failed]
    events = [event for n in good for event in both(n, "a", "a")]
    assert kinds(trial_of([*events, *(answer(n, OLD, "a", stages=stages) for n, stages in zip(failed, at_once, strict=True))])) == []


def test_a_tour_that_was_under_way_is_no_failure_of_the_candidate() -> None:
    """It stays with the champion, who answers it by right."""
    state = STATE.model_copy(update={"shares": (Share(share=0.5, since=NOW),)})
    on_canary = [n for n in range(200) if role_of(STATE, f"tour-{n % 10}") == "canary"]
    good = [event for n in on_canary[:40] for event in both(n, "a", "a")]

    def told(**more: Any) -> Trial:
        trial = Trial(state, frozenset(LABELS))
        for event in (*good, *(answer(n, OLD, "a", **more) for n in on_canary[40:50])):
            trial.answered(event)
        return trial

    assert kinds(told(tour_started_at=NOW - timedelta(hours=1))) == [] and kinds(told(tour_started_at=NOW)) == ["errors"]


def test_guides_who_reject_the_canary_more_often() -> None:
    events = [event for n in range(60) for event in both(n, "a", "a")]
    verdicts = [verdict(n, NEW, "wrong" if n < 15 else "right") for n in range(20)] + [verdict(n, OLD, "right") for n in range(20, 40)]
    (alarm,) = trial_of(events, verdicts).alarms(ENOUGH)
    assert alarm.kind == "rejections" and len(alarm.clips) == 10
    alike = [verdict(n, NEW if n < 20 else OLD, "wrong" if n % 4 == 0 else "right") for n in range(40)]
    assert kinds(trial_of(events, alike)) == []


def test_a_candidate_that_takes_much_longer() -> None:
    events = [event for n in range(300) for event in both(n, "a", "a", took=0.5)]
    assert kinds(trial_of(events)) == ["latency"]


def test_scores_that_lie_elsewhere() -> None:
    assert kinds(trial_of([event for n in range(100) for event in both(n, "a", "a", score=0.52)])) == ["drift"]


def test_what_a_promotion_lacks() -> None:
    trial = trial_of([event for n in range(30) for event in both(n, "a", "a")])
    answered = sum(role_of(STATE, f"tour-{n % 10}") == "canary" for n in range(30))
    assert trial.missing(answered, 3) == []
    streams = len({stream for stream, _ in trial.canary.values()})
    assert [line.split()[0] for line in trial.missing(200, 11)] == [str(200 - answered), str(11 - streams)]
    one_user = Trial(STATE, frozenset(LABELS))
    for n in range(300):
        for event in both(n, "a", "a", client="guide"):
            one_user.answered(event)
    assert one_user.missing(100, 3) == ["clips of power, mobile users"]


@pytest.mark.parametrize("changes", [{"site": "elsewhere"}, {"probe": True}, {"run_id": "r", "role": "replay"}, {"release_digest": "cc"}])
def test_what_is_no_part_of_the_trial(changes: dict[str, Any]) -> None:
    trial = trial_of([answer(1, NEW, "a", **changes)])
    assert not trial.pairs and not trial.canary


def test_what_was_said_before_the_candidate_came() -> None:
    trial = Trial(STATE.model_copy(update={"since": NOW + timedelta(hours=1)}), frozenset(LABELS))
    trial.answered(answer(1, NEW, "a", role="canary"))
    assert not trial.canary


def test_stability() -> None:
    rng = random.Random(0)
    same, other = [[rng.betavariate(2, b) for _ in range(2000)] for b in (5, 5)]
    assert stability(same, other) < 0.05 < 1.0 < stability(same, [1 - one for one in other])


