"""Which release answers for which site: the `deployments` topic, read without a group from its beginning."""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from soundscape.canary import role_of
from soundscape.errors import Invalid, Reason
from soundscape.events import ClipRecorded, ReleaseRef, Role, SiteDeployed
from soundscape.metrics import GENERATION, UNREADABLE
from soundscape.release import LoadedRelease, load_release
from soundscape.settings import Port, Settings
from soundscape.topics import DEPLOYMENTS
from soundscape.wire import decode

log = logging.getLogger(__name__)


class Site(NamedTuple):
    """A site's deployment, its champion, and its candidate if there is one; or why either cannot be loaded."""

    state: SiteDeployed
    champion: LoadedRelease | Invalid
    candidate: LoadedRelease | Invalid | None


class Serving(NamedTuple):
    """Who answers a clip: the release, in what part, and the site's state at that."""

    state: SiteDeployed
    loaded: LoadedRelease
    role: Role


class Sites:
    """The deployments in force in this process. `ready` is set once the topic's end at start has been read."""

    def __init__(self, settings: Settings, process: str) -> None:
        self._settings, self._process = settings, process
        self._sites: dict[str, Site] = {}
        self.ready = asyncio.Event()

    @property
    def generations(self) -> dict[str, int]:
        """Generation in force, by site."""
        return {name: site.state.generation for name, site in self._sites.items()}

    @property
    def models(self) -> set[str]:
        """Names in Triton of all that may be asked for an answer now."""
        loaded = [one for site in self._sites.values() for one in (site.champion, site.candidate) if isinstance(one, LoadedRelease)]
        return {member.triton_name for one in loaded for member in one.release.members}

    def serving(self, clip: ClipRecorded, *, champion: bool = False) -> Serving:
        """Who answers the clip; the champion where that is asked for, for a probe, and where the candidate cannot take it.

        Raises Invalid: no-release, release-invalid.
        """
        found = self._sites.get(clip.site)
        if found is None:
            raise Invalid(
                Reason.NO_RELEASE,
                f"No release is deployed for site {clip.site!r}; deploy one with `soundscape deploy RELEASE --site {clip.site}`, then "
                f"`soundscape deadletters replay --site {clip.site}`.",
            )
        role = "champion" if champion or clip.probe else role_of(found.state, clip.stream, clip.tour_started_at)
        if role == "canary" and isinstance(found.candidate, LoadedRelease) and _takes(found.candidate, clip):
            return Serving(found.state, found.candidate, "canary")
        if isinstance(found.champion, Invalid):
            raise found.champion
        return Serving(found.state, found.champion, "champion")

    def champion(self, site: str) -> LoadedRelease | None:
        """The site's own release, if it has one that can be loaded."""
        found = self._sites.get(site)
        return found.champion if found and isinstance(found.champion, LoadedRelease) else None

    def shadow(self, clip: ClipRecorded) -> Serving | None:
        """Who answers beside: the one of champion and candidate that does not answer the clip itself; None without a candidate."""
        found = self._sites.get(clip.site)
        if found is None or not isinstance(found.candidate, LoadedRelease) or clip.probe:
            return None
        other = found.champion if role_of(found.state, clip.stream, clip.tour_started_at) == "canary" else found.candidate
        return None if isinstance(other, Invalid) else Serving(found.state, other, "shadow")

    async def follow(self) -> None:
        """Read the topic for ever; a broker that is away is waited for."""
        while True:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self._settings.address(Port.KAFKA), enable_auto_commit=False, auto_offset_reset="earliest"
            )
            try:
                await consumer.start()
                await self._read(consumer)
            except (KafkaError, OSError) as error:
                log.warning("deployments cannot be read (%s); trying again", error)
                await asyncio.sleep(1.0)
            finally:
                await consumer.stop()

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        part = TopicPartition(DEPLOYMENTS.name, 0)
        consumer.assign([part])
        await consumer.seek_to_beginning(part)
        end = (await consumer.end_offsets([part]))[part]
        while True:
            if await consumer.position(part) >= end:
                self.ready.set()
            for record in (await consumer.getmany(part, timeout_ms=500)).get(part, []):
                if record.value is None:
                    continue
                try:
                    state = decode(SiteDeployed, record.headers, record.value)
                except Invalid as error:  # a later version, say: the site stays as it is
                    UNREADABLE.labels(self._process, DEPLOYMENTS.name).inc()
                    log.error("deployments offset %d passed over: %s", record.offset, error)
                else:
                    await self._apply(state)

    async def _apply(self, state: SiteDeployed) -> None:
        """Load the releases beside the work that goes on, then let them answer."""
        if state.generation <= self.generations.get(state.site, 0):
            return
        before = self._sites.get(state.site)
        champion = await self._load(state.site, state.champion, before)
        candidate = await self._load(state.site, state.candidate, before) if state.candidate else None
        self._sites[state.site] = Site(state, champion, candidate)
        GENERATION.labels(self._process, state.site).set(state.generation)
        log.info("site %s: generation %d, release %s", state.site, state.generation, state.champion.name)

    async def _load(self, site: str, ref: ReleaseRef, before: Site | None) -> LoadedRelease | Invalid:
        for known in (before.champion, before.candidate) if before else ():
            if isinstance(known, LoadedRelease) and known.digest == ref.digest:
                return known
        try:
            return await asyncio.to_thread(load_release, self._settings.releases / ref.name, ref.digest)
        except Invalid as error:
            log.error("site %s: %s", site, error)
            return error


def _takes(loaded: LoadedRelease, clip: ClipRecorded) -> bool:
    """Whether a release takes a clip's log-mels, if it is log-mels."""
    return clip.feature_fingerprint is None or clip.feature_fingerprint in loaded.release.features
