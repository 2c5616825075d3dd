"""What a site's state may become, and what is refused."""

from __future__ import annotations

import pytest

from consumers.transitions import ALARM, ROLLED_BACK, deployed, offered, promoted, rolled_back, shared
from soundscape.errors import Invalid
from soundscape.events import ReleaseRef, SiteDeployed

OLD, NEW, OTHER = (ReleaseRef(name=name, digest=name * 2) for name in ("old", "new", "other"))


@pytest.fixture
def site() -> SiteDeployed:
    """With a champion."""
    return deployed(None, "here", OLD, "ana")


def test_the_whole_way(site: SiteDeployed) -> None:
    shadow = offered(site, "here", NEW, "ana")
    assert (shadow.generation, shadow.stage, shadow.share, shadow.champion, shadow.candidate) == (2, "shadow", 0.0, OLD, NEW)
    small = shared(shadow, 0.2, "ana")
    large = shared(small, 0.5, "ana")
    assert (large.generation, large.stage, large.share, large.since) == (4, "canary", 0.5, shadow.since)
    assert [one.share for one in large.shares] == [0.2, 0.5] and [one.since for one in large.shares] == [small.at, large.at]
    after = promoted(large, "ana", "by command")
    assert after.shares == () and offered(after, "here", OTHER, "ana").shares == ()
    assert (after.champion, after.previous, after.candidate, after.stage, after.share) == (NEW, OLD, None, "champion", 0.0)
    back = rolled_back(after, "ana", "by command")
    assert (back.champion, back.previous, back.generation) == (OLD, None, 6)
    with pytest.raises(Invalid, match="neither a candidate nor a previous champion"):
        rolled_back(back, "ana", "said once more, it would bring back what was rolled back")


def test_the_shares_of_a_canary_of_before_they_were_kept_begin_with_its_own(site: SiteDeployed) -> None:
    old = shared(offered(site, "here", NEW, "ana"), 0.2, "ana").model_copy(update={"shares": ()})
    first, second = shared(old, 0.5, "ana").shares
    assert (first.share, first.since, second.share) == (0.2, old.at, 0.5)


def test_a_rollback_drops_the_candidate_and_nothing_else(site: SiteDeployed) -> None:
    after = rolled_back(shared(offered(site, "here", NEW, "ana"), 0.2, "ana"), "deployer", "alarm")
    assert (after.champion, after.candidate, after.stage, after.share, after.reason) == (OLD, None, "champion", 0.0, "alarm")


def test_a_deployment_drops_the_candidate_too(site: SiteDeployed) -> None:
    after = deployed(offered(site, "here", NEW, "ana"), "here", OTHER, "ana")
    assert (after.champion, after.previous, after.candidate, after.stage) == (OTHER, OLD, None, "champion")


def test_two_candidates_at_once(site: SiteDeployed) -> None:
    with pytest.raises(Invalid, match="has the candidate new already"):
        offered(offered(site, "here", NEW, "ana"), "here", OTHER, "ana")


def test_what_makes_no_sense(site: SiteDeployed) -> None:
    with pytest.raises(Invalid, match="no champion"):
        offered(None, "here", NEW, "ana")
    with pytest.raises(Invalid, match="is the champion"):
        offered(site, "here", OLD, "ana")
    for share in (0.0, -0.1, 1.1, float("nan")):
        with pytest.raises(Invalid, match="share"):
            shared(offered(site, "here", NEW, "ana"), share, "ana")
    with pytest.raises(Invalid, match="no candidate"):
        shared(site, 0.2, "ana")
    with pytest.raises(Invalid, match="no candidate"):
        promoted(site, "ana", "")
    with pytest.raises(Invalid, match="neither a candidate nor a previous"):
        rolled_back(site, "ana", "")


@pytest.mark.parametrize("reason", [ROLLED_BACK, f"{ALARM}errors) after 10 canary clips"])
def test_a_rollback_said_twice_does_not_take_the_champion_too(site: SiteDeployed, reason: str) -> None:
    """Its answer may have been lost, or the alarm was quicker; who names the generation that was seen means it."""
    champion = promoted(offered(site, "here", NEW, "ana"), "ana", "by command")
    dropped = rolled_back(offered(champion, "here", OTHER, "ana"), "ana", reason)
    with pytest.raises(Invalid, match=f"say --generation {dropped.generation}"):
        rolled_back(dropped, "ana", ROLLED_BACK)
    assert rolled_back(dropped, "ana", ROLLED_BACK, dropped.generation).champion == OLD
