"""Which release answers a clip, and which one answers beside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from soundscape.errors import Invalid
from soundscape.events import ReleaseRef, Share, SiteDeployed
from soundscape.release import load_release
from soundscape.settings import Settings
from soundscape.testing import ogg, tone_release
from soundscape.testing_log import clip
from stream_processors.sites import Sites


@pytest.fixture
async def sites(tmp_path: Path) -> Sites:
    """Site `test` with a champion and a candidate on every stream."""
    settings = Settings(data_dir=tmp_path)
    made = Sites(settings, "test")
    refs = {name: ReleaseRef(name=name, digest=tone_release(settings.releases / name, name).digest) for name in ("old", "new")}
    await made._apply(state(refs, generation=1))
    return made


def state(refs: dict[str, ReleaseRef], **changes: Any) -> SiteDeployed:
    """A site whose candidate answers all streams."""
    fields: dict[str, Any] = {
        "site": "test", "champion": refs["old"], "candidate": refs["new"], "stage": "canary", "share": 1.0,
        "reason": "", "actor": "ana", "at": datetime.now(UTC),
    }  # fmt: skip
    return SiteDeployed.model_validate(fields | changes)


def answering(sites: Sites, **changes: Any) -> tuple[str, str | None]:
    """(who answers, who answers beside) a clip."""
    event = clip(ogg(), **changes)
    beside = sites.shadow(event)
    return sites.serving(event).loaded.release.name, beside and beside.loaded.release.name


async def test_the_candidate_answers_and_the_champion_beside(sites: Sites) -> None:
    assert answering(sites) == ("new", "old")


async def test_a_tour_that_was_under_way_stays_with_the_champion(sites: Sites) -> None:
    """And the candidate answers beside."""
    now = datetime.now(UTC)
    before = sites._sites["test"].state
    await sites._apply(before.model_copy(update={"generation": 2, "shares": (Share(share=1.0, since=now),)}))
    assert answering(sites, tour_started_at=now - timedelta(seconds=1)) == ("old", "new")
    assert answering(sites, tour_started_at=now) == ("new", "old")
    assert answering(sites) == ("new", "old"), "a stream of which no start is known"


async def test_the_candidate_is_seen_by_nobody_in_the_shadow(sites: Sites) -> None:
    before = sites._sites["test"].state
    await sites._apply(before.model_copy(update={"stage": "shadow", "share": 0.0, "generation": 2}))
    assert answering(sites) == ("old", "new")
    await sites._apply(before.model_copy(update={"stage": "champion", "candidate": None, "generation": 3}))
    assert answering(sites) == ("old", None)


async def test_a_probe_asks_the_champion_alone(sites: Sites) -> None:
    assert answering(sites, probe=True) == ("old", None)


async def test_a_candidate_that_does_not_take_the_features_leaves_the_clip_to_the_champion(sites: Sites) -> None:
    """Log-mels of the champion's spec alone; and a candidate whose folder was changed after it was deployed."""
    event = clip(ogg()).model_copy(update={"feature_fingerprint": "0123456789abcdef", "content_type": "application/x-npy"})
    assert sites.serving(event).loaded.release.name == "old"
    before = sites._sites["test"].state
    gone = ReleaseRef(name="new", digest="0" * 64)
    await sites._apply(before.model_copy(update={"candidate": gone, "generation": 2}))
    assert answering(sites) == ("old", None)


async def test_the_models_that_may_be_asked_are_those_of_the_releases_in_force(sites: Sites) -> None:
    """A candidate's until it is gone; a sick one is watched for no longer."""
    names = {one: load_release(sites._settings.releases / one).release.members[0].triton_name for one in ("old", "new")}
    assert sites.models == set(names.values())
    before = sites._sites["test"].state
    await sites._apply(before.model_copy(update={"stage": "champion", "candidate": None, "generation": 2}))
    assert sites.models == {names["old"]}


async def test_a_site_without_a_release(sites: Sites) -> None:
    with pytest.raises(Invalid, match="No release is deployed"):
        answering(sites, site="elsewhere")


async def test_a_release_that_cannot_be_read_is_its_own_sites_trouble_alone(sites: Sites) -> None:
    """What the topic says of other sites is taken in all the same; the site itself is refused with the reason."""
    (sites._settings.releases / "broken").touch()
    refs = {"old": ReleaseRef(name="broken", digest="0" * 64), "new": ReleaseRef(name="broken", digest="1" * 64)}
    await sites._apply(state(refs, site="broken", generation=1))
    assert sites.generations == {"test": 1, "broken": 1}
    with pytest.raises(Invalid, match="cannot be read"):
        answering(sites, site="broken")
    assert answering(sites) == ("new", "old")
