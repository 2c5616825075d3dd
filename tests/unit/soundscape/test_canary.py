"""Who answers a stream while a candidate earns its place."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from soundscape.canary import role_of, unit
from soundscape.events import ReleaseRef, Share, SiteDeployed

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
STREAMS = [f"tour-{n}" for n in range(2000)]


def state(**changes: Any) -> SiteDeployed:
    """A site with a candidate on a share of its streams."""
    fields: dict[str, Any] = {
        "site": "here", "generation": 3, "champion": ReleaseRef(name="a", digest="aa"), "candidate": ReleaseRef(name="b", digest="bb"),
        "stage": "canary", "share": 0.2, "reason": "", "actor": "ana", "at": datetime.now(UTC),
    }  # fmt: skip
    return SiteDeployed.model_validate(fields | changes)


def on_canary(one: SiteDeployed) -> set[str]:
    """The streams that its candidate answers."""
    return {stream for stream in STREAMS if role_of(one, stream) == "canary"}


@given(st.floats(0, 1), st.floats(0, 1))
def test_raising_the_share_only_adds_streams(low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert on_canary(state(share=low)) <= on_canary(state(share=high))


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=6), st.integers(-1, 6))
def test_a_tour_has_one_release_whatever_becomes_of_the_share(shares: list[float], began: int) -> None:
    """From its start on, raised or lowered; one that began before the canary is the champion's."""
    start = NOON + timedelta(minutes=10 * began + 5)
    seen = set()
    for n in range(1, len(shares) + 1):
        steps = tuple(Share(share=one, since=NOON + timedelta(minutes=10 * m)) for m, one in enumerate(shares[:n]))
        now = state(share=shares[n - 1], shares=steps)
        if n > began:  # before it has begun nobody asks
            seen.add(role_of(now, "tour-1", start))
    assert len(seen) <= 1
    if began < 0:
        assert seen == {"champion"}


def test_a_stream_of_which_no_start_is_known_has_the_share_of_now() -> None:
    steps = (Share(share=0.01, since=NOON), Share(share=1.0, since=NOON + timedelta(hours=1)))
    now = state(share=1.0, shares=steps)
    assert role_of(now, "tour-1") == "canary"
    assert role_of(now, "tour-1", NOON + timedelta(minutes=59)) == "champion" and unit("tour-1", "bb") > 0.01
    assert role_of(now, "tour-1", NOON + timedelta(hours=1)) == "canary"
    assert role_of(state(share=1.0), "tour-1", NOON) == "canary", "a state of before shares were kept"


def test_the_share_is_a_share() -> None:
    assert on_canary(state(share=0.0)) == set() and on_canary(state(share=1.0)) == set(STREAMS)
    assert 0.16 < len(on_canary(state())) / len(STREAMS) < 0.24  # 4.5 standard deviations of a binomial


def test_another_candidate_meets_other_streams() -> None:
    other = state(candidate=ReleaseRef(name="c", digest="cc"))
    assert on_canary(other) != on_canary(state()) and unit("tour-1", "bb") != unit("tour-1", "cc")


def test_nobody_but_a_canary_answers_in_the_champions_place() -> None:
    assert on_canary(state(stage="shadow", share=1.0)) == set() and on_canary(state(candidate=None)) == set()
