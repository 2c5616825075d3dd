"""A clip sent by HTTP comes back with its species, whatever form it has."""

from __future__ import annotations

import base64
import io

import httpx
import numpy as np
import pytest
import soundfile

from soundscape.features import LOG_MEL
from soundscape.settings import Port
from soundscape.testing import Stack, ogg, tone, wait_for
from soundscape.testing_log import Log


def file_of(kind: str, hertz: float, rate: int = 48_000, channels: int = 1) -> bytes:
    """Five seconds of a tone as a file of that kind."""
    wave = np.repeat(tone(5.0, hertz, rate)[:, None], channels, axis=1)
    out = io.BytesIO()
    soundfile.write(out, wave, rate, format=kind)
    return out.getvalue()


def labels_of(answer: httpx.Response) -> list[str]:
    """What was heard, with everything that the interface promises of a prediction."""
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert said["state"] == "predicted" and said["clip_id"]
    for window in said["prediction"]["windows"]:
        assert window.keys() >= {"start_s", "end_s", "scores"} and set(window["scores"]) == {"low", "mid", "top"}
    for heard in said["prediction"]["detections"]:
        assert heard.keys() >= {"label", "confidence", "start_s", "end_s"} and set(heard["names"]) == {"scientific", "en", "es"}
    return [heard["label"] for heard in said["prediction"]["detections"]]


@pytest.mark.parametrize(("hertz", "label"), [(500.0, "low"), (2000.0, "mid"), (8000.0, "top")])
def test_an_ogg_is_answered_with_what_it_holds(stack: Stack, hertz: float, label: str) -> None:
    """Each tone by its own name, and the names in three languages."""
    answer = stack.post(ogg(5.0, hertz), wait=30, tour_id="oggs")
    assert labels_of(answer) == [label]
    assert answer.json()["prediction"]["detections"][0]["names"]["es"] == f"tono {label}"
    assert answer.json()["prediction"]["release"] == "tones"


@pytest.mark.parametrize(("content_type", "kind"), [("audio/wav", "WAV"), ("audio/flac", "FLAC"), ("audio/mpeg", "MP3")])
def test_other_kinds_of_sound_are_taken(stack: Stack, log: Log, content_type: str, kind: str) -> None:
    """They become OGG at the door; what they were stays in the record."""
    answer = stack.post(file_of(kind, 2000.0), kind=content_type, wait=30, tour_id="others")
    assert labels_of(answer) == ["mid"]
    event = log.prediction(answer.json()["clip_id"])
    assert event.tour_id == "others" and event.stream == "others"


def test_json_with_base64_and_fields(stack: Stack, log: Log) -> None:
    """A field of the body is as good as one of the query."""
    body = {
        "audio": base64.b64encode(ogg(5.0, 8000.0)).decode(),
        "tour_id": "json",
        "recorded_at": "2026-11-24T06:30:00-05:00",
        "latitude": 6.76,
        "longitude": -74.21,
        "lang": "es",
        "wait": 30,
    }
    asked = {"X-API-Key": stack.key}
    answer = httpx.post(f"{stack.gateway_url}/v1/clips", json=body, headers=asked, timeout=60.0)
    assert labels_of(answer) == ["top"]
    event = log.prediction(answer.json()["clip_id"])
    assert (event.tour_id, event.latitude, event.longitude) == ("json", 6.76, -74.21)
    assert event.recorded_at is not None and event.recorded_at.isoformat() == "2026-11-24T11:30:00+00:00"


def test_log_mels_with_their_fingerprint(stack: Stack) -> None:
    """What a client computed gives what the worker would have computed."""
    out = io.BytesIO()
    np.save(out, LOG_MEL.compute(tone(10.0, 500.0)).astype(np.float16))
    answer = stack.post(
        out.getvalue(), kind="application/x-npy", headers={"X-Feature-Fingerprint": LOG_MEL.fingerprint}, wait=30, tour_id="npy"
    )
    assert labels_of(answer) == ["low"]
    assert len(answer.json()["prediction"]["windows"]) == 2


def test_the_same_clip_twice_is_one_clip(stack: Stack, log: Log) -> None:
    """The second time it is answered at once, without waiting and without a second prediction."""
    body = ogg(5.0, 2001.0)
    first = stack.post(body, wait=30, tour_id="twice")
    again = stack.post(body, tour_id="twice")
    assert labels_of(again) == labels_of(first) == ["mid"]
    assert again.json()["clip_id"] == first.json()["clip_id"]
    other = stack.post(body, wait=30, tour_id="twice-elsewhere")
    assert other.json()["clip_id"] != first.json()["clip_id"]
    log.prediction(other.json()["clip_id"])
    assert len(log.predictions[first.json()["clip_id"]]) == 1


def test_a_clip_without_wait_is_queued_and_found_later(stack: Stack) -> None:
    """202 and a Location; GET with `wait` gives the answer, and also long after, from the log."""
    answer = stack.post(ogg(5.0, 502.0), tour_id="later")
    assert answer.status_code == 202 and answer.json()["state"] == "queued", answer.text
    where = stack.gateway_url + answer.headers["Location"]
    assert labels_of(httpx.get(where, params={"wait": 30}, headers={"X-API-Key": stack.key}, timeout=60.0)) == ["low"]


def test_a_long_upload_takes_the_bulk_lane(stack: Stack, log: Log) -> None:
    """More than 15 s would hold up the guides; all its windows are answered."""
    answer = stack.post(ogg(30.0, 2003.0), wait=30, tour_id="long")
    assert labels_of(answer) == ["mid"]
    event = log.prediction(answer.json()["clip_id"])
    assert event.place.topic == "recordings" and len(event.windows) == 6


def test_species_are_listed_in_a_language(stack: Stack) -> None:
    """What the site's release can name."""
    answer = httpx.get(f"{stack.gateway_url}/v1/species", params={"lang": "es"}, headers={"X-API-Key": stack.key}, timeout=10.0)
    assert [one["name"] for one in answer.json()["species"]] == ["tono low", "tono mid", "tono top"]


def test_the_api_describes_itself(stack: Stack) -> None:
    """OpenAPI names the way in, with examples; health and readiness need no key."""
    described = httpx.get(f"{stack.gateway_url}/openapi.json", timeout=10.0).json()
    assert {"/v1/clips", "/v1/clips/{clip_id}", "/v1/species", "/healthz", "/readyz"} <= described["paths"].keys()
    assert "example" in str(described["paths"]["/v1/clips"]["post"])
    assert httpx.get(f"{stack.gateway_url}/healthz", timeout=10.0).status_code == 200
    wait_for(lambda: httpx.get(f"{stack.gateway_url}/readyz", timeout=10.0).status_code == 200, "the gateway to be ready")


def test_keys_act_and_are_revoked_without_a_restart(stack: Stack) -> None:
    """Missing, wrong and revoked: 401 with a problem document. Only the hash of a key is stored."""

    def status(**headers: str) -> int:
        answer = httpx.get(f"{stack.gateway_url}/v1/species", params={"site": "test"}, headers=headers, timeout=10.0)
        if answer.status_code != 200:
            assert answer.headers["content-type"] == "application/problem+json" and answer.json()["detail"]
        return answer.status_code

    key = stack.run("key", "create", "passing", "--site", "test").stdout.split()[-1]
    assert status(**{"X-API-Key": key}) == 200
    assert status() == 401
    assert status(**{"X-API-Key": key[:-1]}) == 401
    assert key not in (stack.settings.state / "keys.json").read_text()
    stack.run("key", "revoke", "passing")
    assert status(**{"X-API-Key": key}) == 401
    answer = httpx.post(f"{stack.gateway_url}/v1/clips", content=ogg(), headers={"X-API-Key": key}, timeout=10.0)
    assert answer.status_code == 401


def test_a_key_of_one_site_serves_no_other(stack: Stack) -> None:
    """403, and nothing is accepted."""
    assert stack.post(ogg(5.0, 2005.0), site="elsewhere").status_code == 403


def test_the_gateway_is_where_status_says(stack: Stack) -> None:
    """`status --json` names it, healthy, with its address."""
    assert stack.status()["gateway"]["address"] == stack.gateway_url == stack.settings.url(Port.GATEWAY)

    def sick() -> list[str]:
        return [name for name, row in stack.status().items() if not row["healthy"] or not row["pid"]]

    wait_for(lambda: not sick(), "every process to be healthy: another test may have killed one")
