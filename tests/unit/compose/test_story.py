"""The story, told on a log that a test writes: with any one thing broken it ends non-zero, and what it calls evidence lies on the log."""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid5

import pytest
from click.testing import CliRunner, Result

from compose import demo_story, story_log, story_steps, story_tale, story_trial
from compose.demo_story import StepFailed
from compose.story import SETTINGS, story
from compose.story_people import USERS, Sent, Truth
from compose.story_steps import STEPS
from compose.story_tale import SITE, Tale
from soundscape.canary import role_of
from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.events import (
    NAMESPACE,
    ClipAnalysed,
    ClipLabelled,
    ClipSampled,
    DeploymentStepped,
    Event,
    FeedbackGiven,
    Place,
    ReleaseRef,
    Share,
    SiteDeployed,
    Stages,
    TourMoved,
    TourSpecies,
    TourSummed,
)
from soundscape.settings import get_settings
from soundscape.topics import (
    DEPLOYMENT_LOG,
    DEPLOYMENTS,
    FEEDBACK,
    LABELS,
    PREDICTIONS,
    SAMPLES,
    SHADOW_PREDICTIONS,
    TOPICS,
    TOUR_EVENTS,
    TOURS,
    Topic,
)

CHAMPION, RETRAINED = "forest-1", "merged-1"
ROTATED = f"{RETRAINED}-rotated"
POISONED_CLIPS = 40
"""After which this deployer raises its alarm."""


def ref(name: str) -> ReleaseRef:
    """A release with a digest of its own."""
    return ReleaseRef(name=name, digest=f"digest-of-{name}")


class World:
    """A log, and all who write to it, as far as the story meets them. `broken` names what goes wrong."""

    def __init__(self, broken: str = "") -> None:
        self.broken = broken
        self.log: dict[str, list[Event]] = {topic.name: [] for topic in TOPICS}
        self.state: SiteDeployed | None = None
        self.commands: list[str] = []
        self.judged: Counter[str] = Counter()
        self.started: dict[str, datetime] = {}
        self.poisoned: list[str] = []
        self.trials = 0
        self.audit = {"waiting": 0, "accepted": 9, "predicted": 9, "dead": 0, "lost": 0, "twice": 0}
        self.audit_code = 0

    # The log

    def say(self, topic: Topic, event: Event) -> Place:
        """Append an event; all lies in partition 0."""
        self.log[topic.name].append(event)
        return Place(topic=topic.name, partition=0, offset=len(self.log[topic.name]) - 1)

    def events(self, _: object, topic: Topic, kind: type[Event], wanted: Callable[[Any], bool]) -> dict[str, Any]:
        """As compose.story_log reads them."""
        assert kind is topic.event
        return {f"{topic.name}:0:{n}": event for n, event in enumerate(self.log[topic.name]) if wanted(event)}

    def ends(self, _: object) -> dict[str, int]:
        """The same of the topics."""
        return {name: len(there) for name, there in self.log.items() if (name, self.broken) != (LABELS.name, "a topic is missing")}

    def step(self, step: Any, release: str, detail: str) -> None:
        """A word on `deployment-log`."""
        event = DeploymentStepped(site=SITE, generation=1, step=step, release=release, detail=detail, at=datetime.now(UTC))
        self.say(DEPLOYMENT_LOG, event)

    def become(self, **changes: Any) -> None:
        """Another state of the site."""
        if self.state is None:
            self.state = SiteDeployed(site=SITE, generation=1, reason="", actor="ana", at=datetime.now(UTC), **changes)
        else:
            self.state = self.state.model_copy(update={"generation": self.state.generation + 1, "actor": "ana", **changes})
        self.say(DEPLOYMENTS, self.state)

    # The forward path

    def answer(self, clip: UUID, tour: str, n: int) -> str:
        """A clip is answered, and by the other release beside; the release that the guide saw."""
        assert self.state is not None
        candidate = self.state.candidate
        role = role_of(self.state, tour, self.started.get(tour))
        mine, other = (candidate, self.state.champion) if role == "canary" else (self.state.champion, candidate)
        assert mine is not None
        name = mine.name
        stage, broken = self.state.stage, self.broken
        if broken == "another release answers" and n == 3:
            name = "another"
        if broken == "a guide sees the candidate in the shadow" and stage == "shadow" and candidate is not None:
            name = candidate.name
        if broken == "a tour under way changes" and stage == "canary" and not tour.endswith("-canary") and candidate is not None:
            name = candidate.name
        if broken == "a tour hears two releases" and tour.endswith("-canary") and n % 3 == 0 and candidate is not None:
            name = candidate.name
        if broken == "the canary answers nobody" and stage == "canary":
            name = self.state.champion.name
        if broken == "the old champion still answers" and self.state.previous is not None and stage == "champion":
            name = self.state.previous.name
        if not (broken == "an answer is lost" and n == 3):
            self.say(PREDICTIONS, self.analysed(clip, tour, name, n))
        if other is not None and broken != "the shadow is silent":
            beside = "another" if broken == "the shadow is another release's" else other.name
            self.say(SHADOW_PREDICTIONS, self.analysed(clip, tour, beside, n))
        return name

    def analysed(self, clip: UUID, tour: str, release: str, n: int) -> ClipAnalysed:
        """A release's answer of a clip."""
        now = datetime.now(UTC)
        return ClipAnalysed(
            clip_id=clip, stream=tour, site=SITE, tour_id=tour, place=Place(topic="clips", partition=0, offset=n), release=release,
            release_digest=ref(release).digest, generation=1, feature_fingerprints=("f",), labels=("wren",), windows=(), detections=(),
            stages=Stages(published=now, received=now, decoded=now, features=now, inferred=now, predicted=now),
        )  # fmt: skip

    def sampled(self, clip: str, tour: str, reasons: str) -> None:
        """A sample."""
        sound = b"" if self.broken == "a sample has no sound" else b"OggS"
        self.say(SAMPLES, ClipSampled(
            clip_id=UUID(clip), stream=tour, site=SITE, reason="random", probability=1.0, reasons=reasons,
            topic="clips", partition=0, offset=1, sampled_at=datetime.now(UTC), audio=sound,
        ))  # fmt: skip

    def moderate(self, tour: str) -> None:
        """The deployer hears of a poisoned clip, and raises its alarm."""
        assert self.state is not None
        if self.state.candidate != ref(ROTATED) or len(self.poisoned) < POISONED_CLIPS or self.broken == "no alarm":
            return
        if self.broken != "the alarm is not on the log":
            clips = "" if self.broken == "the alarm names no clip" else ", ".join(self.poisoned[:10])
            self.step("alarmed", ROTATED, f"alarm (disagreement): they differ; clips {clips}")
        actor = "ana" if self.broken == "somebody else ends it" else "deployer"
        self.become(candidate=None, stage="champion", share=0.0, actor=actor, reason="alarm (disagreement)")

    # The commands

    def run(self, *arguments: str) -> list[str]:
        """Run a command that must succeed."""
        code, lines, _ = self.ask(*arguments)
        if code:
            raise StepFailed(f"`soundscape {' '.join(arguments)}` ended with {code}.")
        return lines

    def ask(self, *arguments: str) -> tuple[int, list[str], list[str]]:
        """Run a command: exit code, its lines, its complaints."""
        self.commands.append(" ".join(arguments))
        if self.broken == f"`{arguments[0]}` fails":
            return 2, [], []
        said: Any = getattr(self, f"do_{arguments[0]}", lambda *_: None)(*arguments[1:])
        code = self.audit_code if arguments[0] == "audit" else int(arguments[0] == "gate" and not said["passed"])
        return code, said if isinstance(said, list) and "--json" not in arguments else [json.dumps(said)], []

    def do_status(self, *_: str) -> Any:
        return [{"name": "kafka", "healthy": True}, {"name": "tours", "healthy": self.broken != "a process is sick"}]

    def do_train(self, *_: str) -> Any:
        return ["epoch 1/1", CHAMPION]

    def do_deploy(self, name: str, *_: str) -> None:
        if self.broken != "nothing is deployed":
            self.become(champion=ref("another" if self.broken == "another champion is deployed" else name))

    def do_key(self, *_: str) -> Any:
        return ["Key ana: se_key"]

    def do_quality(self, *_: str) -> Any:
        completed = {"nothing is completed": 0, "more is completed than labelled": 10**6}.get(self.broken, 3)
        return {"completed": completed, "overall": {CHAMPION: [{"value": 0.9}, {"value": 0.8}]} if completed else {}}

    def do_replay(self, *arguments: str) -> Any:
        folder, again = Path(arguments[-2]), "--from-offsets" in arguments
        folder.mkdir(parents=True)
        clips = [str(one.clip_id) for one in self.log[LABELS.name] if isinstance(one, ClipLabelled)]
        rows = [] if self.broken == "the dataset is empty" else [*clips, *["foreign"] * (self.broken == "a foreign clip is in the dataset")]
        for name, part in (("train.csv", rows[::2]), ("background.csv", rows[1::2])):
            (folder / name).write_text("filename,clip_id\n" + "".join(f"x.ogg,{clip}\n" for clip in part))
        end = 2 if self.broken == "a clip lies outside the stretch" else 10**6
        digest = f"digest-{again}" if self.broken == "the second digest differs" else "digest"
        return {"digest": digest, "offsets": {"from": {"clips": {"0": 0}}, "to": {"clips": {"0": end}}}}

    def do_retrain(self, *_: str) -> Any:
        forgetting = None if self.broken == "forgetting is not measured" else {"mean": 0.0}
        return {"release": RETRAINED, "forgetting": forgetting, "learning": None}

    def named_release(self, _: Path, name: str) -> Any:
        """What lies in the release's folder."""
        if self.broken == "the retrained release does not hold":
            raise Invalid(Reason.RELEASE_INVALID, "Its model is missing.")
        began = ref("another" if self.broken == "it is begun with another release" else CHAMPION).digest
        metrics = {"training": {"plan": {"begins_with": began}}}
        return SimpleNamespace(digest=ref(name).digest, release=SimpleNamespace(metrics=metrics))

    def do_gate(self, name: str, *_: str) -> Any:
        passed = name == RETRAINED and self.broken != "the gate refuses the candidate"
        passed = passed or (name == ROTATED and self.broken == "the gate lets the rotated one past")
        if self.broken != "the gate says nothing on the log":
            self.step("gated", name, "passed the gate" if passed else "refused by the gate: labels")
        return {"passed": passed, "reasons": [] if passed else ["labels: they fit others"]}

    def do_candidate(self, name: str, *_: str) -> None:
        if self.broken != "the candidate is not taken":
            self.become(candidate=ref(name), stage="shadow")

    def do_canary(self, share: str, *_: str) -> None:
        wide = 1.0 if self.broken == "the canary answers everybody" else float(share)
        self.become(stage="canary", share=wide, shares=(Share(share=wide, since=datetime.now(UTC)),))

    def do_trial(self, *_: str) -> Any:
        self.trials += 1
        if self.trials == 2 and self.broken == "the candidate goes during the canary":
            self.become(candidate=None, stage="champion", share=0.0)
        return {"missing": [] if self.trials > 2 and self.broken != "the trial always lacks something" else ["clips of mobile users"]}

    def do_promote(self, *_: str) -> None:
        assert self.state is not None
        if self.broken != "the promotion is not in force":
            self.become(champion=self.state.candidate, previous=self.state.champion, candidate=None, stage="champion", share=0.0)

    def do_explain(self, clip: str, *_: str) -> Any:
        place, answer = list(self.events(None, PREDICTIONS, ClipAnalysed, lambda one: str(one.clip_id) == clip).items())[-1]
        given = [one.feedback_id for one in self.events(None, FEEDBACK, FeedbackGiven, lambda one: str(one.clip_id) == clip).values()]
        return {
            "place": "predictions:0:9999" if self.broken == "another answer is explained" else place,
            "clip": {"place": str(answer.place)},
            "release": {"digest": answer.release_digest},
            "windows": [] if self.broken == "the explanation is empty" else [{}],
            "thresholds": {"wren": 0.5},
            "feedback": [] if self.broken == "the explanation lacks the judgement" else [{"feedback_id": one} for one in given],
        }

    def do_audit(self, *_: str) -> Any:
        return self.audit


class Guide:
    """A guide of that world; also its own door."""

    def __init__(self, world: World) -> None:
        self.world, self.door = world, self

    def ask(self, method: str, path: str, json: dict[str, Any]) -> None:
        """Start a tour."""
        assert (method, path) == ("POST", "/v1/tours")
        self.world.started[json["tour_id"]] = datetime.now(UTC)
        if not (self.world.broken == "a tour's start is lost" and json["tour_id"].endswith("-0")):
            self.world.say(TOUR_EVENTS, TourMoved(tour_id=json["tour_id"], site=SITE, what="started", by="ana", at=datetime.now(UTC)))

    def walk(self, tours: list[str], clips: list[Truth], first: int = 0) -> list[Sent]:
        """Send clips; every third answer is wrong, and every second clip is sampled."""
        sent = []
        for n, truth in enumerate(clips):
            clip, tour = uuid5(NAMESPACE, f"{first + n}"), tours[n % len(tours)]
            release = self.world.answer(clip, tour, first + n)
            if n % 2 == 0:
                self.world.sampled(str(clip), tour, "random")
            if release == ROTATED:
                self.world.poisoned.append(str(clip))
            right = n % 3 != 0
            heard = frozenset() if self.world.broken == "nothing to judge" else truth.labels if right else frozenset({"frog"})
            there = frozenset() if self.world.broken == "nothing to judge" else truth.labels
            sent.append(Sent(str(clip), tour, USERS[n % 3], there, heard, release))
            self.world.moderate(tour)
        return sent

    def judge(self, sent: Sent) -> str:
        """Judge an answer: it is on the log, the tour corrects itself, and the clip is sampled."""
        world, feedback_id = self.world, f"of-{sent.clip_id}"
        place = Place(topic="clips", partition=0, offset=0)
        if not (world.broken == "a judgement is lost" and not world.judged):
            world.say(FEEDBACK, FeedbackGiven(
                feedback_id=feedback_id, clip_id=UUID(sent.clip_id), stream=sent.stream, site=SITE, verdict="wrong", release=sent.release,
                clip_place=place, answer_place=place, by="ana", given_at=datetime.now(UTC),
            ))  # fmt: skip
        world.judged[sent.stream] += 1
        wren = TourSpecies(
            label="wren", status="confirmed", clips=1, windows=1, confidence=0.9, by_person=world.broken != "no person settles a species"
        )
        world.say(TOURS, TourSummed(
            tour_id=sent.stream, site=SITE, species=("wren",), clips=1, at=datetime.now(UTC), heard=(wren,),
            feedback=0 if world.broken == "a tour does not correct itself" else world.judged[sent.stream],
        ))  # fmt: skip
        if world.broken != "no flagged clip is sampled":
            world.sampled(sent.clip_id, sent.stream, "random,flagged")
        return feedback_id


class Labeler:
    """A labeler of that world: has three random samples, once."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name, self.left = world, name, 0 if world.broken == "the queues are empty" else 3

    def work(self, truth_of: dict[str, frozenset[str]], most: int) -> list[str]:
        """Label what is left."""
        labels = []
        for clip in list(truth_of)[: self.left]:
            label = f"{self.name}-{clip}"
            labels.append(label)
            if not (self.world.broken == "a label is lost" and len(labels) == 1):
                self.world.say(LABELS, ClipLabelled(
                    label_id=label, clip_id=UUID(clip), stream="s", site=SITE, start_s=0.0, end_s=5.0, verdict="nothing", by=self.name,
                    provenance="page", stratum="random", labelled_at=datetime.now(UTC),
                ))  # fmt: skip
        self.left = 0
        return labels


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Result, World]]]:
    """Tell the story in a world; returns how the command ended."""
    usual = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv("SOUNDSCAPE_DATA_DIR", str(tmp_path))
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)

    def tell(world: World, *arguments: str) -> tuple[Result, World]:
        monkeypatch.setattr(demo_story.Story, "run", lambda _, *said, **__: world.run(*said))
        monkeypatch.setattr(demo_story.Story, "ask", lambda _, *said: world.ask(*said))
        for module in (story_steps, story_tale, story_trial):
            monkeypatch.setattr(module, "events", world.events)
        for module in (story_steps, story_trial):
            monkeypatch.setattr(module, "until", lambda look, what: story_log.until(look, what, 0.0))
        monkeypatch.setattr(story_steps, "ends", world.ends)
        monkeypatch.setattr(story_steps, "truths", lambda _: iter([Truth(b"OggS", frozenset({"wren"}))] * 20))
        monkeypatch.setattr(story_steps, "Guide", lambda *_: Guide(world))
        monkeypatch.setattr(story_steps, "Labeler", lambda _, name, *__: Labeler(world, name))
        monkeypatch.setattr(story_steps, "named_release", world.named_release)
        monkeypatch.setattr(story_trial, "rotate", lambda _, release: f"{release}-rotated")
        return CliRunner().invoke(story, ["--json", *arguments]), world

    yield tell
    signal.signal(signal.SIGTERM, usual)
    get_settings.cache_clear()


Told = Callable[..., tuple[Result, World]]
BROKEN = {
    "stack": {
        "a process is sick": "A process is not healthy", "a topic is missing": "The log lacks topics: labels",
        "`up` fails": "`soundscape up`",
    },
    "champion": {
        "another champion is deployed": "answered by another", "nothing is deployed": "Nothing is deployed",
        "`train` fails": "ended with 2",
    },
    "tours": {
        "a tour's start is lost": "A tour's start is not on the log", "an answer is lost": "A clip's answer is not on the log",
        "another release answers": "answered by another release",
    },
    "feedback": {
        "nothing to judge": "There was nothing to judge", "a judgement is lost": "A judgement is not on the log",
        "a tour does not correct itself": "Not within .* summaries with the guides' judgements",
        "no person settles a species": "settled by a person",
    },
    "samples": {"no flagged clip is sampled": "Not within .* random and flagged samples", "a sample has no sound": "A sample has no sound"},
    "labels": {"the queues are empty": "The queues were empty", "a label is lost": "A label is not on the log"},
    "quality": {"nothing is completed": "the quality is not known", "more is completed than labelled": "that nobody has labelled"},
    "replay": {
        "the second digest differs": "gave another digest", "the dataset is empty": "nothing to learn from",
        "a foreign clip is in the dataset": "none of this story's", "a clip lies outside the stretch": "outside the stretch",
    },
    "retraining": {
        "it is begun with another release": "not begun with the champion", "forgetting is not measured": "What it forgot",
        "the retrained release does not hold": "Its model is missing", "`retrain` fails": "ended with 2",
    },
    "gate": {
        "the gate refuses the candidate": "The gate refused merged-1: ..labels",
        "the gate lets the rotated one past": "let merged-1-rotated past",
        "the gate says nothing on the log": "does not say that merged-1 was gated",
    },
    "shadow": {
        "the candidate is not taken": "not in the shadow", "a guide sees the candidate in the shadow": "A guide saw the candidate",
        "the shadow is silent": "Not within .* the shadow's answers", "the shadow is another release's": "another release's",
    },
    "canary": {
        "a tour under way changes": "under way changed its release",
        "the trial always lacks something": "The trial still lacks", "a tour hears two releases": "A tour heard two releases",
        "the canary answers everybody": "all or none", "the canary answers nobody": "all or none",
        "the candidate goes during the canary": "on the canary no more",
    },
    "promotion": {"the promotion is not in force": "answered by forest-1", "the old champion still answers": "by the old champion"},
    "alarm": {
        "no alarm": "no alarm within 200 clips", "somebody else ends it": "not the alarm that ended it",
        "the alarm is not on the log": "does not say that merged-1-rotated was alarmed", "the alarm names no clip": "names no clip",
    },
    "explanation": {
        "the explanation is empty": "Nothing explains", "another answer is explained": "is another answer's",
        "the explanation lacks the judgement": "lacks the judgement", "`explain` fails": "ended with 2",
    },
}  # fmt: skip
"""By step: what is broken, and what the story says of it."""
NAMES = [name for name, _, _ in STEPS]


def ending(result: Result) -> dict[str, Any]:
    """The object that the command ends with."""
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def test_every_step_is_broken_in_some_way() -> None:
    assert list(BROKEN) == NAMES


def test_the_story_holds_and_all_its_places_lie_on_the_log(told: Told) -> None:
    result, world = told(World())
    said = ending(result)
    assert result.exit_code == 0, said
    assert list(said) == ["steps", "audit", "releases"]
    assert [(one["name"], one["ok"]) for one in said["steps"]] == [(name, True) for name in NAMES]
    assert said["audit"] == world.audit
    assert said["releases"] == [CHAMPION, RETRAINED]
    assert world.commands[-2:] == ["audit --json", "down"]
    for one in said["steps"][1:]:
        places = re.findall(r"\b([a-z-]+):0:(\d+)\b", json.dumps(one["evidence"]))
        assert places, f"{one['name']} shows nothing of the log"
        there = {topic: len(events) for topic, events in world.log.items()} | {"clips": 10**6}
        assert all(int(offset) < there[topic] for topic, offset in places), one
    assert said["steps"][0]["evidence"]["ends"].keys() == world.log.keys()


@pytest.mark.parametrize(("step", "broken", "says"), [(step, *one) for step, them in BROKEN.items() for one in them.items()])
def test_a_broken_step_ends_the_story_non_zero(told: Told, step: str, broken: str, says: str) -> None:
    result, world = told(World(broken))
    said = ending(result)
    assert result.exit_code == 1
    *before, last = said["steps"]
    assert ([one["name"] for one in before], last["name"]) == (NAMES[: NAMES.index(step)], step), last
    assert all(one["ok"] for one in before)
    assert not last["ok"]
    assert re.search(says, last["evidence"]["failed"]), last
    assert world.commands[-2:] == ["audit --json", "down"]


def outcomes(monkeypatch: pytest.MonkeyPatch, breaks: str, error: BaseException) -> list[str]:
    """Replace the steps by ones of which one raises; who ran is in the list."""
    ran: list[str] = []

    def make(name: str) -> Callable[[Tale], dict[str, Any]]:
        def step(_: Tale) -> dict[str, Any]:
            ran.append(name)
            if name == breaks:
                raise error
            return {"place": "clips:0:1"}

        return step

    monkeypatch.setattr(story_steps, "STEPS", tuple((name, "why", make(name)) for name in NAMES))
    return ran


@pytest.mark.parametrize("name", NAMES)
def test_any_step_that_raises_ends_it_there(told: Told, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    ran = outcomes(monkeypatch, name, StepFailed(f"It [/] did not hold at {name}."))
    result, world = told(World())
    assert result.exit_code == 1
    assert ran == NAMES[: NAMES.index(name) + 1]
    last = {"name": name, "ok": False, "evidence": {"failed": f"It [/] did not hold at {name}."}}
    passed = [{"name": one, "ok": True, "evidence": {"place": "clips:0:1"}} for one in ran[:-1]]
    assert ending(result) == {"steps": [*passed, last], "audit": world.audit, "releases": []}
    assert world.commands == ["audit --json", "down"]


@pytest.mark.parametrize(
    "error", [Unavailable("The broker did not answer."), OSError("no space"), KeyError("digest"), AssertionError(), TypeError("no number")]
)
def test_whatever_is_raised_the_step_did_not_hold(told: Told, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    outcomes(monkeypatch, "labels", error)
    result, world = told(World())
    assert result.exit_code == 1
    assert ending(result)["steps"][-1] == {"name": "labels", "ok": False, "evidence": {"failed": str(error) or "AssertionError"}}
    assert world.commands[-1] == "down"


@pytest.mark.parametrize(("counted", "code"), [({"lost": 1}, 0), ({"twice": 1}, 0), ({}, 1), ({"lost": None}, 0)])
def test_what_the_audit_misses_ends_it_non_zero(told: Told, counted: dict[str, Any], code: int) -> None:
    world = World()
    world.audit |= counted
    world.audit_code = code
    result, _ = told(world)
    assert result.exit_code == 1
    assert all(one["ok"] for one in ending(result)["steps"])


def test_an_interrupted_story_takes_its_stack_down(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes(monkeypatch, "replay", KeyboardInterrupt())
    result, world = told(World())
    assert result.exit_code == 130
    assert world.commands == ["down"]


def test_keep_leaves_the_stack_running(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes(monkeypatch, "", StepFailed())
    result, world = told(World(), "--keep")
    assert result.exit_code == 0
    assert "down" not in world.commands


@pytest.mark.parametrize(("error", "code"), [(StepFailed(), 1), (KeyboardInterrupt(), 130)])
def test_a_stack_that_is_not_taken_down_ends_it_non_zero_and_is_said(
    told: Told, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    outcomes(monkeypatch, "replay" if code == 130 else "", error)
    result, _ = told(World("`down` fails"))
    assert result.exit_code == code
    assert "`soundscape down` ended with 2" in result.stderr
    assert len(ending(result)["steps"]) == (len(NAMES) if code == 1 else NAMES.index("replay"))
