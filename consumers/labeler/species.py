"""The species that a site's labelers may name, found by any of their names: those of its champion release."""

from __future__ import annotations

import logging
import threading
import unicodedata
from collections.abc import Iterable

from consumers.follow import Follower, Pulse, persist, read
from consumers.labeler.shelf import PROCESS
from soundscape.deployments import read_states
from soundscape.errors import Invalid, Unavailable
from soundscape.events import ReleaseRef, SiteDeployed
from soundscape.release import named_release
from soundscape.settings import Settings
from soundscape.taxonomy import Species
from soundscape.topics import DEPLOYMENTS

log = logging.getLogger(__name__)

SHOWN = 20
"""Species that a search returns at most."""


class SpeciesList:
    """Species in an order, searched without regard to accents and case."""

    def __init__(self, species: Iterable[Species]) -> None:
        self.by_label = {one.label: one for one in species}
        self._names = {
            label: tuple(plain(name) for name in (one.en, one.es, one.scientific, one.label)) for label, one in self.by_label.items()
        }

    def search(self, text: str) -> list[Species]:
        """The best SHOWN: a name that begins with the text, then one with a word that does, then one that holds it; shorter names first.

        Several words must all be there, in any name or order.
        """
        words = plain(text).split()
        ranked = []
        for label, names in self._names.items():
            if all(any(word in name for name in names) for word in words):
                ranked.append((min(_rank(name, " ".join(words)) for name in names), label))
        return [self.by_label[label] for _, label in sorted(ranked)[:SHOWN]]

    def exact(self, text: str) -> str | None:
        """The label that this label or name means, if it is one species'."""
        if text in self.by_label:
            return text
        wanted = plain(text)
        found = [label for label, names in self._names.items() if wanted in names]
        return found[0] if len(found) == 1 else None


def _rank(name: str, text: str) -> tuple[int, int]:
    if name.startswith(text):
        return 0, len(name)
    if f" {text}" in name or f"-{text}" in name:
        return 1, len(name)
    return (2 if text in name else 3), len(name)


def plain(text: str) -> str:
    """The text without accents, case, and needless space."""
    bare = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return " ".join(bare.casefold().split())


class SiteSpecies:
    """The lists of all sites, by a thread of its own that follows the deployments."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lists: dict[str, tuple[ReleaseRef, SpeciesList]] = {}
        self._positions: dict[str, int] = {}

    def of(self, site: str) -> SpeciesList:
        """The list of a site. Raises Unavailable where it has no release yet."""
        if site not in self._lists:
            raise Unavailable(f"Site {site!r} has no release whose species could be named; `soundscape deploy` gives it one.")
        return self._lists[site][1]

    def take(self, state: SiteDeployed) -> None:
        """Know a site's state. A release that cannot be read leaves the list as it was."""
        known = self._lists.get(state.site)
        if known is not None and known[0] == state.champion:
            return
        try:
            release = named_release(self._settings.releases, state.champion.name, state.champion.digest).release
        except Invalid as error:
            log.warning("The species of %s stay as they were: %s", state.site, error)
            return
        self._lists[state.site] = (state.champion, SpeciesList(release.labels))

    def refresh(self) -> None:
        """Know the states that are in force now, once. Raises Unavailable."""
        for state in read_states(self._settings, PROCESS).values():
            self.take(state)

    def start(self) -> None:
        """Follow from now on."""
        threading.Thread(target=persist, args=(self._follow, Pulse()), name="species", daemon=True).start()

    def _follow(self) -> None:
        with Follower(self._settings, PROCESS, (DEPLOYMENTS,)) as follower:
            follower.seek(self._positions)
            while True:
                for part, records in follower.batches():
                    for record in records:
                        if record.value is not None and (state := read(PROCESS, SiteDeployed, record)) is not None:
                            self.take(state)
                    self._positions[part] = records[-1].offset + 1
                follower.measure()
