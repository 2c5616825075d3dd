"""Which release answers for which site: the `deployments` topic, read without a group from its beginning."""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from soundscape.errors import Invalid, Reason
from soundscape.events import SiteDeployed
from soundscape.metrics import GENERATION, UNREADABLE
from soundscape.release import LoadedRelease, load_release
from soundscape.settings import Port, Settings
from soundscape.topics import DEPLOYMENTS
from soundscape.wire import decode

log = logging.getLogger(__name__)


class Site(NamedTuple):
    """A site's deployment and its champion, or why the champion cannot be loaded."""

    state: SiteDeployed
    champion: LoadedRelease | Invalid


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

    def champion(self, site: str) -> tuple[SiteDeployed, LoadedRelease]:
        """The site's state and release. Raises Invalid: no-release, release-invalid."""
        found = self._sites.get(site)
        if found is None:
            raise Invalid(
                Reason.NO_RELEASE,
                f"No release is deployed for site {site!r}; deploy one with `soundscape deploy RELEASE --site {site}`, then "
                f"`soundscape deadletters replay --site {site}`.",
            )
        if isinstance(found.champion, Invalid):
            raise found.champion
        return found.state, found.champion

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
        """Load the champion beside the work that goes on, then let it answer."""
        if state.generation <= self.generations.get(state.site, 0):
            return
        champion: LoadedRelease | Invalid
        try:
            champion = await asyncio.to_thread(load_release, self._settings.releases / state.champion.name, state.champion.digest)
        except Invalid as error:
            log.error("site %s: %s", state.site, error)
            champion = error
        self._sites[state.site] = Site(state, champion)
        GENERATION.labels(self._process, state.site).set(state.generation)
        log.info("site %s: generation %d, release %s", state.site, state.generation, state.champion.name)
