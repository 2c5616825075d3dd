"""Which species a dataset may name: those of the releases that serve the sites."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import NamedTuple

from soundscape.deployments import read_states
from soundscape.errors import Invalid, Reason
from soundscape.release import RELEASE_FILE, LoadedRelease, named_release
from soundscape.settings import Settings
from soundscape.taxonomy import Species

log = logging.getLogger(__name__)


class Names(NamedTuple):
    """Species by label, and the labels that the taxonomy lists whether a row names them or not: those of the champions."""

    species: dict[str, Species]
    listed: set[str]


def read_names(settings: Settings, site: str | None) -> Names:
    """The species of the champion, the candidate and the previous release of a site, or of all; where none is deployed, of every release.

    The champion's word counts where two releases write a name otherwise. Raises Invalid if there is no release, Unavailable without a
    broker.
    """
    states = [state for state in read_states(settings).values() if site in (None, state.site)]
    champions = _loaded(settings, (state.champion.name for state in states))
    others = _loaded(settings, (one.name for state in states for one in (state.candidate, state.previous) if one))
    if not champions:
        champions = _loaded(settings, sorted(path.parent.name for path in settings.releases.glob(f"*/{RELEASE_FILE}")))
    if not champions:
        raise Invalid(Reason.BAD_REQUEST, "No release says which species there are; deploy one first.")
    species = {one.label: one for loaded in (*others, *champions) for one in loaded.release.labels}
    return Names(species, {label for loaded in champions for label in loaded.label_names})


def _loaded(settings: Settings, names: Iterable[str]) -> list[LoadedRelease]:
    """What is here and whole of these releases."""
    found = []
    for name in dict.fromkeys(names):
        try:
            found.append(named_release(settings.releases, name))
        except Invalid as error:
            log.warning("The species of release %s are not counted: %s", name, error)
    return found
