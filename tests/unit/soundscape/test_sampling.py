"""What is sampled, where in the clip, and what is not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from soundscape.event import NAMESPACE
from soundscape.events import ClipAnalysed, Detection, Names, Place, Stages, Window
from soundscape.release import load_release, write_release
from soundscape.sampling import (
    CONFIDENT,
    MARGIN,
    Measure,
    Wanted,
    disagreement,
    flagged,
    part,
    private,
    random_window,
    rare_species,
    tells_speech,
    uncertain,
    unit,
    wanted,
)  # fmt: skip
from soundscape.settings import Settings
from soundscape.testing import tone_release

NOW = datetime(2026, 11, 25, tzinfo=UTC)
IDS = [uuid5(NAMESPACE, f"clip {n}") for n in range(10_000)]
MEASURE = Measure({"ant": 0.5, "bat": 0.3, "cat": 0.1}, {"own": frozenset({"ant", "bat"}), "birdnet": frozenset({"ant", "bat", "cat"})})
WINDOW_SCORE = st.floats(0, 1)


def answer(*rows: list[float], **fields: Any) -> ClipAnalysed:
    """An answer with these scores of `ant`, `bat` and `cat`, a row a window; `events`, `members` and `silent` a window each."""
    told, members, silent = (fields.pop(name, [{}] * len(rows)) for name in ("events", "members", "silent"))
    windows = [
        Window(start_s=5.0 * n, end_s=5.0 * n + 5, scores=tuple(row), events=told[n], members=members[n], silent=bool(silent[n]))
        for n, row in enumerate(rows)
    ]
    base: dict[str, Any] = {
        "clip_id": IDS[0], "stream": "tour", "site": "s", "place": Place(topic="clips", partition=0, offset=0), "release": "r",
        "release_digest": "0" * 64, "generation": 1, "feature_fingerprints": (), "labels": ("ant", "bat", "cat"), "windows": windows,
        "detections": (), "stages": Stages(published=NOW, received=NOW, decoded=NOW, features=NOW, inferred=NOW, predicted=NOW),
    }  # fmt: skip
    return ClipAnalysed.model_validate(base | fields)


def detection(label: str, start_s: float, end_s: float) -> Detection:
    """A species heard in a run of windows."""
    names = Names(scientific=label, en=label, es=label)
    return Detection(
        label=label, names=names, taxon="Aves", confidence=0.9, unweighted=0.9, threshold=0.5, start_s=start_s, end_s=end_s
    )


def voices(*scores: float) -> ClipAnalysed:
    """An answer that tells voices, a score a window."""
    return answer(*([0.0, 0.0, 0.0] for _ in scores), events=[{"speech": score} for score in scores])


def test_the_random_share_of_ten_thousand_clips_and_the_same_on_a_second_pass() -> None:
    """Within the 99.9 % interval of its binomial, by id as UUID or text; raising the rate only adds clips."""
    chosen = {one for one in IDS if unit(one) < 0.05}
    low, high = binom.interval(0.999, len(IDS), 0.05)
    assert low <= len(chosen) <= high
    assert chosen == {one for one in reversed(IDS) if unit(str(one)) < 0.05}
    assert chosen < {one for one in IDS if unit(one) < 0.06}
    assert {UUID(str(one)) for one in chosen} == chosen


def test_the_decision_on_ten_thousand_answers_is_the_share_and_the_same_on_replay() -> None:
    """What the sampler asks: the random reason, of clips that give no other, with its window; whatever the answer says beside the id."""
    of = answer([0.0, 0.0, 0.0], [0.0, 0.0, 0.0])
    rate = Settings.model_fields["sample_rate"].default

    def decided(ids: list[UUID], rate: float, **changes: Any) -> dict[UUID, Wanted]:
        found = ((one, wanted(of.model_copy(update={"clip_id": one, **changes}), rate, MEASURE, lambda label: False)) for one in ids)
        return {one: wants[0] for one, wants in found if wants}

    first = decided(IDS, rate)
    assert rate == 0.05 and {one.reason for one in first.values()} == {"random"}
    low, high = binom.interval(0.999, len(IDS), rate)
    assert low <= len(first) <= high
    later = {"release": "r2", "stream": "another", "generation": 9, "place": Place(topic="clips", partition=7, offset=99)}
    assert decided(IDS[::-1], rate, **later) == first
    assert decided(IDS, rate + 0.01).items() > first.items()
    assert decided(IDS, 0.0) == {} and len(decided(IDS, 1.0)) == len(IDS)


def test_every_window_of_a_recording_is_drawn_as_often_as_another() -> None:
    """Also among the clips that were drawn: the window comes from another part of the hash than the clip."""
    drawn = [random_window(one, 12) for one in IDS if unit(one) < 0.5]
    low, high = binom.interval(0.9999, len(drawn), 1 / 12)
    assert all(low <= drawn.count(n) <= high for n in range(12))
    assert drawn == [random_window(str(one), 12) for one in IDS if unit(one) < 0.5]


@given(st.uuids(), st.integers(1, 40))
def test_a_clip_stands_in_the_unit_interval_and_its_window_in_the_clip(clip_id: UUID, windows: int) -> None:
    assert 0.0 <= unit(clip_id) < 1.0
    assert 0 <= random_window(clip_id, windows) < windows


def test_uncertain_is_the_score_nearest_its_own_threshold() -> None:
    """Before place and week lowered it, since that is what the threshold met."""
    found = uncertain(answer([0.95, 0.0, 0.0], [0.45, 0.34, 0.0]), MEASURE)
    assert found is not None and (found.reason, found.window) == ("uncertain", 1) and found.margin == pytest.approx(0.04)
    lowered = uncertain(answer([0.24, 0.0, 0.0], weights=(0.5, 1.0, 1.0)), MEASURE)
    assert lowered is not None and lowered.margin == pytest.approx(0.02)
    assert uncertain(answer([0.48, 0.0, 0.0], weights=(0.5, 1.0, 1.0)), MEASURE) is None


def test_far_from_the_threshold_is_certain() -> None:
    """So is silence, a score of 0 under a low threshold, a label that the release does not have, and a clip without labels."""
    assert uncertain(answer([0.51 + MARGIN, 0.29 - MARGIN, 0.0], [0.0, 1.0, 1.0]), MEASURE) is None
    assert uncertain(answer([0.5, 0.3, 0.1], silent=[True]), MEASURE) is None
    assert uncertain(answer([0.5, 0.3, 0.1], labels=("x", "y", "z")), MEASURE) is None
    assert uncertain(answer([], labels=()), MEASURE) is None
    assert uncertain(answer([0.0, 0.0, 0.0], weights=(0.0, 0.0, 0.0)), MEASURE) is None


def test_members_disagree_where_each_names_what_the_other_doubts() -> None:
    own, birdnet = {"ant": 0.8, "bat": 0.1}, {"bat": 0.7, "ant": 0.2}
    members = [{"own": {"ant": 0.6}, "birdnet": {"bat": 0.55}}, {"own": own, "birdnet": birdnet}]
    assert disagreement(answer([0, 0, 0], [0, 0, 0], members=members), MEASURE) == Wanted("disagreement", 1)


@pytest.mark.parametrize(
    "members",
    [
        {"own": {"ant": 0.8}},
        {"own": {"ant": 0.8}, "birdnet": {"ant": 0.7, "bat": 0.6}},
        {"own": {"ant": 0.8}, "birdnet": {"bat": CONFIDENT - 0.01}},
        {"own": {"ant": 0.8, "bat": 0.6}, "birdnet": {"bat": 0.7}},
        {"own": {"ant": 0.8}, "birdnet": {"cat": 0.9}},
        {"own": {"ant": 0.8}, "stranger": {"bat": 0.9}},
    ],
    ids=["one alone", "the same first", "one not confident", "both hear both", "a species the other does not know", "not of the release"],
)
def test_members_agree(members: dict[str, dict[str, float]]) -> None:
    assert disagreement(answer([0, 0, 0], members=[members]), MEASURE) is None


def test_a_rare_species_is_heard_where_it_is_clearest() -> None:
    of = answer(
        [0.9, 0.0, 0.0], [0.0, 0.4, 0.0], [0.0, 0.8, 0.0], [0.0, 0.9, 0.0],
        detections=(detection("ant", 0.0, 5.0), detection("bat", 5.0, 15.0)),
    )  # fmt: skip
    assert rare_species(of, lambda label: label == "bat") == Wanted("rare", 2)
    assert rare_species(of, lambda label: label == "cat") is None


def test_a_flag_points_at_what_was_judged() -> None:
    """Else at what was heard most; an answer that lists no label at all is flagged all the same."""
    of = answer([0.9, 0.1, 0.0], [0.2, 0.8, 0.0])
    assert flagged(of, ("bat",)) == Wanted("flagged", 1)
    assert flagged(of, ()) == flagged(of, ("zebra",)) == Wanted("flagged", 0)
    assert flagged(answer([], labels=()), ()) == Wanted("flagged", 0)


def test_all_reasons_of_an_answer_random_first() -> None:
    of = answer([0.48, 0.0, 0.0], detections=(detection("bat", 0.0, 5.0),))
    assert [one.reason for one in wanted(of, 1.0, MEASURE, lambda label: True)] == ["random", "uncertain", "rare"]
    assert [one.reason for one in wanted(of, 0.0, None, lambda label: False)] == []


def test_a_release_is_read_by_its_own_thresholds(tmp_path: Path) -> None:
    """Labels of a sound event are no species: nobody is asked whether a voice was one."""
    tone_release(tmp_path, "tones")
    release = load_release(tmp_path).release
    changed = {"thresholds": {"low": 0.25}, "sound_events": {"speech": ("top",)}, "metrics": {"rare": ["low"]}}
    measure = Measure.of(write_release(tmp_path, release.model_copy(update=changed)))
    assert measure.thresholds == {"low": 0.25, "mid": 0.5}
    assert measure.knows == {"tones": frozenset({"low", "mid"})}
    assert measure.rare == {"low"}
    assert Measure.of(write_release(tmp_path, release.model_copy(update={"metrics": {"rare": 0.4}}))).rare == frozenset()


def test_a_voice_takes_its_neighbours_with_it() -> None:
    assert private(voices(0.0, 0.0, 0.1, 0.0, 0.0, 0.09), 0.1) == {1, 2, 3}
    assert private(voices(0.5), 0.1) == {0}
    assert private(voices(0.05, 0.05), 0.1) == frozenset()


def test_who_cannot_tell_a_voice_says_so() -> None:
    """A window without a word among windows that have one counts as a voice."""
    assert not tells_speech(answer([0.0, 0.0, 0.0])) and tells_speech(voices(0.0))
    assert private(answer([0.0, 0.0, 0.0]), 0.1) == frozenset()
    mixed = answer([0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], events=[{"speech": 0.0}, {"speech": 0.0}, {"speech": 0.0}, {"animal": 0.9}])
    assert private(mixed, 0.1) == {2, 3}


def test_a_window_is_heard_with_its_neighbours() -> None:
    """At most 15 s; a random one alone, since what is beside it was not drawn; a guide's 5 s whole."""
    assert part(Wanted("uncertain", 5), 12, ()) == (4, 7)
    assert part(Wanted("uncertain", 0), 12, ()) == (0, 2)
    assert part(Wanted("flagged", 11), 12, ()) == (10, 12)
    assert part(Wanted("random", 5), 12, ()) == (5, 6)
    assert part(Wanted("flagged", 0), 1, ()) == part(Wanted("random", 0), 1, ()) == (0, 1)


@given(st.lists(WINDOW_SCORE, min_size=1, max_size=36), st.data(), st.sampled_from(["random", "flagged", "uncertain"]))
def test_no_voice_and_no_neighbour_of_one_is_ever_heard(scores: list[float], data: st.DataObject, reason: Any) -> None:
    """Whatever the window in question; and what may be heard around it is."""
    window = data.draw(st.integers(0, len(scores) - 1))
    withheld = private(voices(*scores), 0.1)
    found = part(Wanted(reason, window), len(scores), withheld)
    if found is None:
        assert max(scores[max(0, window - 1) : window + 2]) >= 0.1
    else:
        first, end = found
        assert first <= window < end and 1 <= end - first <= 3
        assert max(scores[max(0, first - 1) : end + 1]) < 0.1
