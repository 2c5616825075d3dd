"""Step 2 of a clip's path: decode, window, features, Triton, fuse, decide; one clip in, one prediction out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from soundscape.errors import Invalid, Reason
from soundscape.events import ClipAnalysed, ClipRecorded, LeftOut, Place, Stages
from soundscape.events import clip_id as identity
from soundscape.fuse import detect, fuse, fusion_of, listing
from soundscape.isolation import ChildPool, surely
from soundscape.metrics import DETECTIONS, MEMBERS_LEFT_OUT, STAGE_SECONDS, WINDOWS
from soundscape.release import LoadedRelease, Member
from stream_processors.extract import Extracted, from_log_mels, from_sound
from stream_processors.sites import Serving
from stream_processors.triton import Triton

Float32 = npt.NDArray[np.float32]

LATE_S = 2.0
"""Live: a member this late is left out, if another has answered."""
PRIORITY = {"live": 1, "bulk": 2, "shadow": 2}
"""Triton's priority of each lane."""
WINDOWS_AT_ONCE = {"live": 16, "bulk": 4, "shadow": 1}
"""Windows in one request: a guide's clip never waits behind more than a few of a recorder's."""


class Analyser:
    """The stages of one lane, around one Triton and one pool of decoding children."""

    def __init__(self, lane: str, triton: Triton, children: ChildPool) -> None:
        self._lane, self._triton, self._children = lane, triton, children

    async def features(self, clip: ClipRecorded, loaded: LoadedRelease) -> Extracted:
        """The clip's features, from a child process. Raises Invalid."""
        if str(clip.clip_id) != identity(clip.site, clip.stream, clip.recorded_at, clip.sha256):
            raise Invalid(Reason.WRONG_IDENTITY, "The clip's id does not follow from its site, stream, time and SHA-256.")
        specs = tuple(loaded.release.features[member.feature_fingerprint] for member in loaded.release.members)
        if clip.content_type == "application/x-npy":
            return await surely(self._children, from_log_mels, clip.audio, clip.feature_fingerprint or "none", specs)
        return await surely(self._children, from_sound, clip.audio, tuple(dict.fromkeys(specs)))

    async def infer(
        self, loaded: LoadedRelease, found: Extracted, out: Collection[str] = ()
    ) -> tuple[dict[str, Float32], tuple[LeftOut, ...]]:
        """All members at once but those whose models are `out`: float32 (windows, outputs) by member, and who was left out and why.

        Raises Unavailable, ModelFailed; Invalid if no member takes these features.
        """
        able = [member for member in loaded.release.members if member.feature_fingerprint in found.features]
        unable = [member for member in loaded.release.members if member not in able]
        left = [LeftOut(member=member.name, why="the clip's features are not its own") for member in unable]
        if not able:
            raise Invalid(Reason.UNKNOWN_FEATURES, "No member of the release takes these features; send sound.")
        asked = [member for member in able if member.triton_name not in out] or able
        for member in able:
            if member not in asked:
                left.append(LeftOut(member=member.name, why="it failed or was late, and has not answered its probe since"))
                MEMBERS_LEFT_OUT.labels(member.name).inc()
        tasks = {member.name: asyncio.create_task(self._ask(member, found.features[member.feature_fingerprint])) for member in asked}
        try:
            if self._lane == "live" and len(tasks) > 1:
                done, late = await asyncio.wait(tasks.values(), timeout=LATE_S)
                if not done:
                    await asyncio.wait(late, return_when=asyncio.FIRST_COMPLETED)
                for name in [name for name, task in tasks.items() if not task.done()]:
                    tasks.pop(name).cancel()
                    left.append(LeftOut(member=name, why=f"no answer within {LATE_S:.0f} s"))
                    MEMBERS_LEFT_OUT.labels(name).inc()
            answers = await asyncio.gather(*tasks.values())
        finally:
            for task in tasks.values():
                task.cancel()
        return dict(zip(tasks, answers, strict=True)), tuple(left)

    async def _ask(self, member: Member, features: Float32) -> Float32:
        step = WINDOWS_AT_ONCE[self._lane]
        parts = [
            await self._triton.infer(member.triton_name, features[first : first + step], PRIORITY[self._lane])
            for first in range(0, len(features), step)
        ]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    async def answer(
        self, clip: ClipRecorded, place: Place, received: float, found: Extracted, serving: Serving, out: Collection[str] = ()
    ) -> ClipAnalysed:
        """The prediction of a clip whose features are known. Raises as `infer`."""
        state, loaded, role = serving
        members, left_out = await self.infer(loaded, found, out)
        inferred = time.time()
        fused = fuse(loaded, members, found.silent, clip.recorded_at)
        listed = listing(loaded, fused, members, found.silent)
        detections = detect(loaded, fused)
        stages = Stages(
            recorded=clip.recorded_at,
            published=clip.published_at,
            received=_moment(received),
            decoded=_moment(found.decoded),
            features=_moment(found.computed),
            inferred=_moment(inferred),
            predicted=_moment(time.time()),
        )
        self._measure(clip, stages, len(found.silent))
        for detection in () if clip.probe or role == "shadow" else detections:
            DETECTIONS.labels(clip.site, detection.label).inc()
        return ClipAnalysed(
            clip_id=clip.clip_id,
            stream=clip.stream,
            site=clip.site,
            tour_id=clip.tour_id,
            tour_started_at=clip.tour_started_at,
            recorder=clip.recorder,
            file_name=clip.file_name,
            recorded_at=clip.recorded_at,
            latitude=clip.latitude,
            longitude=clip.longitude,
            probe=clip.probe,
            place=place,
            client=clip.client,
            release=loaded.release.name,
            release_digest=loaded.digest,
            generation=state.generation,
            role=role,
            licences=loaded.release.licences,
            feature_fingerprints=tuple(found.features),
            labels=listed.labels,
            score_floor=listed.score_floor,
            weights=listed.weights,
            windows=listed.windows,
            detections=detections,
            left_out=left_out,
            calibrated=fused.calibrated,
            fusion=fusion_of(loaded, members),
            stages=stages,
        )

    def _measure(self, clip: ClipRecorded, stages: Stages, windows: int) -> None:
        WINDOWS.labels(self._lane).inc(windows)
        names = ("published", "received", "decoded", "features", "inferred", "predicted")
        for before, after in pairwise(names):
            spent = (getattr(stages, after) - getattr(stages, before)).total_seconds()
            STAGE_SECONDS.labels(self._lane, after).observe(max(0.0, spent))


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
