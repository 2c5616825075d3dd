"""What the board keeps in Redis, by key: written by consumers.board alone, read by the gateway and by `soundscape audit`."""

from __future__ import annotations

from typing import Final

OFFSETS: Final = "board:offsets"
"""Hash `topic:partition` -> next offset to read; written in one MULTI with the effects of the records before it."""
LATEST: Final = 50
"""Detections kept of each stream, newest first."""


def clip_key(clip_id: str) -> str:
    """Hash of a clip: site, stream, lane, accepted, predicted, release, dead, reason, detail; the three places as topic:partition:offset.

    A clip is `predicted` if it has `predicted`, else `dead` if it has `dead`, else `queued`: independent of the order of arrival.
    `counted` is a JSON list of the keys of COUNTS sets that hold this clip.
    """
    return f"clip:{clip_id}"


def counts_key(site: str, hour: str, label: str) -> str:
    """Set of the ids of the clips whose effective answer names `label`, recorded in that hour (`2026-11-24T15`, UTC)."""
    return f"counts:{site}:{hour}:{label}"


def latest_key(stream: str) -> str:
    """List of the latest detections of a stream, as JSON, newest first."""
    return f"latest:{stream}"
