"""A candidate earns its place on the real stack: shadow, canary, promotion, rollback, and the alarm that ends a poisoned one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kafka import KafkaConsumer

from consumers.model_server import ModelServer
from soundscape.canary import role_of
from soundscape.deployments import read_states
from soundscape.events import ClipAnalysed, DeploymentStepped, SiteDeployed
from soundscape.kafka import new_consumer, read_all
from soundscape.release import RELEASE_FILE, load_release, write_release
from soundscape.testing import Stack, ogg, tone, tone_release, wait_for
from soundscape.topics import DEPLOYMENT_LOG, PREDICTIONS, SHADOW_PREDICTIONS, Topic
from soundscape.wire import decode
from trainer.evaluation.hear import Ears
from trainer.gate.served import triton_parity

SITE = "trial"
HERTZ = (500.0, 2000.0, 8000.0)


@pytest.fixture(scope="module")
def champion(stack: Stack) -> str:
    """The release that answers the site, and a key of it."""
    tone_release(stack.settings.releases / "tones-champion", "tones-champion")
    stack.run("deploy", "tones-champion", "--site", SITE)
    return stack.run("key", "create", "trial", "--site", SITE).stdout.split()[-1]


@pytest.fixture
def consumer(stack: Stack) -> Iterator[KafkaConsumer]:
    """Reads the log."""
    made = new_consumer(stack.settings)
    yield made
    made.close()


def post(stack: Stack, key: str, streams: int, clips: int, **more: str) -> list[dict[str, Any]]:
    """Clips of several tours, answered; each with a kind of user."""
    bodies = [ogg(5.0, hertz + 7 * n) for hertz in HERTZ for n in range(2)]

    def send(n: int) -> dict[str, Any]:
        tour, client = f"{more.get('name', 'tour')}-{n % streams}", ("guide", "power", "mobile")[n % 3]
        moment = f"2026-11-25T06:{n // 60:02d}:{n % 60:02d}Z"
        answer = stack.post(
            bodies[n % len(bodies)], headers={"X-API-Key": key}, site=SITE, tour_id=tour, wait=30, recorded_at=moment, client=client
        )
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        return said

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(send, range(clips)))


def state(stack: Stack) -> SiteDeployed:
    """Of the site."""
    return read_states(stack.settings)[SITE]


def answers(stack: Stack, consumer: KafkaConsumer, topic: Topic) -> dict[str, list[ClipAnalysed]]:
    """What the site's clips were answered on a topic, by clip, in the order of the log."""
    found: dict[str, list[ClipAnalysed]] = {}
    for record in read_all(consumer, [topic.name]):
        event = decode(ClipAnalysed, record.headers, record.value)
        if event.site == SITE and not event.probe:
            found.setdefault(str(event.clip_id), []).append(event)
    return found


def test_the_way_of_a_candidate(stack: Stack, champion: str, consumer: KafkaConsumer) -> None:
    loaded = tone_release(stack.settings.releases / "tones-candidate", "tones-candidate")
    refused = stack.run("candidate", "tones-candidate", "--site", SITE, check=False)
    assert refused.returncode == 2 and "gate" in refused.stderr and "Traceback" not in refused.stderr
    gates = stack.settings.state / "gates"
    gates.mkdir(exist_ok=True)
    for other in ({"site": "elsewhere", "champion": state(stack).champion.digest}, {"site": SITE, "champion": "0" * 64}):
        (gates / f"{loaded.digest}.json").write_text(json.dumps({"passed": True, "reasons": [], **other}))
        refused = stack.run("candidate", "tones-candidate", "--site", SITE, check=False)
        assert refused.returncode == 2 and "another champion or site" in refused.stderr
    verdict = {"passed": True, "reasons": [], "not_asked": ["triton: not asked"], "site": SITE, "champion": state(stack).champion.digest}
    (gates / f"{loaded.digest}.json").write_text(json.dumps(verdict))
    assert "shadow" in stack.run("candidate", "tones-candidate", "--site", SITE).stdout
    again = stack.run("candidate", "tones-champion", "--site", SITE, "--force", check=False)
    assert again.returncode == 2 and "has the candidate tones-candidate already" in again.stderr

    sent = {one["clip_id"] for one in post(stack, champion, 8, 24, name="shadow")}
    wait_for(lambda: sent <= answers(stack, consumer, SHADOW_PREDICTIONS).keys(), "the shadow's answers")
    assert {one[-1].role for one in answers(stack, consumer, PREDICTIONS).values()} == {"champion"}
    assert {(one.release, one.role) for all_of in answers(stack, consumer, SHADOW_PREDICTIONS).values() for one in all_of} == {
        ("tones-candidate", "shadow")
    }

    stack.run("canary", "0.5", "--site", SITE)
    now = state(stack)
    sent = {one["clip_id"] for one in post(stack, champion, 8, 48, name="canary")}
    live = {clip: said[-1] for clip, said in answers(stack, consumer, PREDICTIONS).items() if clip in sent}
    assert all(one.role == role_of(now, one.stream) for one in live.values())
    assert {one.role for one in live.values()} == {"champion", "canary"}
    assert all(one.release == {"champion": "tones-champion", "canary": "tones-candidate"}[one.role] for one in live.values())
    assert {one.client for one in live.values()} == {"guide", "power", "mobile"}
    wait_for(lambda: sent <= answers(stack, consumer, SHADOW_PREDICTIONS).keys(), "both releases' answers")
    report = wait_for(lambda: paired(stack, 72), "the trial's pairs")
    assert report["clips"] == sum(one.role == "canary" for one in live.values()) and report["alarms"] == []
    assert {row["label"]: row["champion"] + row["candidate"] for row in report["differences"]} == {"low": 0, "mid": 0, "top": 0}

    early = stack.run("promote", "--site", SITE, check=False)
    assert early.returncode == 2 and "more clips answered" in early.stderr
    seen = stack.run("promote", "--site", SITE, "--force", "--generation", "1", check=False)
    assert seen.returncode == 2 and "generation" in seen.stderr
    stack.run("promote", "--site", SITE, "--force")
    now = state(stack)
    assert now.previous is not None and (now.champion.name, now.previous.name) == ("tones-candidate", "tones-champion")
    assert (now.candidate, now.stage) == (None, "champion")
    assert {one["prediction"]["release"] for one in post(stack, champion, 4, 8, name="after")} == {"tones-candidate"}
    stack.run("rollback", "--site", SITE)
    assert {one["prediction"]["release"] for one in post(stack, champion, 4, 8, name="back")} == {"tones-champion"}
    found = stack.audit()
    assert (found["lost"], found["twice"]) == (0, 0)
    steps = [decode(DeploymentStepped, record.headers, record.value) for record in read_all(consumer, [DEPLOYMENT_LOG.name])]
    assert [one.detail for one in steps if (one.site, one.step) == (SITE, "shadowed")] == ["triton: not asked"]
    mine = [one.step for one in steps if one.site == SITE and one.step not in ("asked", "loaded", "answered")]
    assert mine == ["committed", "shadowed", "canaried", "promoted", "rolled-back"]


def test_the_gate_has_a_release_served_for_as_long_as_it_compares(stack: Stack, champion: str) -> None:
    """No state names it, before and after."""
    loaded = tone_release(stack.settings.releases / "tones-measured", "tones-measured")
    (model,) = [member.triton_name for member in loaded.release.members]
    server = ModelServer(stack.settings)
    assert model not in server.loaded()
    found = triton_parity(stack.settings, Ears(loaded), [tone(5.0, hertz) for hertz in HERTZ])
    assert (found.unasked, found.failed) == ("", "") and found.differences["tones"] < 1e-3
    wait_for(lambda: model not in server.loaded(), "the loan's end")
    assert champion and all(one.triton_name in server.loaded() for one in load_release(stack.settings.releases / "tones").release.members)


def paired(stack: Stack, pairs: int) -> dict[str, Any] | None:
    """The trial's report once so many clips were answered by both."""
    said: dict[str, Any] = json.loads(stack.run("trial", "--site", SITE, "--json").stdout)
    return said if said["pairs"] >= pairs else None


def test_a_poisoned_candidate_that_was_let_past_is_rolled_back_by_the_alarm(stack: Stack, champion: str) -> None:
    """Labels rotated by one: within 200 clips of the canary it is gone, by one event that names the reason and the clips."""
    folder = stack.settings.releases / "tones-rotated"
    shutil.copytree(stack.settings.releases / "tones-champion", folder)
    release = load_release(folder).release
    member = release.members[0]
    rotated = member.model_copy(update={"labels": (*member.labels[1:], member.labels[0])})
    (folder / RELEASE_FILE).unlink()
    write_release(folder, release.model_copy(update={"name": "tones-rotated", "members": (rotated,)}))
    stack.run("candidate", "tones-rotated", "--site", SITE, "--force")
    stack.run("canary", "1.0", "--site", SITE, "--force")
    sent = 0
    while state(stack).candidate is not None:
        assert sent < 200, "no alarm within 200 clips"
        post(stack, champion, 8, 20, name=f"poisoned-{sent}")
        sent += 20
    now = state(stack)
    assert (now.champion.name, now.actor) == ("tones-champion", "deployer") and "disagreement" in now.reason
    found = stack.audit()
    assert (found["lost"], found["twice"]) == (0, 0)
