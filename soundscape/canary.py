"""Which release answers a clip while a candidate earns its place: a pure function of the site's state and the clip's stream."""

from __future__ import annotations

import hashlib
from typing import Literal

from soundscape.events import SiteDeployed


def unit(stream: str, candidate_digest: str) -> float:
    """Where a stream stands in [0, 1) for a candidate: SHA-256 of both, so that every candidate meets other streams first."""
    digest = hashlib.sha256(f"{stream}\n{candidate_digest}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def role_of(state: SiteDeployed, stream: str) -> Literal["champion", "canary"]:
    """Who answers the stream. Raising the share only adds streams; a stream changes at most once, at promotion or rollback."""
    if state.stage == "canary" and state.candidate is not None and unit(stream, state.candidate.digest) < state.share:
        return "canary"
    return "champion"
