"""The benchmarks' candidate: another release with the same answers, and the site as it was when the benchmark ends, however it ends."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import onnx
import pytest

from monitoring import beside
from monitoring.bench_site import SITE
from soundscape import deployments
from soundscape.errors import Invalid, Reason
from soundscape.events import ReleaseRef, SiteDeployed
from soundscape.release import LoadedRelease, load_release
from soundscape.settings import Settings
from soundscape.testing import tone_release


class Site:
    """The deployer as far as a rollback goes: the states of its one site, and the commands that it was given."""

    def __init__(self, champion: ReleaseRef) -> None:
        self.state = SiteDeployed(site=SITE, generation=1, champion=champion, reason="", actor="ana", at=datetime.now(UTC))
        self.commands: list[tuple[str, ...]] = []
        self.refuses = False

    def offer(self, name: str) -> None:
        """A candidate is there."""
        self.state = self.state.model_copy(update={"candidate": ReleaseRef(name=name, digest="c"), "stage": "shadow"})

    def promote(self) -> None:
        """It is champion."""
        self.state = self.state.model_copy(
            update={"champion": self.state.candidate, "previous": self.state.champion, "candidate": None, "stage": "champion"}
        )

    def command(self, *arguments: str) -> str:
        """Roll back, as the deployer would."""
        self.commands.append(arguments)
        if self.refuses:
            raise Invalid(Reason.BAD_REQUEST, "The deployer does not answer.")
        if self.state.candidate is not None:
            self.state = self.state.model_copy(update={"candidate": None, "stage": "champion"})
        else:
            self.state = self.state.model_copy(update={"champion": self.state.previous, "previous": self.state.champion})
        return ""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
def champion(settings: Settings) -> LoadedRelease:
    return tone_release(settings.releases / SITE, SITE)


@pytest.fixture
def site(champion: LoadedRelease, monkeypatch: pytest.MonkeyPatch) -> Site:
    there = Site(ReleaseRef(name=SITE, digest=champion.digest))
    monkeypatch.setattr(deployments, "read_states", lambda _: {SITE: there.state})
    monkeypatch.setattr(beside, "soundscape", there.command)
    return there


def test_the_copy_is_a_release_and_a_model_of_its_own(settings: Settings, champion: LoadedRelease, site: Site) -> None:
    name = beside.copy_champion(settings)
    copy = load_release(settings.releases / name)
    assert copy.release.name == name != SITE
    assert copy.digest != champion.digest
    ours, theirs = copy.release.members[0], champion.release.members[0]
    assert ours.triton_name != theirs.triton_name, "Triton would serve the champion's model for both"
    assert onnx.load(copy.folder / ours.file).graph == onnx.load(champion.folder / theirs.file).graph
    assert load_release(champion.folder, champion.digest).release == champion.release, "the champion is as it was"


def test_a_copy_that_holds_is_used_again_and_half_of_one_is_not(settings: Settings, champion: LoadedRelease, site: Site) -> None:
    name = beside.copy_champion(settings)
    digest = load_release(settings.releases / name).digest
    assert beside.copy_champion(settings) == name
    assert load_release(settings.releases / name).digest == digest, "a state may still name it"
    (settings.releases / name / champion.release.members[0].file).unlink()
    assert load_release(settings.releases / beside.copy_champion(settings)).release.name == name


def test_what_is_not_there_or_no_onnx_is_not_copied(settings: Settings, champion: LoadedRelease, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployments, "read_states", lambda _: {})
    with pytest.raises(Invalid, match="no release to be copied"):
        beside.copy_champion(settings)


@pytest.mark.parametrize("far", ["nothing was offered", "offered", "promoted", "offered again after a promotion"])
def test_the_site_is_as_it_was_however_far_it_came(settings: Settings, site: Site, far: str) -> None:
    before = site.state.champion
    with beside.beside(settings) as name:
        if far != "nothing was offered":
            site.offer(name)
        if "promot" in far:
            site.promote()
        if "again" in far:
            site.offer(name)
    assert (site.state.champion, site.state.candidate) == (before, None)
    assert all(command[:4] == ("rollback", "--site", SITE, "--generation") for command in site.commands)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_site_is_as_it_was_when_the_benchmark_is_interrupted(settings: Settings, site: Site, how: signal.Signals) -> None:
    before, usual = site.state.champion, signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), beside.beside(settings) as name:
        site.offer(name)
        site.promote()
        os.kill(os.getpid(), how)
    assert (site.state.champion, site.state.candidate) == (before, None)
    assert signal.getsignal(signal.SIGTERM) == usual


def test_what_a_killed_run_has_left_is_taken_back_first(settings: Settings, site: Site) -> None:
    site.offer(beside.copy_champion(settings))
    site.promote()
    with beside.beside(settings) as name:
        assert site.state.champion.name == SITE
        assert name == beside.copy_champion(settings), "a copy of the champion, not of the copy"


def test_somebody_elses_candidate_stays(settings: Settings, site: Site) -> None:
    site.offer("merged-1")
    with beside.beside(settings):
        pass
    assert site.state.candidate is not None
    assert site.commands == []


def test_a_copy_that_stays_is_said_with_the_cure(settings: Settings, site: Site) -> None:
    said = r"still has bench-beside-\w+: The deployer does not answer.; run `soundscape rollback --site bench`"
    with pytest.raises(Invalid, match=said), beside.beside(settings) as name:
        site.offer(name)
        site.refuses = True
