"""How a candidate earns its place: offered after the gate, in the shadow, on a share of the streams, promoted, or rolled back."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from threading import RLock
from typing import Any

from consumers import transitions
from consumers.deployer import Deployer
from consumers.trial import Alarm, Trial
from consumers.trials import Trials
from soundscape.errors import Invalid, Reason
from soundscape.events import ReleaseRef, SiteDeployed
from soundscape.release import LoadedRelease, named_release
from soundscape.settings import Settings

log = logging.getLogger(__name__)

DEPLOYER = "deployer"
"""The actor of what the deployer does by itself."""


class Earning:
    """The commands of a trial, and the alarm that ends one. Every step is one event, or nothing happened."""

    def __init__(self, settings: Settings, deployer: Deployer) -> None:
        self._settings, self._deployer, self._trials = settings, deployer, Trials(settings)
        self._reading = RLock()
        """Trials are fed by one thread and asked by those of the door."""

    def offer(self, site: str, release: str, *, actor: str, seen: int | None, force: bool, accept_noncommercial: bool) -> SiteDeployed:
        """Make a release that passed the gate the site's candidate, in the shadow.

        Raises Invalid: not gated or refused there (unless forced), another candidate, or it does not hold or load. Raises Unavailable.
        """
        loaded = named_release(self._settings.releases, release)
        said = "" if force else self._require_gate(loaded, site)
        ref = ReleaseRef(name=release, digest=loaded.digest)
        return self._deployer.change(
            site, seen, "shadowed", _forced(said, force), lambda before: transitions.offered(before, site, ref, actor),
            actor=actor, release=loaded, accept_noncommercial=accept_noncommercial,
        )  # fmt: skip

    def share(self, site: str, share: float, *, actor: str, seen: int | None, force: bool) -> SiteDeployed:
        """Let the candidate answer a share of the streams. Raises Invalid without a candidate, or while an alarm stands (unless forced)."""
        with self._reading:
            trial = self._trials.by_site.get(site)
            alarms = trial.alarms(self._settings.alarm_pairs) if trial is not None and not force else []
        if alarms:
            raise Invalid(Reason.BAD_REQUEST, f"The shadow already speaks against it: {alarms[0].says}; --force goes on all the same.")
        said = f"{share:.0%} of the streams"
        return self._deployer.change(
            site, seen, "canaried", _forced(said, force), _known(site, lambda before: transitions.shared(before, share, actor)), actor=actor
        )

    def promote(self, site: str, *, actor: str, seen: int | None, force: bool) -> SiteDeployed:
        """Make the candidate champion. Raises Invalid without one, if its files no longer hold, or says what its trial still lacks."""
        state = self._deployer.states().get(site)
        if state is not None and state.candidate is not None:
            named_release(self._settings.releases, state.candidate.name, state.candidate.digest)
            seen = state.generation if seen is None else seen  # what was looked at is what is changed
            with self._reading:
                trial = self._trials.by_site.get(site)
                lacks = trial.missing(self._settings.canary_clips, self._settings.canary_streams) if trial else ["a trial"]
            if state.stage != "canary":
                lacks.insert(0, "a canary (`soundscape canary 0.2`)")
            if lacks and not force:
                raise Invalid(Reason.BAD_REQUEST, f"{state.candidate.name} is not promoted yet; missing: {'; '.join(lacks)}.")
        reason = _forced("promoted by command", force)
        return self._deployer.change(
            site, seen, "promoted", reason, _known(site, lambda before: transitions.promoted(before, actor, reason)), actor=actor
        )

    def rollback(self, site: str, *, actor: str, seen: int | None, reason: str = transitions.ROLLED_BACK) -> SiteDeployed:
        """Drop the candidate, or go back to the previous champion. Raises Invalid where there is neither."""
        change = _known(site, lambda before: transitions.rolled_back(before, actor, reason, seen))
        return self._deployer.change(site, seen, "rolled-back", reason, change, actor=actor)

    def watch(self) -> None:
        """Take in what was said of the candidates, and roll back the one that an alarm names. Raises Unavailable."""
        with self._reading:
            self._trials.follow(self._deployer.states())
            on_trial = [(site, one) for site, one in self._trials.by_site.items() if one.state.stage == "canary"]
            ending = [(site, one, found[0]) for site, one in on_trial if (found := one.alarms(self._settings.alarm_pairs))]
        for site, trial, alarm in ending:
            self._end(site, trial, alarm)

    def _end(self, site: str, trial: Trial, alarm: Alarm) -> None:
        reason = f"{transitions.ALARM}{alarm.kind}) after {len(trial.canary)} canary clips: {alarm.says}"
        log.error("site %s: %s; clips %s", site, reason, ", ".join(alarm.clips))
        candidate = trial.state.candidate
        self._deployer.step(
            site, trial.state.generation, "alarmed", candidate.name if candidate else None, f"{reason}; clips {', '.join(alarm.clips)}"
        )
        try:
            self.rollback(site, actor=DEPLOYER, seen=trial.state.generation, reason=reason)
        except Invalid as error:  # somebody was quicker
            log.warning("site %s: %s", site, error)

    def report(self, site: str) -> dict[str, Any]:
        """How the trial of a site stands. Raises Invalid where there is none."""
        with self._reading:
            return self._report(site)

    def _report(self, site: str) -> dict[str, Any]:
        trial = self._trials.by_site.get(site)
        if trial is None:
            raise Invalid(Reason.BAD_REQUEST, f"Site {site} has no candidate on trial.")
        candidate = trial.state.candidate
        return {
            "site": site,
            "stage": trial.state.stage,
            "share": trial.state.share,
            "champion": trial.state.champion.name,
            "candidate": candidate.name if candidate else None,
            "clips": len(trial.canary),
            "streams": len({stream for stream, _ in trial.canary.values()}),
            "pairs": len(trial.both),
            "missing": trial.missing(self._settings.canary_clips, self._settings.canary_streams),
            "alarms": [alarm.says for alarm in trial.alarms(self._settings.alarm_pairs)],
            "differences": trial.differences(),
        }

    def _require_gate(self, loaded: LoadedRelease, site: str) -> str:
        """What the gate could not ask when it let this very release through. Raises Invalid if it did not, or measured another thing."""
        path = self._settings.state / "gates" / f"{loaded.digest}.json"
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            how = f"`soundscape gate {loaded.release.name} --site {site}`"
            raise Invalid(Reason.BAD_REQUEST, f"{loaded.release.name} has not been through the gate; run {how}.") from None
        if not said.get("passed"):
            reasons = "; ".join(said.get("reasons", []))
            raise Invalid(Reason.BAD_REQUEST, f"The gate refused {loaded.release.name}: {reasons}")
        state = self._deployer.states().get(site)
        if said.get("site") != site or said.get("champion") != (state.champion.digest if state else None):
            how = f"`soundscape gate {loaded.release.name} --site {site}`"
            raise Invalid(Reason.BAD_REQUEST, f"The gate measured {loaded.release.name} against another champion or site; run {how} again.")
        return "; ".join(said.get("not_asked", ["triton: the gate that let it in did not say whether it asked"]))


def _known(site: str, make: Callable[[SiteDeployed], SiteDeployed]) -> Callable[[SiteDeployed | None], SiteDeployed]:
    """The same transition, refused for a site that nothing is deployed to."""

    def made(before: SiteDeployed | None) -> SiteDeployed:
        if before is None:
            raise Invalid(Reason.BAD_REQUEST, f"Nothing is deployed to site {site}.")
        return make(before)

    return made


def _forced(said: str, force: bool) -> str:
    return f"{said} (forced)".strip() if force else said
