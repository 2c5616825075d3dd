"""From the bytes that a client sent to what goes on the log: checked, turned to OGG where needed, given its identity and its lane."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, NamedTuple

from producers.gateway import ogg
from producers.gateway.schemas import Told
from soundscape import audio
from soundscape.audio import MAX_MESSAGE_BYTES, MAX_SECONDS, WINDOW_S
from soundscape.errors import Invalid, Reason
from soundscape.events import ClipRecorded, MinuteRecorded
from soundscape.features import FeatureSpec
from soundscape.isolation import Runs, surely
from soundscape.log_mels import read_log_mels

LIVE_S = 15.0
"""Longer sound goes to the bulk lane: it would hold up the guides behind it."""
SLACK = 1.002
"""What a file may last beyond MAX_SECONDS, as soundscape.audio allows."""
NPY: Literal["application/x-npy"] = "application/x-npy"


class Prepared(NamedTuple):
    """A body as it goes on the log. `seconds` is None where only decoding tells."""

    body: bytes
    content_type: Literal["audio/ogg", "application/x-npy"]
    seconds: float | None
    original_type: str | None = None
    original_rate: int | None = None
    feature_fingerprint: str | None = None


async def prepare_sound(body: bytes, children: Runs) -> Prepared:
    """Sound: an OGG that fits a message passes as it is, everything else becomes one, in a child process.

    Raises Invalid: empty, not-audio, too-long, and as `soundscape.audio.to_ogg`.
    """
    kind = audio.sniff(body)
    if kind == "audio/ogg" and len(body) <= MAX_MESSAGE_BYTES:
        seconds = ogg.seconds(body)
        if seconds is not None and seconds > MAX_SECONDS * SLACK:
            raise Invalid(Reason.TOO_LONG, f"The clip lasts {seconds:.0f} s; send at most {MAX_SECONDS:.0f} s.")
        return Prepared(body, "audio/ogg", seconds)
    encoded, rate, seconds = await surely(children, audio.to_ogg, body)
    return Prepared(encoded, "audio/ogg", seconds, kind, rate)


def prepare_log_mels(body: bytes, fingerprint: str | None, specs: dict[str, FeatureSpec]) -> Prepared:
    """Log-mels that a client computed: `.npy`, float16 (windows, n_mels, frames) in [0, 1], of a spec that is deployed.

    Raises Invalid: empty, unknown-features, bad-features.
    """
    if not body:
        raise Invalid(Reason.EMPTY, "The clip has no bytes; send the log-mels as the body.")
    known = {name: spec for name, spec in specs.items() if spec.kind == "log-mel"}
    if fingerprint not in known:
        named = ", ".join(known) or "none: it takes sound"
        raise Invalid(
            Reason.UNKNOWN_FEATURES,
            f"X-Feature-Fingerprint is {fingerprint or 'missing'}; the site's release takes {named}. Send sound, or those.",
        )
    windows = len(read_log_mels(body, known[fingerprint]))
    return Prepared(body, NPY, windows * WINDOW_S, feature_fingerprint=fingerprint)


def lane_of(seconds: float | None) -> Literal["live", "bulk"]:
    """The lane of a clip; one whose length is unknown is treated as a guide's."""
    return "bulk" if seconds is not None and seconds > LIVE_S else "live"


def recorded(
    prepared: Prepared,
    clip_id: str,
    digest: str,
    site: str,
    stream: str,
    told: Told,
    traceparent: str | None,
    tour_started_at: datetime | None = None,
) -> ClipRecorded:
    """The event of a clip, for its lane. Raises pydantic's ValidationError only if a caller passes what it did not check."""
    kind = MinuteRecorded if lane_of(prepared.seconds) == "bulk" else ClipRecorded
    return kind.model_validate(
        {
            "clip_id": clip_id,
            "site": site,
            "stream": stream,
            "sha256": digest,
            "published_at": datetime.now(UTC),
            "content_type": prepared.content_type,
            "feature_fingerprint": prepared.feature_fingerprint,
            "tour_id": told.tour_id,
            "tour_started_at": tour_started_at,
            "recorded_at": told.recorded_at,
            "latitude": told.latitude,
            "longitude": told.longitude,
            "lang": told.lang,
            "client": told.client,
            "original_type": prepared.original_type,
            "original_rate": prepared.original_rate,
            "traceparent": traceparent,
            "audio": prepared.body,
        }
    )
