"""From members' scores to an answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soundscape.calibration import Calibration, Thresholds
from soundscape.features import LOG_MEL
from soundscape.fuse import DENSE_LABELS, SCORE_FLOOR, Fused, detect, fuse, fusion_of, listing, sound_events
from soundscape.release import WEEKS, LoadedRelease, week_of

if TYPE_CHECKING:
    from tests.unit.stream_processors.conftest import Make

MAY = datetime(2026, 5, 10, tzinfo=UTC)


def scores(*rows: list[float]) -> np.ndarray:
    """float32 (windows, outputs)."""
    return np.array(rows, np.float32)


def test_a_label_is_averaged_over_the_members_that_know_it(release_of: Make) -> None:
    """By weight; who does not know a label has no say, and the order of a member's outputs is its own."""
    loaded = release_of({"own": (["c", "a"], 3.0, LOG_MEL), "birdnet": (["a", "b"], 1.0, LOG_MEL)})
    found = fuse(loaded, {"own": scores([0.9, 0.8]), "birdnet": scores([0.4, 0.5])}, [False], None)
    np.testing.assert_allclose(found.scores, [[(3 * 0.8 + 0.4) / 4, 0.5, 0.9]], rtol=1e-6)
    assert found.weights is None and found.scores.dtype == np.float32


def test_a_member_that_is_left_out_takes_its_weight_with_it(release_of: Make) -> None:
    """The others are averaged among themselves; a label that nobody present knows scores 0."""
    loaded = release_of({"own": (["c", "a"], 3.0, LOG_MEL), "birdnet": (["a", "b"], 1.0, LOG_MEL)})
    found = fuse(loaded, {"birdnet": scores([0.4, 0.5])}, [False], None)
    np.testing.assert_allclose(found.scores, [[0.4, 0.5, 0.0]], rtol=1e-6)


def test_log_odds_are_averaged_where_the_release_says_so(release_of: Make) -> None:
    """The geometric mean of the odds: who is sure that a species is absent weighs more than in a mean of probabilities."""
    members = {"one": (["a"], 1.0, LOG_MEL), "two": (["a", "b"], 3.0, LOG_MEL)}
    loaded = release_of(members, fusion="log_odds")
    found = fuse(loaded, {"one": scores([0.8]), "two": scores([0.2, 0.9])}, [False], None)
    odds = (0.8 / 0.2) ** 0.25 * (0.2 / 0.8) ** 0.75
    np.testing.assert_allclose(found.scores, [[odds / (1 + odds), 0.9]], rtol=1e-5)
    assert fuse(loaded, {"one": scores([0.8])}, [False], None).scores[0].tolist() == pytest.approx([0.8, 0.0])


def test_a_window_is_heard_beside_its_neighbours(release_of: Make) -> None:
    """Those at the ends stand in for the neighbour that they lack, one alone keeps its score, and silence stays silent."""
    loaded = release_of({"one": (["a"], 1.0, LOG_MEL)}, context=0.4)
    found = fuse(loaded, {"one": scores([0.5], [0.9], [0.1])}, [False, False, False], None).scores
    np.testing.assert_allclose(found[:, 0], [0.6 * 0.5 + 0.2 * (0.5 + 0.9), 0.6 * 0.9 + 0.2 * 0.6, 0.6 * 0.1 + 0.2 * 1.0], rtol=1e-6)
    assert fuse(loaded, {"one": scores([0.5])}, [False], None).scores.tolist() == [[0.5]]
    silent = fuse(loaded, {"one": scores([0.5], [0.9], [0.5])}, [False, True, False], None).scores
    np.testing.assert_allclose(silent[:, 0], [0.6 * 0.5 + 0.2 * 0.5, 0.0, 0.6 * 0.5 + 0.2 * 0.5], rtol=1e-6)


def test_a_prediction_tells_how_its_members_were_fused(release_of: Make) -> None:
    """The shares are those of the members that answered, by taxon where it has its own; one member alone is not fused."""
    loaded = release_of({"one": (["a"], 1.0, LOG_MEL), "two": (["a"], 3.0, LOG_MEL)}, fusion="log_odds", context=0.3)
    told = fusion_of(loaded, ["one", "two"])
    assert told is not None and (told.mean_of, told.context, told.weights) == ("log_odds", 0.3, {"one": 0.25, "two": 0.75})
    assert (alone := fusion_of(loaded, ["one"])) is not None and alone.weights == {"one": 1.0}
    frogs = loaded.release.members[0].model_copy(update={"weight_by_taxon": {"Amphibia": 9.0}})
    changed = loaded.release.model_copy(update={"members": (frogs, loaded.release.members[1])})
    by_taxon = fusion_of(LoadedRelease(loaded.folder, changed, loaded.digest), ["one", "two"])
    assert by_taxon is not None and by_taxon.weights_by_taxon == {"Amphibia": {"one": 0.75, "two": 0.25}}
    assert fusion_of(release_of(), ["one"]) is None


def test_a_silent_window_names_nothing(release_of: Make) -> None:
    """Whatever the models say of it."""
    loaded = release_of()
    found = fuse(loaded, {"one": scores([0.9, 0.9], [0.9, 0.9])}, [True, False], None)
    assert found.scores[0].tolist() == [0.0, 0.0] and found.scores[1].min() > 0.8
    assert [(one.label, one.start_s) for one in detect(loaded, found)] == [("a", 5.0), ("b", 5.0)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8), st.floats(0.1, 9))
def test_a_fused_score_lies_between_its_members(release_of: Make, pairs: list[tuple[float, float]], weight: float) -> None:
    """An average never leaves their range, and stays a probability."""
    loaded = release_of({"one": (["a", "b"], weight, LOG_MEL), "two": (["a", "b"], 1.0, LOG_MEL)})
    one = np.array([[a, a] for a, _ in pairs], np.float32)
    two = np.array([[b, b] for _, b in pairs], np.float32)
    found = fuse(loaded, {"one": one, "two": two}, [False] * len(pairs), None).scores
    assert (found >= np.minimum(one, two) - 1e-5).all() and (found <= np.maximum(one, two) + 1e-5).all()
    assert found.min() >= 0.0 and found.max() <= 1.0


def test_the_prior_lowers_and_never_hides(release_of: Make) -> None:
    """A label that place and week make unlikely keeps its row, its own score, and its detection with both numbers."""
    prior = np.ones((WEEKS, 2), np.float32)
    prior[week_of(10, 5), 0] = 0.25
    loaded = release_of(prior=prior)
    found = fuse(loaded, {"one": scores([0.8, 0.6])}, [False], MAY)
    np.testing.assert_allclose(found.scores, [[0.2, 0.6]], rtol=1e-6)
    np.testing.assert_allclose(found.unweighted, [[0.8, 0.6]], rtol=1e-6)
    heard = {one.label: one for one in detect(loaded, found)}
    assert (heard["a"].confidence, heard["a"].unweighted) == (0.2, 0.8)
    assert [one.label for one in detect(loaded, found)] == ["b", "a"], "most confident first"
    listed = listing(loaded, found, {"one": scores([0.8, 0.6])}, [False])
    assert listed.weights == (0.25, 1.0) and listed.windows[0].scores == (0.2, 0.6)
    assert listed.windows[0].members == {"one": {"a": 0.8, "b": 0.6}}


def test_without_a_date_the_years_highest_prior_stands(release_of: Make) -> None:
    """Nothing is lowered on a guess."""
    prior = np.full((WEEKS, 2), 0.1, np.float32)
    prior[7, 0] = 0.9
    found = fuse(release_of(prior=prior), {"one": scores([1.0, 1.0])}, [False], None)
    np.testing.assert_allclose(found.scores, [[0.9, 0.1]], rtol=1e-6)


def test_detections_merge_consecutive_windows(release_of: Make) -> None:
    """A run is one detection with its highest score; a gap makes two; a label's own threshold counts."""
    loaded = release_of(thresholds={"b": 0.9})
    rows = scores([0.6, 0.8], [0.7, 0.8], [0.1, 0.95], [0.5, 0.8])
    found = detect(loaded, fuse(loaded, {"one": rows}, [False] * 4, None))
    assert {(one.label, one.start_s, one.end_s, one.confidence, one.threshold) for one in found} == {
        ("a", 0.0, 10.0, 0.7, 0.5),
        ("a", 15.0, 20.0, 0.5, 0.5),
        ("b", 10.0, 15.0, 0.95, 0.9),
    }
    assert found[0].names.es == "Ñ b" and found[0].names.scientific == "S b"


@pytest.mark.parametrize("labels", [DENSE_LABELS, DENSE_LABELS + 1])
def test_many_labels_are_listed_by_their_floor(release_of: Make, labels: int) -> None:
    """Up to DENSE_LABELS all are listed; beyond, those that reach the floor in some window, with the floor stated."""
    names = [f"s{n:04d}" for n in range(labels)]
    loaded = release_of({"one": (names, 1.0, LOG_MEL)})
    rows = np.full((2, labels), SCORE_FLOOR / 2, np.float32)
    rows[0, 3], rows[1, 5] = 0.7, SCORE_FLOOR * 2
    found = Fused(rows, rows, None, loaded.thresholds, True)
    listed = listing(loaded, found, {"one": rows}, [False, False])
    if labels <= DENSE_LABELS:
        assert listed.labels == tuple(names) and listed.score_floor == 0.0
    else:
        assert listed.labels == ("s0003", "s0005") and listed.score_floor == SCORE_FLOOR
        assert [window.scores for window in listed.windows] == [(0.7, 0.0005), (0.0005, 0.002)]
    assert [(window.start_s, window.end_s) for window in listed.windows] == [(0.0, 5.0), (5.0, 10.0)]
    assert len(listed.windows[0].members["one"]) == 5 and listed.windows[0].members["one"]["s0003"] == 0.7


def telling(loaded: LoadedRelease, **events: tuple[str, ...]) -> LoadedRelease:
    """The same release, with sound events."""
    return LoadedRelease(loaded.folder, loaded.release.model_copy(update={"sound_events": events}), loaded.digest)


def test_a_voice_is_told_by_whoever_hears_it_most(release_of: Make) -> None:
    """The highest member score of its labels: no average with a member that is deaf to it, no prior, and listed whatever the floor."""
    prior = np.full((WEEKS, 3), 0.1, np.float32)
    members = {"own": (["talk", "frog"], 9.0, LOG_MEL), "birdnet": (["frog", "talk", "whistle"], 1.0, LOG_MEL)}
    loaded = telling(release_of(members, prior=prior), speech=("talk", "whistle"))
    said = {"own": scores([0.1, 0.9], [0.3, 0.0], [0.9, 0.9]), "birdnet": scores([0.9, 0.81234, 0.2], [0.0, 0.1, 0.2], [0.9, 0.9, 0.9])}
    silent = [False, False, True]
    listed = listing(loaded, fuse(loaded, said, silent, MAY), said, silent)
    assert [window.events for window in listed.windows] == [{"speech": 0.8123}, {"speech": 0.3}, {"speech": 0.0}]


def test_without_the_member_that_hears_voices_nobody_says_that_there_are_none(release_of: Make) -> None:
    """Left out, or one label of the event known to nobody who answered: the event is not told at all."""
    members = {"own": (["frog", "talk"], 1.0, LOG_MEL), "birdnet": (["whistle"], 1.0, LOG_MEL)}
    loaded = telling(release_of(members), speech=("talk", "whistle"))
    both = {"own": scores([0.1, 0.2]), "birdnet": scores([0.3])}
    assert sound_events(loaded, both, [False]).keys() == {"speech"}
    for present in both:
        assert sound_events(loaded, {present: both[present]}, [False]) == {}
    assert sound_events(telling(loaded, speech=()), both, [False]) == {}
    assert sound_events(telling(loaded, speech=("nobody's",)), both, [False]) == {}


def with_events(loaded: LoadedRelease, **changed: dict[str, object]) -> LoadedRelease:
    """The release with members and fields changed: by member's name what is changed of it, and `release` for its own."""
    own = changed.pop("release", {})
    members = tuple(one.model_copy(update=changed.get(one.name, {})) for one in loaded.release.members)
    return LoadedRelease(loaded.folder, loaded.release.model_copy(update={"members": members, **own}), loaded.digest)


def test_sound_events_of_a_member_are_told_and_never_fused(release_of: Make) -> None:
    """Its outputs after the labels'; an event that labels tell too is the loudest of both."""
    loaded = release_of({"bird": (["a", "human"], 1.0, LOG_MEL), "tagger": (["a"], 1.0, LOG_MEL)})
    loaded = with_events(loaded, tagger={"events": ("rain", "speech")}, release={"sound_events": {"speech": ("human",)}})
    members = {"bird": scores([0.2, 0.6]), "tagger": scores([0.4, 0.7, 0.3])}
    assert loaded.release.told_events == ("rain", "speech")
    told = sound_events(loaded, members, [False])
    assert {event: round(float(heard[0]), 4) for event, heard in told.items()} == {"rain": 0.7, "speech": 0.6}
    found = fuse(loaded, members, [False], None)
    np.testing.assert_allclose(found.scores, [[0.3, 0.6]], rtol=1e-6)
    assert listing(loaded, found, members, [False]).windows[0].members["tagger"] == {"a": 0.4}
    assert not sound_events(loaded, {"bird": members["bird"]}, [False]), "who hears rain and voices is away: nobody says that there is none"
    assert set(sound_events(loaded, {"tagger": members["tagger"]}, [False])) == {"rain"}, "half of what tells a voice is away"


def test_a_member_may_weigh_otherwise_for_a_taxon(release_of: Make) -> None:
    loaded = release_of({"one": (["a", "b"], 0.5, LOG_MEL), "two": (["a", "b"], 0.5, LOG_MEL)})
    labels = tuple(one.model_copy(update={"taxon": "Insecta" if one.label == "b" else "Aves"}) for one in loaded.release.labels)
    taxa = {"Insecta": 0.0}
    loaded = with_events(loaded, one={"weight_by_taxon": taxa}, two={"weight_by_taxon": {"Insecta": 1.0}}, release={"labels": labels})
    found = fuse(loaded, {"one": scores([0.8, 0.8]), "two": scores([0.2, 0.2])}, [False], None)
    np.testing.assert_allclose(found.scores, [[0.5, 0.2]], rtol=1e-6)


def test_thresholds_are_those_of_the_members_that_answered(release_of: Make) -> None:
    """Of two missing members nobody has chosen any: the answer says so."""
    given = {name: (["a"], 1.0, LOG_MEL) for name in ("one", "two", "three")}
    loaded = with_events(release_of(given, thresholds={"a": 0.5}), release={"thresholds_without": {"two": Thresholds(threshold=0.3)}})
    heard = {name: scores([0.4]) for name in given}

    def named(*missing: str) -> tuple[bool, bool]:
        found = fuse(loaded, {name: said for name, said in heard.items() if name not in missing}, [False], None)
        return bool(detect(loaded, found)), found.calibrated

    assert [named(), named("two"), named("one"), named("one", "two")] == [(False, True), (True, True), (False, False), (False, False)]


def test_a_calibrated_release_says_what_its_scores_are_worth(release_of: Make) -> None:
    """A silent window names nothing all the same."""
    loaded = release_of({"one": (["a"], 1.0, LOG_MEL)})
    loaded = with_events(loaded, release={"calibration": Calibration(intercept=2.0)})
    found = fuse(loaded, {"one": scores([0.5], [0.5])}, [False, True], None)
    assert found.scores[0, 0] == pytest.approx(1 / (1 + np.exp(-2.0)), rel=1e-4) and found.scores[1, 0] == 0.0
