"""A release of several members: who is left out of an answer, when, and what is said of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from soundscape.errors import Reason
from soundscape.features import LOG_MEL, FeatureSpec
from soundscape.testing import ogg
from soundscape.testing_log import clip
from soundscape.wire import encode
from stream_processors.safe import POISON_FAILURES

if TYPE_CHECKING:
    from tests.unit.stream_processors.conftest import Lane, Make


async def test_a_late_member_is_left_out_of_a_live_answer(lane_of: type[Lane], release_of: Make) -> None:
    """And named; the bulk lane would wait for it."""
    loaded = release_of({"one": (["a", "b"], 1.0, LOG_MEL), "slow": (["a", "b"], 1.0, LOG_MEL)})
    lane = lane_of(loaded)
    lane.triton.late = {loaded.release.members[1].triton_name}
    await lane.safe(lane.record())
    (answer,) = lane.answers
    assert [one.member for one in answer.left_out] == ["slow"] and answer.windows[0].scores == (0.9, 0.9)
    bulk = lane_of(loaded, "bulk")
    bulk.triton.late = lane.triton.late
    task = asyncio.ensure_future(bulk.safe(encode(clip(ogg(5.0, 2000.0), lane="bulk"))))
    done, _ = await asyncio.wait({task}, timeout=0.3)
    assert not done and not bulk.published
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("at", ["live", "bulk"])
async def test_a_member_that_is_stopped_is_left_out_until_it_answers_again(lane_of: type[Lane], release_of: Make, at: str) -> None:
    """A guide's clip does not wait for it, a recorder's until it is given up; nobody asks it in between, and it comes back by itself."""
    loaded = release_of({"one": (["a", "b"], 1.0, LOG_MEL), "two": (["a", "b"], 1.0, LOG_MEL)})
    lane, stopped = lane_of(loaded, at, sick_limit_s=0.0), loaded.release.members[1].triton_name
    lane.triton.broken = {stopped}
    for n in range(3):
        await lane.safe(lane.record(stream=f"s{n}"))
    assert [[one.member for one in answer.left_out] for answer in lane.answers] == [["two"]] * 3 and not lane.deaths
    fusions = [answer.fusion.weights for answer in lane.answers if answer.fusion]
    assert fusions == [{"one": 1.0}] * 3 and not any(answer.calibrated for answer in lane.answers)
    asked = [model for model, _, _ in lane.triton.asked].count(stopped)
    assert asked == 1, "nobody waits for it again"
    lane.triton.broken = set()
    await asyncio.gather(*lane.processor._sick._aside.values(), *lane.processor._sick._given_up.values())
    await lane.safe(lane.record(stream="well"))
    assert not lane.answers[-1].left_out


@pytest.mark.parametrize("at", ["live", "bulk"])
async def test_a_clip_that_kills_every_member_is_poison(lane_of: type[Lane], release_of: Make, at: str) -> None:
    """However they take turns in dying and healing: nobody behind it waits for more than a few tries."""
    loaded = release_of({"one": (["a", "b"], 1.0, LOG_MEL), "two": (["a", "b"], 1.0, LOG_MEL)})
    lane = lane_of(loaded, at)
    lane.triton.dies = {member.triton_name for member in loaded.release.members}
    await asyncio.wait_for(lane.safe(lane.record()), 20.0)
    assert [died.reason for died in lane.deaths] == [Reason.POISON] and not lane.answers
    assert len(lane.triton.asked) <= 4 * (POISON_FAILURES + 2)


async def test_where_all_members_are_stopped_the_clip_waits_aside(lane_of: type[Lane], release_of: Make, tmp_path: Path) -> None:
    """Also where the only one that takes its features is: that is no poison."""
    wave = FeatureSpec(kind="waveform", sample_rate=48_000)
    loaded = release_of({"own": (["a", "b"], 1.0, LOG_MEL), "birdnet": (["a", "b"], 1.0, wave)})
    lane = lane_of(loaded, sick_limit_s=0.0)
    lane.triton.broken = {member.triton_name for member in loaded.release.members}
    await lane.safe(lane.record())
    lane.triton.broken = {loaded.release.members[0].triton_name}
    np.save(tmp_path / "mels.npy", np.full((1, *LOG_MEL.shape), 0.5, np.float16))
    mels = (tmp_path / "mels.npy").read_bytes()
    await lane.safe(encode(clip(mels, content_type="application/x-npy", feature_fingerprint=LOG_MEL.fingerprint)))
    assert [died.reason for died in lane.deaths] == [Reason.MODEL_UNAVAILABLE] * 2 and not lane.answers


async def test_uploaded_log_mels_leave_out_the_members_that_hear_sound(lane_of: type[Lane], release_of: Make, tmp_path: Path) -> None:
    """The answer says so."""
    wave = FeatureSpec(kind="waveform", sample_rate=48_000)
    loaded = release_of({"own": (["a", "b"], 1.0, LOG_MEL), "birdnet": (["a", "b"], 1.0, wave)})
    lane = lane_of(loaded)
    np.save(tmp_path / "mels.npy", np.full((1, *LOG_MEL.shape), 0.5, np.float16))
    body = (tmp_path / "mels.npy").read_bytes()
    await lane.safe(encode(clip(body, content_type="application/x-npy", feature_fingerprint=LOG_MEL.fingerprint)))
    (answer,) = lane.answers
    assert [one.member for one in answer.left_out] == ["birdnet"] and [one.label for one in answer.detections] == ["a", "b"]
