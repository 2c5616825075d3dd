"""What a tour has heard, from events in any order and more than once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soundscape import tour_rows
from soundscape.errors import Invalid
from soundscape.events import (
    NAMESPACE,
    ClipAnalysed,
    ClipLabelled,
    Detection,
    FeedbackGiven,
    Names,
    Place,
    Stages,
    TourMoved,
    TourSpecies,
    TourSummed,
    Window,
)
from soundscape.taxonomy import Species
from soundscape.tour_rows import Changed, Changes, Rows, TourEvent, key_parts, row_key
from soundscape.tours import summary, tour_of

START = datetime(2026, 3, 1, 6, tzinfo=UTC)
AT = datetime(2026, 3, 2, tzinfo=UTC)
PLACE = Place(topic="clips", partition=0, offset=0)
Said = tuple[TourEvent, int]
"""An event and its offset on its topic."""
Scores = dict[str, float | Sequence[float]]


def clip_of(number: int, stream: str = "t") -> Any:
    """The id of a stream's clip."""
    return uuid5(NAMESPACE, f"{stream}/{number}")


def answer(number: int, scores: Scores, offset: int, *, windows: int = 1, tour: bool = True, **fields: Any) -> Said:
    """A clip taken `number` times 5 s after the start; a score, or one a window, of each label; threshold 0.5."""
    stream, recorded = fields.pop("stream", "t"), START + timedelta(seconds=5 * number)
    detections = []
    for label, said in scores.items():
        by_window = [said] * windows if isinstance(said, float | int) else list(said)
        detections += [
            Detection(
                label=label, names=Names(scientific=f"S {label}", en=f"E {label}", es=f"Ñ {label}"), taxon=fields.get("taxon", "Aves"),
                confidence=score, unweighted=score, threshold=0.5, start_s=5.0 * n, end_s=5.0 * (n + 1),
            )
            for n, score in enumerate(by_window)
            if score
        ]  # fmt: skip
    fields.pop("taxon", None)
    said_fields: dict[str, Any] = {
        "clip_id": clip_of(number, stream),
        "stream": stream,
        "site": "s",
        "tour_id": stream if tour else None,
        "recorded_at": recorded,
        "place": PLACE,
        "release": "r1",
        "release_digest": "d",
        "generation": 1,
        "feature_fingerprints": (),
        "labels": (),
        "windows": tuple(Window(start_s=5.0 * n, end_s=5.0 * (n + 1), scores=()) for n in range(windows)),
        "detections": tuple(detections),
        "stages": Stages(
            published=recorded, received=recorded, decoded=recorded, features=recorded, inferred=recorded, predicted=recorded
        ),
    }
    return ClipAnalysed(**(said_fields | fields)), offset


def feedback(number: int, verdict: Any, offset: int, *labels: str, heard: Iterable[str] = (), by: str = "guide", **fields: Any) -> Said:
    """A guide's judgement of a clip; its id follows from guide and clip unless given."""
    stream = fields.pop("stream", "t")
    said: dict[str, Any] = {
        "feedback_id": f"{by}-{number}", "clip_id": clip_of(number, stream), "stream": stream, "site": "s", "tour_id": "t",
        "verdict": verdict, "labels": labels, "heard": tuple(heard), "release": "r1", "clip_place": PLACE, "answer_place": PLACE,
        "by": by, "given_at": START,
    }  # fmt: skip
    return FeedbackGiven(**(said | fields)), offset


def label(number: int, verdict: Any, offset: int, *labels: str, by: str = "lena", start_s: float = 0.0, **fields: Any) -> Said:
    """A labeler's judgement of a window."""
    stream = fields.pop("stream", "t")
    said: dict[str, Any] = {
        "label_id": f"{by}-{number}-{start_s:g}", "clip_id": clip_of(number, stream), "stream": stream, "site": "s",
        "start_s": start_s, "end_s": start_s + 5, "verdict": verdict, "labels": labels, "by": by, "provenance": "page",
        "labelled_at": START,
    }  # fmt: skip
    return ClipLabelled(**(said | fields)), offset


def moved(what: Literal["started", "ended"], offset: int, minutes: float = 0.0, **fields: Any) -> Said:
    """Tour `t` starts or ends."""
    said: dict[str, Any] = {"tour_id": "t", "site": "s", "what": what, "by": "guide", "at": START + timedelta(minutes=minutes)}
    return TourMoved(**(said | fields)), offset


def no_names(site: str, name: str) -> Species | None:
    """A release that knows nothing."""
    return None


def rows_of(events: Iterable[Said]) -> Rows:
    """The rows after these events."""
    rows = Rows({})
    for event, offset in events:
        rows.apply(event, offset)
    return rows


def summed(events: Iterable[Said], tour: str = "t", names: Callable[[str, str], Species | None] = no_names) -> TourSummed:
    """The summary of a tour after these events."""
    found = summary(tour, rows_of(events).of(tour), names, AT)
    assert found is not None
    return found


def heard(events: Iterable[Said], name: str = "owl", tour: str = "t") -> TourSpecies | None:
    """What the tour says of one species."""
    return next((one for one in summed(events, tour).heard if one.label == name), None)


def status(events: Iterable[Said], name: str = "owl") -> str | None:
    """The status of one species."""
    found = heard(events, name)
    return found.status if found else None


def test_outside_a_tour_a_stream_rolls_over_daily_in_utc() -> None:
    late = datetime.fromisoformat("2026-03-01T20:00:00-05:00")
    assert tour_of("dawn", "REC", late) == "dawn"
    assert tour_of(None, "REC", late) == "REC@2026-03-02"
    long = {tour_of(None, "x" * 199 + end, late) for end in "ab"}
    assert len(long) == 2
    assert all(len(one) == 200 for one in long)


def test_heard_once_is_provisional_and_twice_within_a_minute_confirmed() -> None:
    quiet = [answer(n, {}, n) for n in range(1, 12)]
    once = [answer(0, {"owl": 0.6}, 0)]
    assert status([*once, *quiet]) == "provisional"
    assert status([*once, *quiet[:10], answer(11, {"owl": 0.6}, 11)]) == "confirmed"
    assert status([*once, *quiet, answer(12, {"owl": 0.6}, 12)]) == "provisional", "13 windows, first and last"
    assert status([answer(0, {"owl": [0.6, 0, 0.7]}, 0, windows=12)]) == "confirmed", "two windows of one recorder's minute"


def test_windows_count_in_the_order_of_time_not_of_the_log() -> None:
    later_first = [answer(n, {"owl": 0.6} if n in (0, 1) else {}, 50 - n) for n in range(14)]
    assert status(later_first) == "confirmed"


def test_the_best_clip_gives_place_and_confidence() -> None:
    found = heard([
        answer(0, {"owl": 0.6}, 0, latitude=1.0, longitude=2.0),
        answer(1, {"owl": 0.9}, 1, latitude=3.0, longitude=4.0),
        answer(2, {"owl": 0.7}, 2),
    ])  # fmt: skip
    assert found is not None
    assert (found.confidence, found.best_clip, found.latitude, found.longitude) == (0.9, clip_of(1), 3.0, 4.0)
    assert (found.first_at, found.last_at) == (START, START + timedelta(seconds=10))
    assert (found.clips, found.windows, found.by_person) == (3, 3, False)
    assert found.names == Names(scientific="S owl", en="E owl", es="Ñ owl")


def test_an_answer_that_changes_takes_its_old_contributions_away() -> None:
    first = answer(0, {"owl": 0.9, "frog": 0.8}, 0)
    again = answer(0, {"frog": 0.7, "bat": 0.6}, 5, release="r2")
    found = summed([first, again])
    assert set(found.species) == {"frog", "bat"}
    assert (found.clips, found.releases) == (1, ("r2",))
    assert heard([first, again], "frog") == heard([again], "frog")
    assert summed([again, first]) == found, "an older answer that comes again says nothing"
    assert summed([again, answer(1, {}, 3)]).releases == ("r1", "r2")


def test_a_guide_confirms_and_rejects() -> None:
    once = answer(0, {"owl": 0.6}, 0)
    assert status([once, feedback(0, "right", 0, heard=["owl"])]) == "confirmed"
    wrong = [once, feedback(0, "wrong", 0, heard=["owl"])]
    found = summed(wrong)
    assert (found.species, found.diversity, found.feedback, found.clips) == ((), 0, 1, 1)
    assert [(one.status, one.by_person) for one in found.heard] == [("rejected", True)]
    assert status([*wrong, feedback(0, "withdrawn", 1)]) == "provisional"
    assert summed([*wrong, feedback(0, "withdrawn", 1)]).feedback == 0
    assert status([once, feedback(0, "unknown", 0, heard=["owl"])]) == "provisional"


def test_it_was_another_species() -> None:
    events = [answer(0, {"owl": 0.6}, 0), feedback(0, "species", 0, "frog", "bat", heard=["owl"])]
    assert [status(events, name) for name in ("owl", "frog", "bat")] == ["rejected", "confirmed", "confirmed"]
    frog = heard(events, "frog")
    assert frog is not None
    assert (frog.clips, frog.windows, frog.confidence, frog.best_clip, frog.first_at) == (1, 0, 0.0, clip_of(0), START)
    assert (frog.names, frog.by_person) == (None, True)
    known = Species(label="frog", scientific="Rana", en="frog", es="rana", taxon="Amphibia")
    named = summed(events, names=lambda site, name: known if (site, name) == ("s", "frog") else None)
    assert {one.label: one.names and one.names.es for one in named.heard} == {"frog": "rana", "bat": None, "owl": "Ñ owl"}


def test_a_rejected_species_needs_stronger_evidence_for_the_rest_of_the_tour() -> None:
    before = [answer(n, {"owl": 0.99}, n) for n in range(2)]
    rejected = [*before, answer(2, {"owl": 0.6}, 2), feedback(2, "wrong", 0, heard=["owl"])]
    assert status(rejected) == "rejected", "what lies before counts no more"
    assert status([*rejected, answer(3, {"owl": 0.74}, 3)]) == "rejected"
    back = [*rejected, answer(3, {"owl": 0.75}, 3)]
    found = heard(back)
    assert found is not None
    assert (found.status, found.clips, found.confidence, found.by_person) == ("provisional", 1, 0.75, False)
    assert status([*back, answer(4, {"owl": 0.8}, 4)]) == "confirmed"
    assert status([*back, feedback(3, "wrong", 1, heard=["owl"])]) == "rejected"
    assert status([*back, feedback(3, "right", 1, heard=["owl"])]) == "confirmed"


def test_guides_who_contradict_each_other_leave_it_provisional_and_both_count() -> None:
    events = [
        answer(0, {"owl": 0.9}, 0), answer(1, {"owl": 0.6}, 1),
        feedback(0, "right", 0, heard=["owl"], by="ana"), feedback(0, "wrong", 1, heard=["owl"], by="ben"),
    ]  # fmt: skip
    assert status(events) == "provisional"
    assert summed(events).feedback == 2
    assert status([*events, feedback(0, "wrong", 2, heard=["owl"], by="ana")]) == "rejected", "the latest of one guide"
    twice = feedback(0, "wrong", 2, heard=["owl"], by="ana", feedback_id="another")
    assert status([*events, twice]) == "rejected", "also under another id"


def test_a_labeler_wins_over_guides_and_the_latest_labeler_over_others() -> None:
    wrong = [answer(0, {"owl": 0.9}, 0), feedback(0, "wrong", 7, heard=["owl"])]
    assert status([*wrong, label(0, "species", 0, "owl")]) == "confirmed"
    assert status([*wrong, label(0, "species", 0, "owl"), label(0, "nothing", 1, by="max")]) == "rejected"
    assert status([*wrong, label(0, "nothing", 1, by="max"), label(0, "species", 2, "owl")]) == "confirmed"
    right = [answer(0, {"owl": 0.9}, 0), feedback(0, "right", 7, heard=["owl"])]
    assert status([*right, label(0, "species", 0, "frog")]) == "rejected"
    assert status([*right, label(0, "speech", 0)]) == "confirmed", "a voice says nothing of the species"
    claimed = [answer(0, {}, 0), feedback(0, "species", 0, "frog"), label(0, "nothing", 0)]
    assert heard(claimed, "frog") is None, "nobody but a guide whom the labeler does not follow"
    assert summed(claimed).feedback == 1


def test_a_label_without_the_species_rejects_it_only_in_a_window_that_named_it() -> None:
    minute = answer(0, {"owl": [0, 0.9]}, 0, windows=12)
    assert status([minute, label(0, "nothing", 0, start_s=20.0)]) == "provisional"
    assert status([minute, label(0, "nothing", 0, start_s=5.0)]) == "rejected"
    assert status([minute, label(0, "nothing", 0, start_s=5.0), label(0, "species", 1, "owl", start_s=20.0)]) == "confirmed"


def test_start_end_effort_and_diversity() -> None:
    clips = [answer(n, {"owl": 0.9, "frog": 0.9}, n) for n in range(12)]
    found = summed([moved("started", 0, -10), *clips, moved("ended", 1, 50, rating=4, note="fine", by="ben")])
    assert (found.by, found.rating, found.note) == ("guide", 4, "fine")
    assert (found.effort_minutes, found.diversity, found.diversity_per_hour) == (60.0, 2, 2.0)
    assert (found.started_at, found.ended_at) == (START - timedelta(minutes=10), START + timedelta(minutes=50))
    alone = summed(clips)
    assert (alone.effort_minutes, alone.diversity_per_hour, alone.started_at) == (1.0, 120.0, None)
    assert summed(clips[:1]).diversity_per_hour is None
    empty = summed([moved("started", 0)])
    assert (empty.clips, empty.effort_minutes, empty.species) == (0, 0.0, ())
    rated_again = summed([moved("started", 0), moved("ended", 2, 5, rating=5), moved("ended", 1, 5, rating=1)])
    assert rated_again.rating == 5


def test_nothing_is_shown_of_a_tour_of_which_only_judgements_or_the_end_are_known() -> None:
    events = [moved("ended", 0), feedback(0, "right", 0, heard=["owl"])]
    assert summary("t", rows_of(events).of("t"), no_names, AT) is None


def test_probes_and_voices_are_no_part_of_it() -> None:
    rows = rows_of([answer(0, {"owl": 0.9}, 0, probe=True)])
    assert rows.tours() == []
    assert summed([answer(0, {"Human": 0.9}, 0, taxon="Other")]).heard == ()


def test_a_label_of_a_recorders_clip_finds_its_day() -> None:
    at: dict[str, Any] = {"tour": False, "stream": "REC"}
    day = "REC@2026-03-01"
    clip = answer(0, {"owl": 0.9}, 0, **at)
    expert = label(0, "nothing", 0, stream="REC", labelled_at=AT)
    guide = feedback(0, "wrong", 0, heard=["owl"], stream="REC", tour_id=None, recorded_at=START, given_at=AT)
    for events in ([clip, expert], [expert, clip], [clip, guide], [guide, clip]):
        assert [one.status for one in summed(events, day).heard] == ["rejected"]
    rows = rows_of([expert, clip])
    assert rows.tours() == [day], "no judgement waits any more"


def test_a_clip_that_was_sent_again_on_another_day_is_counted_once() -> None:
    fields: dict[str, Any] = {"tour": False, "stream": "key"}
    first, other = answer(0, {"owl": 0.9}, 0, **fields), answer(0, {"owl": 0.8}, 1, **fields, recorded_at=AT)
    said = feedback(0, "right", 0, heard=["owl"], stream="key", tour_id=None, recorded_at=START)
    for events in ([first, said, other], [other, first, said], [said, other, first]):
        rows = rows_of(events)
        before, after = (summary(tour, rows.of(tour), no_names, AT) for tour in ("key@2026-03-01", "key@2026-03-02"))
        assert before is None or (before.clips, before.heard, before.feedback) == (0, (), 0)
        assert after is not None
        assert (after.clips, after.species, after.diversity, after.feedback) == (1, ("owl",), 1, 1)


def test_one_row_a_tour_and_species() -> None:
    rows = rows_of([answer(0, {"owl": 0.9, "frog": 0.9}, 0), answer(1, {"owl": 0.9}, 1), feedback(0, "species", 0, "bat")])
    assert set(rows.of("t")) == {"", "owl", "frog"}
    assert set(rows.of("t")["owl"]["clips"]) == {str(clip_of(0)), str(clip_of(1))}
    assert key_parts(row_key("t@2026", "owl")) == ("t@2026", "owl")


def test_what_no_row_takes_is_refused_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of([moved("started", 0), answer(0, {"owl": 0.9}, 0)])
    before = rows.of("t")
    with pytest.raises(Invalid, match="another site's"):
        rows.apply(*answer(1, {}, 1, site="elsewhere"))
    with pytest.raises(Invalid, match="dropped"):
        rows.apply(*answer(0, {}, 1, stream="old"), since=AT.timestamp())
    monkeypatch.setattr(tour_rows, "MAX_ROW_BYTES", 10)
    with pytest.raises(Invalid, match="all that it can"):
        rows.apply(*answer(1, {"frog": 0.9}, 1))
    assert rows.of("t") == before
    assert rows.tours() == ["t"]
    monkeypatch.undo()
    assert rows.apply(*answer(1, {"frog": 0.9}, 1))


def test_an_answer_left_half_written_by_a_crash_is_not_believed() -> None:
    stored: dict[bytes, Any] = {}
    rows = Rows(stored)
    rows.apply(*answer(0, {"owl": 0.9}, 0))
    changed = answer(0, {"frog": 0.9}, 1)
    head = row_key("t", "")
    half = dict(stored)
    rows.apply(*changed)
    half[head] = stored[head]
    again = Rows(half)
    again.index()
    found = summary("t", again.of("t"), no_names, AT)
    assert found is not None
    assert found.heard == (), "the owl's row is not rewritten yet, the frog's not there"
    again.apply(*changed)
    assert half == stored


def test_a_dropped_tour_leaves_nothing() -> None:
    stored: dict[bytes, Any] = {}
    rows = Rows(stored)
    for event, offset in [answer(0, {"owl": 0.9}, 0), feedback(0, "right", 0, heard=["owl"])]:
        rows.apply(event, offset)
    assert rows.drop("t") == {row_key("t", ""): Changed(None), row_key("t", "owl"): Changed(None)}
    assert (stored, rows.tours(), dict(rows._clips), dict(rows._said)) == ({}, [], {}, {})


def test_a_labeler_of_one_window_does_not_speak_for_the_others() -> None:
    """A minute: the answer names the owl at its beginning, the guide says right, a labeler hears nothing in a window drawn by chance."""
    clip = answer(0, {"owl": [0.9, 0.9, 0.0, 0.0]}, 0, windows=4)
    right = feedback(0, "right", 0, heard=["owl"])
    elsewhere, there, beside = (label(0, "nothing", n, start_s=5.0 * window) for n, window in enumerate((3, 0, 1)))
    assert status([clip, right, elsewhere]) == "confirmed"
    assert status([clip, right, elsewhere, there]) == "confirmed", "one of the two windows that name it is not both"
    assert status([clip, right, elsewhere, there, beside]) == "rejected"
    named = feedback(0, "species", 0, "bat")
    assert status([clip, named, elsewhere], "bat") == "confirmed", "the guide may have heard it in the rest of the minute"


SPECIES = ("owl", "frog", "bat")
NUMBERS = st.integers(0, 5)
ANSWERS = st.lists(st.tuples(NUMBERS, st.dictionaries(st.sampled_from(SPECIES), st.sampled_from([0.5, 0.7, 0.8, 0.99]))), max_size=12)
VERDICTS = st.sampled_from(["right", "wrong", "species", "unknown", "withdrawn"])
GIVEN = st.lists(st.tuples(NUMBERS, VERDICTS, st.sampled_from(SPECIES), st.sampled_from(["ana", "ben"])), max_size=8)
LABELLED = st.lists(
    st.tuples(NUMBERS, st.sampled_from(["species", "nothing", "speech", "withdrawn"]), st.sampled_from(SPECIES)), max_size=5
)


def story(answers: Any, given_: Any, labelled: Any, *, tour: bool) -> list[Said]:
    """Everything that was said, each topic in the order of its offsets."""
    where: dict[str, Any] = {} if tour else {"tour_id": None}
    events = [answer(number, scores, n, tour=tour) for n, (number, scores) in enumerate(answers)]
    events += [feedback(number, verdict, n, name, heard=[name], by=by, **where) for n, (number, verdict, name, by) in enumerate(given_)]
    events += [label(number, verdict, n, name) for n, (number, verdict, name) in enumerate(labelled)]
    return [*events, moved("started", 0), moved("ended", 1, 5, rating=3)]


def all_summaries(rows: Rows) -> dict[str, TourSummed | None]:
    """Every tour's summary."""
    return {tour: summary(tour, rows.of(tour), no_names, AT) for tour in sorted(rows.tours())}


def written(changelog: dict[bytes, Any], changes: Changes) -> None:
    """What the changelog says after these changes."""
    for key, one in changes.items():
        if one.row is None:
            changelog.pop(key, None)
        else:
            changelog[key] = json.loads(one.row)


def cut_off(changes: Changes, data: st.DataObject) -> Changes:
    """What of these changes a crash leaves written: any part of them, but of the last ones none before all others are."""
    first = [key for key, one in changes.items() if not one.last and data.draw(st.booleans())]
    all_first = len(first) == sum(not one.last for one in changes.values())
    last = [key for key, one in changes.items() if one.last and all_first and data.draw(st.booleans())]
    return {key: changes[key] for key in (*first, *last)}


def test_a_crash_loses_no_judgement_that_waited_for_its_clip() -> None:
    """The answer comes, and only a part of what it changes is written; it comes again."""
    changelog: dict[bytes, Any] = {}
    rows = Rows({})
    clip = answer(0, {"owl": 0.9}, 0, tour=False)
    written(changelog, rows.apply(*label(0, "species", 0, "owl")))
    changes = rows.apply(*clip)
    waiting = [key for key, one in changes.items() if one.last]
    assert [changes[key].row for key in waiting] == [None], "the row where it waited goes, and goes last"
    written(changelog, {key: one for key, one in changes.items() if not one.last})
    again = Rows(dict(changelog))
    again.index()
    written(changelog, again.apply(*clip))
    (said,) = all_summaries(again).values()
    assert said is not None
    assert [one.by_person for one in said.heard] == [True]
    assert not set(waiting) & set(changelog)


@settings(max_examples=300, deadline=None)
@given(ANSWERS, GIVEN, LABELLED, st.booleans(), st.data())
def test_any_order_and_any_repetition_give_the_same(answers: Any, given_: Any, labelled: Any, tour: bool, data: st.DataObject) -> None:
    """And what is rebuilt from the changelog is what was there."""
    events = story(answers, given_, labelled, tour=tour)
    wanted = all_summaries(rows_of(events))
    shuffled = data.draw(st.permutations(events + data.draw(st.lists(st.sampled_from(events), max_size=6))))
    changelog: dict[bytes, Any] = {}
    rows, crash = Rows({}), data.draw(st.integers(0, len(shuffled) - 1))
    for n, (event, offset) in enumerate(shuffled):
        if n == crash:  # some rows of the event are written, others not; it is delivered again
            written(changelog, cut_off(rows.apply(event, offset), data))
            rows = Rows(dict(changelog))
            rows.index()
        written(changelog, rows.apply(event, offset))
    assert all_summaries(rows) == wanted
    again = Rows(changelog)
    again.index()
    assert all_summaries(again) == wanted
    assert (again._clips, again._said, again._labels) == (rows._clips, rows._said, rows._labels)
