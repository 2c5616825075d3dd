"""Which release answers a clip while a candidate earns its place: a pure function of the site's state, the clip's stream and its tour."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Literal

from soundscape.events import SiteDeployed


def unit(stream: str, candidate_digest: str) -> float:
    """Where a stream stands in [0, 1) for a candidate: SHA-256 of both, so that every candidate meets other streams first."""
    digest = hashlib.sha256(f"{stream}\n{candidate_digest}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def role_of(state: SiteDeployed, stream: str, began: datetime | None = None) -> Literal["champion", "canary"]:
    """Who answers the stream. Raising the share only adds streams.

    A tour that was started (`began`) has the share of that moment for ever, so that it hears one release until promotion or rollback. A
    stream of which no start is known, a recorder say, has the share of now.
    """
    if state.stage == "canary" and state.candidate is not None and unit(stream, state.candidate.digest) < _share(state, began):
        return "canary"
    return "champion"


def _share(state: SiteDeployed, began: datetime | None) -> float:
    if began is None or not state.shares:
        return state.share
    return next((one.share for one in reversed(state.shares) if one.since <= began), 0.0)
