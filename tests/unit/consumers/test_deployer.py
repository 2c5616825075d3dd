"""The deployer's decisions, with a model server and a log in memory."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from consumers import deployer as module
from consumers import loans
from consumers.deployer import Deployer
from consumers.earning import Earning
from consumers.model_server import ModelServer, build, configuration
from soundscape import probe
from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.events import DeploymentStepped, Event, SiteDeployed
from soundscape.release import WEEKS, load_release, write_release
from soundscape.settings import Settings
from soundscape.testing import tone_release


class FakeServer:
    """Models that load and answer, unless they are said to be broken."""

    def __init__(self, story: list[str]) -> None:
        self.story = story
        self.there: set[str] = set()
        self.broken: set[str] = set()
        """Loaded, and silent until loaded again."""
        self.hopeless: set[str] = set()
        """Silent however often they are loaded."""
        self.answered: dict[str, tuple[int, int]] = {}
        self.away = False

    def loaded(self) -> set[str]:
        """As the real one."""
        if self.away:
            raise Unavailable("Triton does not answer")
        return set(self.there)

    def load(self, name: str) -> None:
        """As the real one."""
        self.story.append(f"load {name}")
        self.there.add(name)
        self.broken.discard(name)

    def unload(self, name: str) -> None:
        """As the real one."""
        self.story.append(f"unload {name}")
        self.there.discard(name)

    def counts(self, name: str) -> tuple[int, int]:
        """As the real one."""
        return self.answered.get(name, (0, 0))

    def probe(self, name: str, shape: tuple[int, ...], labels: int) -> bool:
        """As the real one."""
        self.story.append(f"probe {name}")
        return name in self.there and name not in self.broken | self.hopeless


class FakeLetters:
    """Sites whose waiting clips were sent again."""

    def __init__(self) -> None:
        self.asked: list[set[str]] = []

    def replay(self, sites: set[str]) -> int:
        """As the real one."""
        self.asked.append(set(sites))
        return 2


class World:
    """A deployer and what is around it."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings, self.story, self.said = settings, list[str](), list[Event]()
        self.server, self.letters = FakeServer(self.story), FakeLetters()
        monkeypatch.setattr(module, "ModelServer", lambda _: self.server)
        monkeypatch.setattr(module, "WaitingLetters", lambda _: self.letters)
        monkeypatch.setattr(module, "say", self._say)
        self.deployer = Deployer(settings)
        self.deployer._producer, self.deployer._read = None, True

    def _say(self, _: Any, topic: Any, event: Event) -> None:
        self.said.append(event)
        if isinstance(event, SiteDeployed):
            self.story.append(f"committed {event.champion.name}")

    def deploy(self, release: str, site: str = "s", **how: Any) -> SiteDeployed:
        """By command."""
        return self.deployer.deploy(site, release, **({"actor": "me", "seen": None, "accept_noncommercial": False} | how))

    def steps(self) -> list[str]:
        """What the deployment log says."""
        return [one.step for one in self.said if isinstance(one, DeploymentStepped)]

    def name(self, release: str) -> str:
        """Its model in Triton."""
        return load_release(self.settings.releases / release).release.members[0].triton_name


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three releases of one member each."""
    folder = tmp_path_factory.mktemp("releases")
    for release in ("one", "two", "three"):
        tone_release(folder / release, release)
    return folder


@pytest.fixture
def world(tmp_path: Path, releases: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """With these releases."""
    settings = Settings(data_dir=tmp_path, triton_instances=2)
    settings.model_repository.mkdir(parents=True)
    shutil.copytree(releases, settings.releases)
    return World(settings, monkeypatch)


def test_a_release_is_loaded_and_probed_before_it_is_committed(world: World) -> None:
    """Writing the event is the commit: no worker asks for a model that does not answer yet."""
    state = world.deploy("one")
    model = world.name("one")
    assert world.story == [f"load {model}", f"probe {model}", "committed one"]
    assert world.steps() == ["asked", "loaded", "committed"]
    assert (state.generation, state.champion.name, state.previous) == (1, "one", None)
    assert state.champion.digest == load_release(world.settings.releases / "one").digest
    assert world.deployer.states() == {"s": state}


def test_the_next_generation_names_its_predecessor(world: World) -> None:
    """So that there is a way back; a release deployed again keeps the one before it."""
    world.deploy("one")
    again = world.deploy("one")
    assert (again.generation, again.previous) == (2, None)
    second = world.deploy("two")
    assert (second.generation, second.previous and second.previous.name) == (3, "one")
    third = world.deploy("two")
    assert (third.generation, third.previous and third.previous.name) == (4, "one")


def test_a_release_that_does_not_answer_is_refused(world: World) -> None:
    """Nothing is committed, and the log says so."""
    world.server.hopeless.add(world.name("two"))
    world.deploy("one")
    with pytest.raises(Invalid) as said:
        world.deploy("two")
    assert said.value.reason == Reason.RELEASE_INVALID
    assert world.deployer.states()["s"].champion.name == "one" and world.steps()[-1] == "refused"


def test_a_release_that_is_not_there_is_refused(world: World) -> None:
    """Before anything is loaded or said."""
    with pytest.raises(Invalid):
        world.deploy("none")
    assert not world.story and not world.said


def test_a_command_names_the_generation_that_it_saw(world: World) -> None:
    """Another one in force means that somebody else was faster."""
    world.deploy("one", seen=0)
    with pytest.raises(Invalid, match="generation 1, not 0"):
        world.deploy("two", seen=0)
    assert world.deploy("two", seen=1).generation == 2


def test_a_noncommercial_member_wants_consent(world: World) -> None:
    """By name and licence."""
    folder = world.settings.releases / "one"
    release = load_release(folder).release
    member = release.members[0].model_copy(update={"noncommercial": True, "licence": "CC BY-NC-SA 4.0"})
    write_release(folder, release.model_copy(update={"members": (member,)}))
    with pytest.raises(Invalid, match=r"CC BY-NC-SA 4\.0"):
        world.deploy("one")
    assert world.deploy("one", accept_noncommercial=True).generation == 1


def test_triton_is_brought_to_what_the_states_name(world: World) -> None:
    """After its restart it holds nothing: champion and predecessor are loaded again; what no state names goes."""
    world.deploy("one")
    world.deploy("two")
    world.server.there = {"stranger-0123"}
    world.story.clear()
    world.deployer.reconcile()
    assert world.server.there == {world.name("one"), world.name("two")}
    assert "unload stranger-0123" in world.story and world.deployer.trouble == ""


def test_a_release_on_loan_is_served_until_it_is_given_back(world: World) -> None:
    """Loaded, probed and kept, though no state names it; what a state names stays loaded."""
    world.deploy("one")
    digests = {name: load_release(world.settings.releases / name).digest for name in ("one", "two")}
    first, second, own = (world.deployer.lend(name, digests[name]) for name in ("two", "two", "one"))
    world.deployer.reconcile()
    assert world.server.there == {world.name("one"), world.name("two")}
    world.deployer.give_back(first)
    world.deployer.give_back(own)
    world.deployer.reconcile()
    assert world.name("two") in world.server.there, "somebody else still measures it"
    world.deployer.give_back(second)
    world.deployer.reconcile()
    assert world.server.there == {world.name("one")}


def test_a_loan_that_nobody_gives_back_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.deployer.lend("two", load_release(world.settings.releases / "two").digest)
    monkeypatch.setattr(loans, "LONGEST_S", 0.0)
    world.deployer.lend("three", load_release(world.settings.releases / "three").digest)
    world.deployer.reconcile()
    assert world.server.there == {world.name("two")}


def test_what_does_not_answer_or_was_changed_is_not_lent(world: World) -> None:
    digest = load_release(world.settings.releases / "two").digest
    with pytest.raises(Invalid, match="changed"):
        world.deployer.lend("two", "0" * 64)
    world.server.hopeless.add(world.name("two"))
    with pytest.raises(Invalid, match="does not give a finite number"):
        world.deployer.lend("two", digest)
    world.deployer.reconcile()
    assert world.server.there == set()


def test_a_dead_stub_is_healed_and_its_clips_are_sent_again(world: World) -> None:
    """Its failures show in the counts; while it is sick its site's letters wait."""
    world.deploy("one")
    model = world.name("one")
    world.deployer.reconcile()
    world.server.broken.add(model)
    world.server.answered[model] = (0, 3)
    world.server.hopeless.add(model)
    world.letters.asked.clear()
    world.deployer.reconcile()
    assert model in world.deployer.trouble and not world.letters.asked
    world.server.hopeless.clear()
    world.story.clear()
    world.deployer.reconcile()
    assert world.deployer.trouble == "" and world.letters.asked == [{"s"}], "it came back by itself"
    world.server.broken.add(model)
    world.server.answered[model] = (0, 4)
    world.deployer.reconcile()
    assert f"load {model}" in world.story and "healed" in world.steps() and world.deployer.trouble == ""


def test_a_sick_model_that_no_state_names_any_more_is_forgotten(world: World) -> None:
    """The site has another release: nothing is wrong, and its letters are sent again."""
    world.deploy("one")
    world.server.hopeless.add(world.name("one"))
    world.deployer._seen.clear()
    world.deployer.reconcile()
    assert world.deployer.trouble
    world.deploy("two")
    world.deploy("three")
    world.letters.asked.clear()
    world.deployer.reconcile()
    assert world.deployer.trouble == "" and world.letters.asked == [{"s"}]


def test_the_sick_model_of_one_site_holds_up_no_other(world: World) -> None:
    """The other site's letters are sent again."""
    world.deploy("one", site="a")
    world.deploy("two", site="b")
    world.server.broken.add(world.name("one"))
    world.server.hopeless.add(world.name("one"))
    world.letters.asked.clear()
    world.deployer.reconcile()
    assert world.letters.asked == [{"b"}]


def test_a_model_that_answers_clips_is_not_probed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that nobody asked is, now and then; one that failed is, at once."""
    world.deploy("one")
    model = world.name("one")
    world.deployer.reconcile()
    probe = f"probe {model}"
    world.story.clear()
    for succeeded in (5, 10):
        world.server.answered[model] = (succeeded, 0)
        world.deployer.reconcile()
    world.deployer.reconcile()
    assert probe not in world.story
    monkeypatch.setattr(module, "PROBE_S", 0.0)
    world.deployer.reconcile()
    assert world.story.count(probe) == 1
    monkeypatch.setattr(module, "PROBE_S", 1e9)
    world.server.answered[model] = (11, 1)
    world.deployer.reconcile()
    assert world.story.count(probe) == 2


def test_an_absent_model_server_is_said_and_nothing_is_unloaded(world: World) -> None:
    """Unavailable passes: the loop says it and tries again."""
    world.deploy("one")
    world.server.away = True
    with pytest.raises(Unavailable):
        world.deployer.reconcile()


def test_a_release_that_was_changed_after_its_deployment_is_not_served(world: World) -> None:
    """Its digest differs: the model that is loaded stays unnamed and goes."""
    world.deploy("one")
    world.deployer._releases.clear()
    _retouch(world.settings.releases / "one" / "release.json")
    world.deployer.reconcile()
    assert world.server.there == set()


def test_a_release_that_cannot_be_read_holds_up_no_other_site(world: World) -> None:
    """A file where its folder was: the other site's models are served all the same."""
    world.deploy("one", site="a")
    world.deploy("two", site="b")
    world.deployer._releases.clear()
    shutil.rmtree(world.settings.releases / "one")
    (world.settings.releases / "one").touch()
    world.server.there.clear()
    world.deployer.reconcile()
    assert world.server.there == {world.name("two")}
    with pytest.raises(Invalid, match="cannot be read"):
        world.deploy("one", site="c")


def test_a_release_with_a_prior_that_does_not_fit_is_refused(world: World) -> None:
    """Before anything is loaded: once deployed, each clip of the site would die of it."""
    folder = world.settings.releases / "one"
    np.save(folder / "prior.npy", np.ones((WEEKS, 2), np.float32))
    path = folder / "release.json"
    path.write_text(path.read_text().replace('"prior_file": null', '"prior_file": "prior.npy"'))
    with pytest.raises(Invalid, match=r"its prior is float32 \(48, 2\)"):
        world.deploy("one")
    assert not world.story and not world.said


# Promotion


def _retouch(path: Path) -> None:
    path.write_text(path.read_text().replace('"threshold": 0.5', '"threshold": 0.6'))


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda folder: (folder / "model.onnx").write_bytes(b"another"), "model.onnx is not the file that was released"),
        (lambda folder: (folder / "model.onnx").unlink(), "model.onnx is missing from the release"),
        (lambda folder: _retouch(folder / "release.json"), "its digest differs"),
        (lambda folder: shutil.rmtree(folder), "There is no release at"),
    ],
    ids=["another model", "no model", "another threshold", "no folder"],
)
def test_a_candidate_whose_files_no_longer_fit_is_not_promoted(world: World, harm: Callable[[Path], Any], reason: str) -> None:
    """Not by force either; who answered before answers on, and nothing is said on the log. Whole again, it is promoted."""
    earning = Earning(world.settings, world.deployer)
    world.deploy("one")
    offered = earning.offer("s", "two", actor="me", seen=None, force=True, accept_noncommercial=False)
    folder, kept = world.settings.releases / "two", world.settings.root / "kept"
    shutil.copytree(folder, kept)
    harm(folder)
    said = len(world.said)
    for force in (False, True):
        with pytest.raises(Invalid, match=reason) as refused:
            earning.promote("s", actor="me", seen=None, force=force)
        assert refused.value.reason == Reason.RELEASE_INVALID
    assert world.deployer.states() == {"s": offered} and len(world.said) == said
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(kept, folder)
    assert earning.promote("s", actor="me", seen=None, force=True).champion.name == "two"


# The model repository


def test_a_member_is_laid_into_the_repository_whole(world: World) -> None:
    """Runner, model and configuration, with the numbers of release and settings; a second time there is nothing to do."""
    loaded = load_release(world.settings.releases / "one")
    member = loaded.release.members[0]
    build(world.settings, loaded, member)
    folder = world.settings.model_repository / member.triton_name
    text = (folder / "config.pbtxt").read_text()
    assert 'backend: "python"' in text and "dims: [ 128, 320 ]" in text and "dims: [ 3 ]" in text and "count: 2" in text
    assert text == configuration(world.settings, loaded, member)
    assert (folder / "1" / "model.onnx").read_bytes() == (loaded.folder / "model.onnx").read_bytes()
    (folder / "config.pbtxt").write_text("ours")
    build(world.settings, loaded, member)
    assert (folder / "config.pbtxt").read_text() == "ours" and len(list(world.settings.model_repository.iterdir())) == 1


def test_loading_makes_the_model_look_changed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton passes over an unchanged model, and its dead instances stay dead."""
    loaded = load_release(world.settings.releases / "one")
    member = loaded.release.members[0]
    build(world.settings, loaded, member)
    file = world.settings.model_repository / member.triton_name / "1" / "model.py"
    seen: list[int] = []

    class Client:
        def __init__(self, _: str) -> None: ...

        def load_model(self, name: str, client_timeout: float) -> None:
            seen.append(file.stat().st_mtime_ns)

    monkeypatch.setattr("consumers.model_server.triton.InferenceServerClient", Client)
    server = ModelServer(world.settings)
    for _ in range(3):
        server.load(member.triton_name)
    assert len(set(seen)) == 3


@pytest.mark.parametrize("instances", [1, 2, 8])
def test_a_probe_meets_each_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instances: int) -> None:
    """One dead instance of many is found, wherever it stands; each inference is a batch that Triton joins with no other."""
    turns, dead, windows = itertools.count(), set[int](), list[int]()

    class Client:
        def __init__(self, _: str) -> None: ...

        def infer(self, name: str, inputs: list[Any], *, priority: int, client_timeout: float) -> Any:
            windows.append(inputs[0].shape()[0])
            if next(turns) % instances in dead:
                raise InferenceServerException("the stub died")
            return type("Answer", (), {"as_numpy": lambda self, _: np.full((windows[0], 3), 0.5, np.float32)})()

        def is_server_live(self, client_timeout: float) -> bool:
            return True

    monkeypatch.setattr("consumers.model_server.triton.InferenceServerClient", Client)
    server = ModelServer(Settings(data_dir=tmp_path, triton_instances=instances))
    assert server.probe("one", (2, 3), 3)
    for number in range(instances):
        dead.clear()
        dead.add(number)
        assert not server.probe("one", (2, 3), 3), number
    assert set(windows) == {4}


def test_what_a_probe_sends_is_the_batch_that_triton_prefers(world: World) -> None:
    """Else two of its inferences are answered as one, by one instance."""
    loaded = load_release(world.settings.releases / "one")
    assert f"preferred_batch_size: [ {probe.WINDOWS} ]" in configuration(world.settings, loaded, loaded.release.members[0])


def test_a_release_that_was_changed_after_it_was_deployed_is_said_once_and_until_it_is_back(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Its site's clips die of it: a deployer that called itself healthy would leave nobody to find out."""
    world.deploy("one")
    world.deployer._releases.clear()  # as after a restart
    manifest = world.settings.releases / "one" / "release.json"
    before = manifest.read_bytes()
    loaded = load_release(world.settings.releases / "one")
    write_release(loaded.folder, loaded.release.model_copy(update={"created_at": "2020-01-01T00:00:00+00:00"}))
    world.deployer.reconcile()
    world.deployer.reconcile()
    assert "site s: Release one is refused: it was changed" in world.deployer.trouble
    assert len([one for one in caplog.records if "it was changed" in one.getMessage()]) == 1
    manifest.write_bytes(before)
    world.deployer.reconcile()
    assert world.deployer.trouble == ""
