"""The species of each site's champion: a new release brings its own, a spoilt one changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from consumers.labeler.species import SHOWN, SiteSpecies, SpeciesList
from soundscape.errors import Unavailable
from soundscape.events import ReleaseRef, SiteDeployed
from soundscape.release import RELEASE_FILE
from soundscape.settings import Settings
from soundscape.taxonomy import Species
from soundscape.testing import tone_release


def deployed(name: str, digest: str) -> SiteDeployed:
    """The state of site s."""
    champion = ReleaseRef(name=name, digest=digest)
    return SiteDeployed(site="s", generation=1, champion=champion, reason="test", actor="test", at=datetime(2026, 3, 1, tzinfo=UTC))


def test_the_champions_species_stay_until_another_release_holds(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    digest = tone_release(settings.releases / "tones", "tones").digest
    species = SiteSpecies(settings)
    with pytest.raises(Unavailable, match="soundscape deploy"):
        species.of("s")
    species.take(deployed("tones", digest))
    first = species.of("s")
    assert sorted(first.by_label) == ["low", "mid", "top"]
    species.take(deployed("tones", digest))
    assert species.of("s") is first, "an unchanged release is not read again"
    species.take(deployed("gone", "0" * 64))
    assert species.of("s") is first
    other = tone_release(settings.releases / "others", "others").digest
    (settings.releases / "others" / RELEASE_FILE).write_text("{}")
    species.take(deployed("others", other))
    assert species.of("s") is first
    third = tone_release(settings.releases / "third", "third").digest
    species.take(deployed("third", third))
    assert species.of("s") is not first


def test_the_best_names_come_first_and_no_more_than_a_page_of_them() -> None:
    names = ["Wood Owl", "Owl", "Owlet-nightjar", "Bowl Frog"]
    found = SpeciesList(Species(label=f"l{n}", scientific=f"s{n}", en=name, es=f"e{n}", taxon="Aves") for n, name in enumerate(names))
    assert [one.en for one in found.search("owl")] == ["Owl", "Owlet-nightjar", "Wood Owl", "Bowl Frog"]
    many = SpeciesList(Species(label=f"{n:03d}", scientific="x", en=f"Bird {n}", es="x", taxon="Aves") for n in range(100))
    assert len(many.search("bird")) == SHOWN


def test_a_name_that_means_two_species_means_none() -> None:
    two = SpeciesList(Species(label=label, scientific=label * 2, en="Frog", es=f"Rana {label}", taxon="Amphibia") for label in "ab")
    assert two.exact("frog") is None
    assert (two.exact("rana A"), two.exact("b"), two.exact("AA")) == ("a", "b", "a")
