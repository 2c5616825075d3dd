"""The species that a site's labelers may name, found by any of their names: those of its champion release."""

from __future__ import annotations

import logging
import threading
import time
import unicodedata
from collections.abc import Iterable

from soundscape.deployments import read_states
from soundscape.errors import Invalid, Unavailable
from soundscape.events import ReleaseRef
from soundscape.release import load_release
from soundscape.settings import Settings
from soundscape.taxonomy import Species

log = logging.getLogger(__name__)

REFRESH_S = 60.0
"""Seconds between two looks at the deployments."""
RETRY_S = 2.0
"""At least so many, while they could not be read or somebody waits for a site."""
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
    """The lists of all sites, refreshed by a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lists: dict[str, tuple[ReleaseRef, SpeciesList]] = {}
        self._asked = threading.Event()
        """Set when somebody asked for a site that is not known: it may have been deployed just now."""

    def of(self, site: str) -> SpeciesList:
        """The list of a site. Raises Unavailable where it has no release yet."""
        if site not in self._lists:
            self._asked.set()
            raise Unavailable(f"Site {site!r} has no release whose species could be named; `soundscape deploy` gives it one.")
        return self._lists[site][1]

    def refresh(self) -> None:
        """Read the deployments, and the releases that are new. Raises Unavailable."""
        lists = {}
        for site, state in read_states(self._settings, "labeler").items():
            known = self._lists.get(site)
            if known is not None and known[0] == state.champion:
                lists[site] = known
                continue
            try:
                release = load_release(self._settings.releases / state.champion.name, state.champion.digest).release
            except Invalid as error:
                log.warning("The species of %s stay as they were: %s", site, error)
                if known is not None:
                    lists[site] = known
                continue
            lists[site] = (state.champion, SpeciesList(release.labels))
        self._lists = lists

    def start(self) -> None:
        """Refresh from now on."""
        threading.Thread(target=self._refresh_for_ever, name="species", daemon=True).start()

    def _refresh_for_ever(self) -> None:
        while True:
            try:
                self.refresh()
            except Unavailable as error:
                log.warning("%s", error)
                self._asked.set()
            time.sleep(RETRY_S)
            self._asked.wait(REFRESH_S)
            self._asked.clear()
