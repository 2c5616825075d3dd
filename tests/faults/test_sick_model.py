"""One site's model is sick for longer than the limit: its clips wait aside, other sites are answered, and all comes back by itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Literal

import pytest

from consumers.model_server import build
from soundscape.errors import Reason
from soundscape.release import LoadedRelease, write_release
from soundscape.testing import Stack, ogg, running_stack, tone_release, wait_for
from soundscape.testing_log import Log, clip

LIMIT_S = 2
"""Of the probe, instead of ten seconds."""
SICK, WELL = 48, 16
"""Clips of either site, over streams that meet all partitions."""
FAULTS = {"fails": 'raise RuntimeError("switched off")', "hangs": "time.sleep(0.05)"}
RUNNER = '''

import os
import time

_answered = TritonPythonModel.execute


def _switched(self, requests):
    while os.path.exists({switch!r}):
        {fault}
    return _answered(self, requests)


TritonPythonModel.execute = _switched
'''
"""Added to the runner: while the switch is there, no inference succeeds, however often the model is loaded."""


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own that gives a model up after LIMIT_S."""
    with running_stack(tmp_path_factory.mktemp("hasty"), site="test", model_probe_limit_s=str(LIMIT_S)) as running:
        yield running


def two_members(releases: Path, name: str) -> LoadedRelease:
    """The release `tones`, twice: two members that answer alike."""
    one, other = (tone_release(releases / part, part) for part in (name, f"{name}-other"))
    second = other.release.members[0].model_copy(update={"name": "chimes", "file": "chimes.onnx"})
    shutil.copy2(other.folder / "model.onnx", one.folder / second.file)
    return write_release(one.folder, one.release.model_copy(update={"members": (*one.release.members, second)}))


def deploy_with_switch(stack: Stack, loaded: LoadedRelease, fault: str) -> Path:
    """Deploy a release, to a site of its name, whose first model is sick while the file that is returned is there."""
    site = loaded.release.name
    switch = stack.settings.root / f"{site}.off"
    member = loaded.release.members[0]
    build(stack.settings, loaded, member)  # the deployer leaves what it finds there
    runner = stack.settings.model_repository / member.triton_name / "1" / "model.py"
    runner.write_text(runner.read_text() + RUNNER.format(switch=str(switch), fault=fault))
    stack.run("deploy", site, "--site", site)
    return switch


@pytest.mark.slow
@pytest.mark.parametrize("how", FAULTS)
def test_a_sick_models_clips_wait_aside_and_are_answered_when_it_heals(hasty: Stack, how: str) -> None:
    """`model-unavailable` for each of its site's clips, on both lanes; nobody sends them again but the deployer."""
    stack, site = hasty, f"sick-{how}"
    switch = deploy_with_switch(stack, tone_release(stack.settings.releases / site, site), FAULTS[how])
    before = stack.audit()
    with Log(stack.settings) as log:

        def send(at: str, n: int) -> str:
            return log.send(clip(ogg(5.0, 2000.0 + n), site=at, stream=f"{site}-{at}-{n}", lane="bulk" if n % 4 == 0 else "live"))

        assert log.prediction(send(site, 1000)).site == site
        switch.touch()
        sick = [send(site, n) for n in range(SICK)]
        well = [send("test", n) for n in range(WELL)]
        for one in well:
            assert log.prediction(one, 180.0).site == "test"
        for one in sick:
            died, _ = log.death(one, 180.0)
            assert (died.reason, died.site) == (Reason.MODEL_UNAVAILABLE, site)
        late = send("test", WELL)
        assert log.prediction(late, 60.0).site == "test"
        assert not log.predictions.keys() & set(sick), "it was sick all the time"
        switch.unlink()
        for one in sick:
            assert log.prediction(one, 240.0).site == site
        assert not log.deaths.keys() - set(sick), "nobody else died"
    again = stack.post(ogg(5.0, 500.0), wait=30, tour_id=f"after-{how}")
    assert again.status_code == 200, again.text
    wait_for(lambda: stack.status()["deployer"]["healthy"], "the deployer to have no trouble")
    found = stack.audit()
    assert (found["lost"], found["twice"], found["dead"]) == (0, 0, before["dead"])
    assert found["accepted"] == found["predicted"] + found["dead"] == before["accepted"] + 1 + SICK + WELL + 2


@pytest.mark.slow
def test_a_member_that_is_stopped_is_left_out_and_comes_back(hasty: Stack) -> None:
    """On both lanes the other member answers, and the prediction says who did not; nobody is sent away."""
    stack, site = hasty, "two"
    switch = deploy_with_switch(stack, two_members(stack.settings.releases, site), FAULTS["fails"])
    with Log(stack.settings) as log:

        def left_out(n: int, lane: Literal["live", "bulk"]) -> list[str]:
            sent = log.send(clip(ogg(5.0, 2000.0 + n), site=site, stream=f"{site}-{lane}-{n}", lane=lane))
            answer = log.prediction(sent, 60.0)
            assert [found.label for found in answer.detections] == ["mid"]
            return [one.member for one in answer.left_out]

        assert left_out(0, "live") == left_out(1, "bulk") == []
        switch.touch()
        assert [left_out(2, "live"), left_out(3, "bulk"), left_out(4, "live"), left_out(5, "bulk")] == [["tones"]] * 4
        switch.unlink()
        numbers = count(10)
        wait_for(lambda: left_out(next(numbers), "live") == [], "the member to come back on the live lane")
        wait_for(lambda: left_out(next(numbers), "bulk") == [], "the member to come back on the bulk lane")
        assert not log.deaths
    found = stack.audit()
    assert (found["lost"], found["twice"]) == (0, 0)
