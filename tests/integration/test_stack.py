"""The parts of a running stack work together: sites, deployments, dead letters, metrics, topics, and an outage of each server."""

from __future__ import annotations

import csv
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import onnxruntime
import tritonclient.grpc as triton
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from compose.local.supervision import Supervisor
from soundscape.audio import decode
from soundscape.features import LOG_MEL
from soundscape.release import load_release
from soundscape.settings import Port
from soundscape.testing import Stack, ogg, tone, tone_release, wait_for
from soundscape.testing_log import Log, clip
from soundscape.topics import TOPICS


def lives(stack: Stack) -> dict[str, Any]:
    """What the live worker says of itself."""
    said: dict[str, Any] = httpx.get(f"{stack.settings.url(Port.LIVE)}/healthz", timeout=5.0).json()
    return said


def keyed_for(stack: Stack, site: str) -> dict[str, str]:
    """A key of another site, made for this."""
    return {"X-API-Key": stack.run("key", "create", f"of-{site}", "--site", site).stdout.split()[-1]}


# Answers


def test_triton_gives_what_the_model_gives(stack: Stack) -> None:
    """The same numbers through the server as from the model run directly."""
    loaded = load_release(stack.settings.releases / "tones")
    member = loaded.release.members[0]
    batch = np.concatenate([LOG_MEL.compute(tone(5.0, hertz)) for hertz in (500.0, 1200.0, 2000.0, 8000.0)])
    session = onnxruntime.InferenceSession(loaded.folder / member.file)
    direct = 1.0 / (1.0 + np.exp(-session.run(None, {"input": batch})[0]))
    tensor = triton.InferInput("input", list(batch.shape), "FP32")
    tensor.set_data_from_numpy(batch)
    with triton.InferenceServerClient(stack.settings.address(Port.TRITON_GRPC)) as client:
        served = client.infer(member.triton_name, [tensor]).as_numpy("output")
    assert served.shape == (4, 3) and served.max() > 0.9
    np.testing.assert_allclose(served, direct, atol=1e-6)


def test_a_prediction_says_where_it_comes_from(stack: Stack, log: Log) -> None:
    """Release, digest, generation, place, stages in order, and each member's own scores: why did I get this?"""
    body = ogg(10.0, 2020.0)
    event = clip(body, stream="why", latitude=6.76, longitude=-74.21, tour_id="why")
    answer = log.prediction(log.send(event))
    loaded = load_release(stack.settings.releases / answer.release)
    assert answer.release_digest == loaded.digest and answer.labels == loaded.label_names and answer.licences == ("CC0",)
    assert answer.feature_fingerprints == (LOG_MEL.fingerprint,) and (answer.latitude, answer.tour_id) == (6.76, "why")
    assert answer.place.topic == "clips" and answer.generation >= 1 and not answer.left_out
    stages = answer.stages
    moments = [stages.published, stages.received, stages.decoded, stages.features, stages.inferred, stages.predicted]
    assert moments == sorted(moments)
    direct = onnxruntime.InferenceSession(loaded.folder / "model.onnx").run(None, {"input": LOG_MEL.compute(decode(body))})[0]
    scores = np.array([window.scores for window in answer.windows])
    np.testing.assert_allclose(scores, 1.0 / (1.0 + np.exp(-direct)), atol=1e-3)
    assert all(set(window.members["tones"]) == {"low", "mid", "top"} for window in answer.windows)
    assert answer.detections[0].label == "mid" and (answer.detections[0].start_s, answer.detections[0].end_s) == (0.0, 10.0)


def test_a_watched_minute_becomes_a_csv(stack: Stack) -> None:
    """Every 5 s a row named STEM_ENDSECOND, then a column a species, probabilities."""
    stem = "el05_20261124_053000"
    (stack.settings.online_input / f"{stem}.ogg").write_bytes(ogg(60.0, 8000.0))
    path = stack.settings.online_output / f"{stem}.csv"
    wait_for(path.exists, path.name)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["row_id"] for row in rows] == [f"{stem}_{second}" for second in range(5, 65, 5)]
    assert list(rows[0]) == ["row_id", "low", "mid", "top"]
    assert all(float(row["top"]) > 0.5 > float(row["low"]) >= 0.0 for row in rows)


# Sites and deployments


def test_a_site_without_a_release(stack: Stack, log: Log) -> None:
    """503 over HTTP; a dead letter on the stream, which `replay` brings back once there is a release."""
    answer = httpx.post(f"{stack.gateway_url}/v1/clips", content=ogg(), headers=keyed_for(stack, "new-site"), timeout=30.0)
    assert answer.status_code == 503 and answer.json()["reason"] == "no-release" and int(answer.headers["Retry-After"]) > 0
    events = [clip(ogg(5.0, 2021.0), site="new-site", stream="first"), clip(ogg(5.0, 501.0), site="new-site", stream="s", lane="bulk")]
    for event in events:
        died, _ = log.death(log.send(event))
        assert died.reason == "no-release" and died.original == event.audio and "new-site" in died.detail
    listed = stack.run("deadletters", "list", "--site", "new-site").stdout
    assert all(str(event.clip_id) in listed for event in events)
    stack.run("deploy", "tones", "--site", "new-site")
    assert "2 clips were sent again" in stack.run("deadletters", "replay", "--reason", "no-release", "--site", "new-site").stdout
    for event, label in zip(events, ("mid", "low"), strict=True):
        answered = log.prediction(str(event.clip_id))
        assert [one.label for one in answered.detections] == [label] and answered.stream == event.stream
    assert "0 clips were sent again" in stack.run("deadletters", "replay", "--site", "new-site").stdout


def test_a_deployment_under_load_loses_nothing(stack: Stack, log: Log) -> None:
    """Clips flow all the while; afterwards every clip is answered by the new release."""
    tone_release(stack.settings.releases / "tones-next", "tones-next")
    stop = threading.Event()
    bodies = [ogg(5.0, hertz) for hertz in (500.0, 2000.0, 8000.0)]
    answers: list[httpx.Response] = []

    def guide(number: int) -> None:
        clips = 0
        while not stop.is_set():
            clips += 1
            moment = f"2026-11-24T0{number}:00:00.{clips:03d}Z"
            answers.append(stack.post(bodies[clips % 3], wait=30, tour_id=f"deploying-{number}", recorded_at=moment))

    with ThreadPoolExecutor(2) as pool:
        guides = [pool.submit(guide, n) for n in range(2)]
        try:
            wait_for(lambda: len(answers) > 10, "the first answers")
            stack.run("deploy", "tones-next", "--site", "test")
            before = len(answers)
            wait_for(lambda: len(answers) > before + 10, "answers after the deployment")
        finally:
            stop.set()
        for one in guides:
            one.result()
    assert {answer.status_code for answer in answers} == {200}
    releases = [answer.json()["prediction"]["release"] for answer in answers]
    assert releases[0] != "tones-next" and set(releases[before + 2 :]) == {"tones-next"}
    assert {answer.json()["prediction"]["detections"][0]["label"] for answer in answers} == {"low", "mid", "top"}
    generations = lives(stack)["generations"]
    stack.run("deploy", "tones", "--site", "test", "--generation", str(generations["test"] - 1), check=False)
    assert lives(stack)["generations"] == generations, "a generation that was not seen is refused"
    stack.run("deploy", "tones", "--site", "test", "--generation", str(generations["test"]))


# Outages


def test_without_the_model_server_clips_wait_and_status_says_why(stack: Stack) -> None:
    """202 at the deadline, never lost; answered when the server is back, its models loaded again by the deployer."""
    supervisor = Supervisor(stack.settings)
    supervisor.stop(["triton"])
    try:
        answers = [stack.post(ogg(5.0, 2030.0 + n), wait=2, tour_id=f"waits-{n}") for n in range(4)]
        assert {answer.status_code for answer in answers} == {202}
        said = lives(stack)
        assert not said["healthy"] and "Triton" in said["why"]
        rows = stack.status()
        assert not rows["triton"]["healthy"] and not rows["analyse-live-0"]["healthy"]
        assert "Triton does not answer" in " ".join(stack.run("status").stdout.split())
    finally:
        supervisor.start(["triton"])
    for answer in answers:
        where = f"{stack.gateway_url}/v1/clips/{answer.json()['clip_id']}"

        def predicted(where: str = where) -> bool:
            said = httpx.get(where, params={"wait": 30}, headers={"X-API-Key": stack.key}, timeout=60.0).json()
            return bool(said["state"] == "predicted" and said["prediction"]["detections"][0]["label"] == "mid")

        wait_for(predicted, "an answer after the model server's return", 90.0)
    wait_for(lambda: lives(stack)["healthy"], "the live worker to be healthy again")


# Metrics


def test_prometheus_reaches_every_process(stack: Stack) -> None:
    """Asked itself: every target up, and the clips are counted there."""
    url = stack.settings.url(Port.PROMETHEUS)
    expected = set(stack.status()) - {"kafka", "redis", "mlflow"}
    stack.post(ogg(5.0, 2040.0), wait=30, tour_id="metrics")

    def up() -> bool:
        targets = httpx.get(f"{url}/api/v1/targets", timeout=10.0).json()["data"]["activeTargets"]
        return {one["labels"]["job"] for one in targets if one["health"] == "up"} == expected

    wait_for(up, f"Prometheus to reach {sorted(expected)}")

    def value(query: str) -> float:
        found = httpx.get(f"{url}/api/v1/query", params={"query": query}, timeout=10.0).json()["data"]["result"]
        return float(found[0]["value"][1]) if found else 0.0

    for query in (
        'sum(soundscape_clips_in_total{process="gateway"})',
        'sum(soundscape_clips_out_total{process="gateway"})',
        'sum(soundscape_clips_in_total{process="analyse",lane="live"})',
        'sum(soundscape_stage_seconds_count{lane="live",stage="inferred"})',
        "sum(soundscape_windows_total)",
        "sum(nv_inference_request_success)",
        "min(soundscape_model_ready)",
        'count(soundscape_consumer_lag{process="board"})',
    ):
        wait_for(lambda query=query: value(query) > 0, f"Prometheus to know {query}")  # type: ignore[misc]


# Topics


def test_the_broker_has_every_topic_as_declared(stack: Stack) -> None:
    """Partitions and settings, by the broker's own word."""
    admin = KafkaAdminClient(bootstrap_servers=stack.settings.address(Port.KAFKA))
    try:
        counts = {one["name"]: len(one["partitions"]) for one in admin.describe_topics([topic.name for topic in TOPICS])}
        found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in TOPICS], config_filter="all")
    finally:
        admin.close()
    assert counts == {topic.name: topic.partitions for topic in TOPICS}
    for topic in TOPICS:
        there = {key: entry["value"] for key, entry in found["topic"][topic.name].items()}
        assert topic.config(stack.settings.log_cap_gb).items() <= there.items()
