"""The one writer of `deployments`: takes commands, brings Triton to what the states say, heals models, replays their dead letters."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from consumers.loans import Loans
from consumers.model_server import ModelServer, build
from consumers.probe_clips import confirm
from consumers.registry import Registry
from consumers.transitions import deployed, require_licence
from consumers.waiting_letters import WaitingLetters
from soundscape.deployments import read_states
from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.events import (
    DeploymentStepped,
    ReleaseRef,
    SiteDeployed,
    Step,
)
from soundscape.kafka import broker_errors, new_consumer, new_producer, say
from soundscape.metrics import GENERATION, MODEL_HEALED, MODEL_READY
from soundscape.release import LoadedRelease, Member, named_release
from soundscape.settings import Settings
from soundscape.topics import DEPLOYMENT_LOG, DEPLOYMENTS

log = logging.getLogger(__name__)

RECONCILE_S = 1.0
"""Seconds between two looks at what Triton serves."""
PROBE_S = 10.0
"""Seconds after which a model that nobody asked is probed; one that answers clips without a failure needs none."""


class Seen(NamedTuple):
    """What was last seen of a model: inferences that succeeded and failed, and when it last showed that it works."""

    succeeded: int
    failed: int
    worked_at: float


class Deployer:
    """States by site, and the model server brought to them. Thread-safe: commands come from HTTP, reconciling runs beside."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._server = settings, ModelServer(settings)
        self._lock = threading.RLock()
        self._states: dict[str, SiteDeployed] = {}
        self._read = False
        self._sick: dict[str, list[str]] = {}
        self._refused: dict[str, str] = {}
        """By site and release, why one that its state names is not served."""
        self._seen: dict[str, Seen] = {}
        self._releases: dict[str, LoadedRelease] = {}
        self._loans = Loans()
        self._letters, self._registry = WaitingLetters(settings), Registry(settings)
        self.trouble = "reading deployments"

    def start(self) -> None:
        """Read the states from the topic if they are not known; waits for the broker."""
        while not self._read:
            try:
                self._read_states()
                self._producer = new_producer(self._settings)
                self._read = True
            except Unavailable as error:
                self.trouble = str(error)
                time.sleep(1.0)

    def _read_states(self) -> None:
        for state in read_states(self._settings, "deployer").values():
            self._states[state.site] = state
            GENERATION.labels("deployer", state.site).set(state.generation)
        if not consumer_has(self._settings, DEPLOYMENTS.name):
            raise Unavailable("the topics are not made yet")

    def states(self) -> dict[str, SiteDeployed]:
        """State in force, by site."""
        with self._lock:
            return dict(self._states)

    # Deploying

    def deploy(self, site: str, release: str, *, actor: str, seen: int | None, accept_noncommercial: bool) -> SiteDeployed:
        """Make a release the site's champion; returns the state once it is committed (`confirm` waits for the workers).

        Raises Invalid: the release does not hold or load, its licence was not accepted, or `seen` is not the generation in force.
        Raises Unavailable without broker or model server.
        """
        loaded = named_release(self._settings.releases, release)
        ref = ReleaseRef(name=release, digest=loaded.digest)
        return self.change(
            site, seen, "committed", "", lambda before: deployed(before, site, ref, actor),
            actor=actor, release=loaded, accept_noncommercial=accept_noncommercial,
        )  # fmt: skip

    def change(
        self,
        site: str,
        seen: int | None,
        step: Step,
        detail: str,
        make: Callable[[SiteDeployed | None], SiteDeployed],
        *,
        actor: str,
        release: LoadedRelease | None = None,
        accept_noncommercial: bool = False,
    ) -> SiteDeployed:
        """Bring a site to the state that `make` gives of the one in force; a `release` is loaded and probed before. One event, or nothing.

        Raises Invalid: `seen` is not the generation in force, the transition is refused, the release does not load, or its licence
        was not accepted. Raises Unavailable without broker or model server.
        """
        with self._lock:
            if not self._read:
                raise Unavailable(f"The deployer is not ready ({self.trouble}); ask again in a moment.")
            before = self._states.get(site)
            generation = before.generation if before else 0
            if seen is not None and seen != generation:
                raise Invalid(Reason.BAD_REQUEST, f"Site {site} is at generation {generation}, not {seen}; look again and repeat.")
            state = make(before)
            if release is not None:
                name = release.release.name
                require_licence(release, accept_noncommercial)
                self.step(site, generation, "asked", name, f"by {actor}")
                try:
                    self._serve(release)
                except Invalid as error:
                    self.step(site, generation, "refused", name, str(error))
                    raise
                self.step(site, generation, "loaded", name, ", ".join(member.triton_name for member in release.release.members))
            try:
                say(self._producer, DEPLOYMENTS, state)
            except Unavailable:
                self._read = False  # it may have been written all the same: what stands is read again before the next command
                raise
            self._states[site] = state
            GENERATION.labels("deployer", site).set(state.generation)
            try:
                self.step(site, state.generation, step, (state.candidate or state.champion).name, detail)
            except Unavailable as error:  # the state is committed: who asked is not told otherwise
                log.error("site %s generation %d: the step %s is not on deployment-log: %s", site, state.generation, step, error)
            return state

    def confirm(self, state: SiteDeployed) -> None:
        """Wait until every worker of both lanes has the generation and a probe clip in each lane was answered by it.

        Raises Unavailable that names who did not within WAIT_S; the deployment stands all the same.
        """
        confirm(self._settings, self._producer, state)
        self.step(state.site, state.generation, "answered", state.champion.name, "a probe clip in each lane")

    def lend(self, release: str, digest: str) -> str:
        """Serve a release for who measures it, whatever the states name, until it is given back; returns the loan's name.

        Raises Invalid: it does not hold, or does not load and answer. Raises Unavailable without broker or model server.
        """
        loaded = named_release(self._settings.releases, release, digest)
        with self._lock:
            if not self._read:
                raise Unavailable(f"The deployer is not ready ({self.trouble}); ask again in a moment.")
            self._serve(loaded)
            self.step("all", 0, "loaded", release, "on loan, to be measured")
            return self._loans.lend(loaded)

    def give_back(self, loan: str) -> None:
        """End a loan: what no state names is unloaded at the next look."""
        with self._lock:
            self._loans.give_back(loan)

    # Reconciling

    def reconcile(self) -> None:
        """One look: load what the states name, heal what does not answer, unload what no state names, replay what was waiting.

        Raises Unavailable if the model server or the broker is away.
        """
        with self._lock:
            wanted = self._wanted()
            there = self._server.loaded()
            for name, (loaded, member, sites) in wanted.items():
                works = name in there and self._works(name, loaded, member)
                MODEL_READY.labels(name).set(works)
                if works:
                    self._sick.pop(name, None)  # it came back by itself
                else:
                    self._heal(name, loaded, member, sites)
            for name in self._sick.keys() - wanted.keys():
                del self._sick[name]  # no state names it any more
            for name in there - wanted.keys():
                self._server.unload(name)
                self.step("all", 0, "unloaded", None, name)
            sick = [f"{name}: {why[0]}" for name, why in self._sick.items() if why]
            refused = [self._refused[one] for one in self._refused.keys() & self._answering()]
            self.trouble = "; ".join([*sick, *sorted(refused)])
        self._registry.follow(self.states())
        self._replay_waiting(wanted)

    def _wanted(self) -> dict[str, tuple[LoadedRelease, Member, list[str]]]:
        wanted: dict[str, tuple[LoadedRelease, Member, list[str]]] = {}
        refused: dict[str, str] = {}
        for state in self._states.values():
            for ref in filter(None, (state.champion, state.previous, state.candidate)):
                try:
                    if ref.digest not in self._releases:
                        self._releases[ref.digest] = named_release(self._settings.releases, ref.name, ref.digest)
                    loaded = self._releases[ref.digest]
                except Invalid as error:
                    refused[f"{state.site}/{ref.name}"] = f"site {state.site}: {error}"
                    continue
                for member in loaded.release.members:
                    wanted.setdefault(member.triton_name, (loaded, member, []))[2].append(state.site)
        for what in refused.keys() - self._refused.keys():
            log.error("%s", refused[what])
        self._refused = refused
        for loaded in self._loans.out():
            for member in loaded.release.members:
                wanted.setdefault(member.triton_name, (loaded, member, []))
        return wanted

    def _answering(self) -> set[str]:
        """Sites with the releases that answer clips or are on trial there, as `_refused` names them; without those kept for a way back."""
        return {f"{one.site}/{ref.name}" for one in self._states.values() for ref in (one.champion, one.candidate) if ref}

    def _works(self, name: str, loaded: LoadedRelease, member: Member) -> bool:
        """Whether a loaded model answers: by the clips that it answered since the last look, else by a probe."""
        succeeded, failed = self._server.counts(name)
        seen, now = self._seen.get(name), time.monotonic()
        if seen and name not in self._sick and failed == seen.failed:
            if succeeded > seen.succeeded:
                self._seen[name] = Seen(succeeded, failed, now)
                return True
            if now - seen.worked_at < PROBE_S:
                return True
        works = self._probed(loaded, member)
        self._seen[name] = Seen(*self._server.counts(name), now)
        return works

    def _heal(self, name: str, loaded: LoadedRelease, member: Member, sites: list[str]) -> None:
        try:
            build(self._settings, loaded, member)
            self._server.load(name)
            if not self._probed(loaded, member):
                raise Invalid(Reason.MODEL_UNAVAILABLE, f"{name} was loaded and does not answer its probe")
        except Invalid as error:
            self._sick[name] = [str(error), *sites]
            log.error("%s", error)
            return
        self._sick.pop(name, None)
        MODEL_READY.labels(name).set(1)
        MODEL_HEALED.labels(name).inc()
        for site in sites:
            self.step(site, self._states[site].generation, "healed", None, name)

    def _replay_waiting(self, wanted: dict[str, tuple[LoadedRelease, Member, list[str]]]) -> None:
        """Send again the clips that died of a model that answers now."""
        sick = {site for why in self._sick.values() for site in why[1:]}
        well = {site for _, _, sites in wanted.values() for site in sites} - sick
        if not well:
            return
        count = self._letters.replay(well)
        if count:
            self.step("all", 0, "replayed", None, f"{count} clips of {', '.join(sorted(well))}")

    def _serve(self, loaded: LoadedRelease) -> None:
        """Load and probe every member of a release. Raises Invalid, Unavailable."""
        there = self._server.loaded()
        for member in loaded.release.members:
            build(self._settings, loaded, member)
            if member.triton_name not in there:
                self._server.load(member.triton_name)
            if not self._probed(loaded, member):
                what = f"Member {member.name} was loaded, and does not give a finite number for each of the {len(member.labels)} labels"
                raise Invalid(Reason.RELEASE_INVALID, f"{what} that it names.")

    def _probed(self, loaded: LoadedRelease, member: Member) -> bool:
        return self._server.probe(member.triton_name, loaded.release.features[member.feature_fingerprint].shape, member.outputs)

    def step(self, site: str, generation: int, step: Step, release: str | None, detail: str) -> None:
        """Say one step on `deployment-log`. Raises Unavailable."""
        log.info("%s generation %d: %s %s %s", site, generation, step, release or "", detail)
        event = DeploymentStepped(site=site, generation=generation, step=step, release=release, detail=detail, at=datetime.now(UTC))
        say(self._producer, DEPLOYMENT_LOG, event)


def consumer_has(settings: Settings, topic: str) -> bool:
    """Whether the broker has the topic. Raises Unavailable."""
    consumer = new_consumer(settings)
    try:
        with broker_errors():
            return topic in consumer.topics()
    finally:
        consumer.close()
