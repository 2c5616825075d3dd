"""What a site's deployment state may become: pure; each gives the next state or says why it may not be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from soundscape.errors import Invalid, Reason
from soundscape.events import ReleaseRef, Share, SiteDeployed
from soundscape.release import LoadedRelease


def require_licence(loaded: LoadedRelease, accepted: bool) -> None:
    """Raise Invalid if a member may not be used commercially and that was not accepted."""
    bound = [f"{member.name} ({member.licence})" for member in loaded.release.members if member.noncommercial]
    if bound and not accepted:
        what = f"Release {loaded.release.name} may not be used commercially: {', '.join(bound)}"
        raise _refused(f"{what}; deploy it with --accept-noncommercial.")


def deployed(before: SiteDeployed | None, site: str, release: ReleaseRef, actor: str) -> SiteDeployed:
    """The release is champion, at once and without a trial; a candidate that was there is dropped."""
    if before is None:
        return SiteDeployed(site=site, generation=1, champion=release, reason="deployed by command", actor=actor, at=datetime.now(UTC))
    previous = before.champion if before.champion.name != release.name else before.previous
    return _next(before, actor, "deployed by command", champion=release, previous=previous, **_NO_CANDIDATE)


def offered(before: SiteDeployed | None, site: str, release: ReleaseRef, actor: str) -> SiteDeployed:
    """The release is candidate, in the shadow. Raises Invalid: no champion, the champion itself, or another candidate is there."""
    if before is None:
        raise _refused(f"Site {site} has no champion to be measured against; deploy one with `soundscape deploy RELEASE --site {site}`.")
    if before.candidate is not None:
        there = f"{before.candidate.name} already (generation {before.generation})"
        raise _refused(f"Site {site} has the candidate {there}; promote it or roll it back first.")
    if before.champion == release:
        raise _refused(f"{release.name} is the champion of site {site} already.")
    return _next(before, actor, "offered", candidate=release, stage="shadow", share=0.0, since=datetime.now(UTC))


def shared(before: SiteDeployed, share: float, actor: str) -> SiteDeployed:
    """The candidate answers a share of the streams, and of the tours that start from now on.

    Raises Invalid without a candidate, or for a share outside (0, 1].
    """
    _candidate(before)
    if not 0.0 < share <= 1.0:
        raise _refused(f"The share must lie above 0 and at most at 1, not at {share:g}.")
    now, known = datetime.now(UTC), before.shares
    if before.stage == "canary" and not known:  # a state of before shares were kept
        known = (Share(share=before.share, since=before.at),)
    shares = (*known, Share(share=share, since=now))
    return _next(before, actor, f"canary on {share:.0%} of the streams", stage="canary", share=share, shares=shares, at=now)


def promoted(before: SiteDeployed, actor: str, reason: str) -> SiteDeployed:
    """The candidate is champion, the champion previous. Raises Invalid without a candidate."""
    return _next(before, actor, reason, champion=_candidate(before), previous=before.champion, **_NO_CANDIDATE)


def rolled_back(before: SiteDeployed, actor: str, reason: str, seen: int | None = None) -> SiteDeployed:
    """Without the candidate; without one, the previous champion again. Raises Invalid where there is neither.

    What was rolled back is no previous champion: the same command said twice, or after an alarm, does not bring it back. Nor does it take
    the champion too, where it was only to drop the candidate, unless the generation is named that was `seen`.
    """
    if before.candidate is not None:
        return _next(before, actor, reason, **_NO_CANDIDATE)
    if before.previous is None:
        raise _refused(f"Site {before.site} has neither a candidate nor a previous champion to go back to.")
    if seen is None and before.reason.startswith(DROPPED):
        what = f"The candidate of site {before.site} was dropped already ({before.reason})"
        cure = f"to go back from {before.champion.name} to {before.previous.name} too, say --generation {before.generation}"
        raise _refused(f"{what}; {cure}.")
    return _next(before, actor, reason, champion=before.previous, previous=None)


ROLLED_BACK, ALARM = "rolled back by command", "alarm ("
DROPPED = (ROLLED_BACK, ALARM)
"""How the reason begins of a state whose candidate was dropped."""
_NO_CANDIDATE: dict[str, Any] = {"candidate": None, "stage": "champion", "share": 0.0, "shares": (), "since": None}


def _next(before: SiteDeployed, actor: str, reason: str, **changes: Any) -> SiteDeployed:
    fields = {"generation": before.generation + 1, "actor": actor, "reason": reason, "at": datetime.now(UTC)}
    return before.model_copy(update={**fields, **changes})


def _candidate(before: SiteDeployed) -> ReleaseRef:
    if before.candidate is None:
        raise _refused(f"Site {before.site} has no candidate; `soundscape gate RELEASE --site {before.site}` lets one in.")
    return before.candidate


def _refused(what: str) -> Invalid:
    return Invalid(Reason.BAD_REQUEST, what)
