"""Which release serves which site, as the gateway knows it: the `deployments` topic and the release folders."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from producers.gateway.problems import Problem
from soundscape.errors import Invalid, Reason
from soundscape.events import SiteDeployed
from soundscape.metrics import GENERATION, UNREADABLE
from soundscape.release import LoadedRelease, Release, load_release
from soundscape.settings import Settings
from soundscape.wire import decode

log = logging.getLogger(__name__)


OTHERS = 4
"""Releases beside the champions that are kept at hand: a candidate's, and those that answered lately."""


class Sites:
    """The champions in force; fed by a Follower of `deployments` from its beginning."""

    def __init__(self, settings: Settings) -> None:
        self._releases = settings.releases
        self._others: dict[str, LoadedRelease] = {}
        """By digest, the latest last."""
        self._sites: dict[str, tuple[SiteDeployed, LoadedRelease | Invalid]] = {}

    async def apply(self, record: Any) -> None:
        """Take in one record of `deployments`; the release is read beside the work that goes on."""
        if record.value is None:
            return
        try:
            state = decode(SiteDeployed, record.headers, record.value)
        except Invalid as error:
            log.warning("skipping deployments:%d: %s", record.offset, error)
            UNREADABLE.labels("gateway", record.topic).inc()
            return
        if state.site in self._sites and state.generation <= self._sites[state.site][0].generation:
            return
        loaded: LoadedRelease | Invalid
        try:
            loaded = await asyncio.to_thread(load_release, self._releases / state.champion.name, state.champion.digest)
        except Invalid as error:
            log.error("site %s: %s", state.site, error)
            loaded = error
        self._sites[state.site] = state, loaded
        GENERATION.labels("gateway", state.site).set(state.generation)

    def require(self, site: str) -> None:
        """Raise Problem (503, no-release) for a site that nothing is deployed to."""
        if site not in self._sites:
            raise Problem(
                503,
                str(Reason.NO_RELEASE),
                f"No release is deployed for site {site!r}; deploy one with `soundscape deploy RELEASE --site {site}`, or name "
                "another site.",
            )

    def release(self, site: str) -> Release:
        """The site's champion. Raises Problem (503, no-release); Invalid (release-invalid)."""
        self.require(site)
        loaded = self._sites[site][1]
        if isinstance(loaded, Invalid):
            raise loaded
        return loaded.release

    async def named(self, site: str, name: str, digest: str) -> LoadedRelease | None:
        """The release that answered a clip of the site, whichever it was; None if it is not here any more, or was changed."""
        champion = self._sites[site][1] if site in self._sites else None
        if isinstance(champion, LoadedRelease) and champion.digest == digest:
            return champion
        if digest not in self._others:
            try:
                self._others[digest] = await asyncio.to_thread(load_release, self._releases / name, digest)
            except (Invalid, OSError):
                return None
            while len(self._others) > OTHERS:
                del self._others[next(iter(self._others))]
        return self._others[digest]
