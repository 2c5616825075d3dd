"""Every bad input has its clear answer: over HTTP, straight on the topic, and in the watched folder; what is only odd is answered."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from kafka import KafkaProducer
from kafka.errors import MessageSizeTooLargeError

from soundscape.features import LOG_MEL
from soundscape.settings import Port
from soundscape.testing import Stack, ogg, tone, tone_release, wait_for
from soundscape.testing_log import Log, clip
from soundscape.wire import encode

HUGE = 100_000_000


def silence(seconds: int, rate: int) -> bytes:
    """Digital silence as OGG."""
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", rate, 1, format="OGG", subtype="VORBIS") as file:
        for _ in range(seconds):
            file.write(np.zeros(rate, np.float32))
    return out.getvalue()


def nan_wav() -> bytes:
    """A float WAV with a NaN in its middle."""
    wave = tone(5.0, 2000.0)
    wave[len(wave) // 2] = np.nan
    out = io.BytesIO()
    soundfile.write(out, wave, 32_000, format="WAV", subtype="FLOAT")
    return out.getvalue()


def stereo_96k() -> bytes:
    """An OGG of two channels at 96 kHz."""
    out = io.BytesIO()
    soundfile.write(out, np.repeat(tone(5.0, 2000.0, 96_000)[:, None], 2, axis=1), 96_000, format="OGG", subtype="VORBIS")
    return out.getvalue()


def bomb() -> bytes:
    """Three minutes of silence: more than a thousand times its size as sound, and answered all the same."""
    body = silence(180, 32_000)
    assert 1000 * len(body) < 180 * 32_000 * 4
    return body


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty"),
    "text": (lambda: b"These are not the frogs you are looking for.\n" * 20, "not-audio"),
    "half": (lambda: ogg(5.0, 2010.0)[: len(ogg(5.0, 2010.0)) // 2], "truncated"),
    "half-an-hour": (lambda: silence(1800, 8000), "too-long"),
    "nan": (nan_wav, "not-finite"),
}
ODD: dict[str, tuple[Callable[[], bytes], list[str], int, bool]] = {
    "tenth-of-a-second": (lambda: ogg(0.1, 2000.0), [], 1, False),  # a fiftieth of its window
    "stereo-96-khz": (stereo_96k, ["mid"], 1, False),
    "silence": (lambda: silence(5, 32_000), [], 1, True),
    "thousandfold": (bomb, [], 36, True),
}
"""What it is; what is heard in it, in how many windows, and whether they are silent."""


def npy(array: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    """An array as a file."""
    out = io.BytesIO()
    np.save(out, array, allow_pickle=allow_pickle)
    return out.getvalue()


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def _headed(header: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


BAD_HEADERS = [
    _headed(header)
    for header in ("{'descr': (", "((((", "{[]:1}", "{'descr': '<f2', 'fortran_order': False, 'shape': (1000000000000, 128, 320)}")
]
"""Headers of .npy files on which numpy's parser stumbles, or that claim more than there is."""


# Over HTTP


def refused(answer: httpx.Response, status: int, reason: str) -> None:
    """A problem, at the door or from the log: its reason, and a sentence."""
    assert answer.status_code == status, answer.text
    said = answer.json()
    problem = said if "type" in said else said["problem"]
    assert problem["reason"] == reason and problem["type"].endswith(f"/{reason}") and len(problem["detail"]) > 20, said
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("name", REFUSED)
def test_http_refuses(stack: Stack, name: str) -> None:
    """422 with the reason."""
    make, reason = REFUSED[name]
    refused(stack.post(make(), wait=30, tour_id="bad"), 422, reason)


@pytest.mark.parametrize("name", ODD)
def test_http_answers_what_is_only_odd(stack: Stack, name: str) -> None:
    """200, with as many windows as it has."""
    make, labels, windows, silent = ODD[name]
    answer = stack.post(make(), wait=30, tour_id="odd")
    assert answer.status_code == 200, answer.text
    prediction = answer.json()["prediction"]
    assert sorted({heard["label"] for heard in prediction["detections"]}) == labels
    assert len(prediction["windows"]) == windows and all(window["silent"] == silent for window in prediction["windows"])


def test_http_refuses_100_mb_before_it_has_read_them(stack: Stack) -> None:
    """413, by its declared length, and as it comes where none is declared; the gateway lives on."""
    before = stack.status()["gateway"]["pid"]
    refused(stack.post(bytes(HUGE)), 413, "too-large")

    def chunks() -> object:
        for _ in range(HUGE // 1_000_000):
            yield bytes(1_000_000)

    headers = {"X-API-Key": stack.key, "Content-Type": "audio/ogg"}
    try:
        answer = httpx.post(f"{stack.gateway_url}/v1/clips", content=chunks(), headers=headers, timeout=60.0)  # type: ignore[arg-type]
    except httpx.TransportError:
        pass  # the connection ended before it was all sent: not read, that is
    else:
        refused(answer, 413, "too-large")
    after = stack.status()["gateway"]
    assert (after["pid"], after["healthy"]) == (before, True), after


def test_http_refuses_features_that_do_not_fit(stack: Stack, tmp_path: Path) -> None:
    """Another fingerprint, another shape, NaN, a pickle: none is analysed, and the pickle is not opened."""
    right = np.zeros((1, *LOG_MEL.shape), np.float16)
    trap = tmp_path / "sprung"

    def post(body: bytes, fingerprint: str = LOG_MEL.fingerprint) -> httpx.Response:
        return stack.post(body, kind="application/x-npy", headers={"X-Feature-Fingerprint": fingerprint}, wait=30)

    refused(post(npy(right), "0123456789abcdef"), 422, "unknown-features")
    refused(post(npy(right[:, :-1])), 422, "bad-features")
    refused(post(npy(np.full_like(right, np.nan))), 422, "bad-features")
    refused(post(npy(np.array([Trap(trap)], object), allow_pickle=True)), 422, "bad-features")
    refused(post(pickle.dumps(Trap(trap))), 422, "bad-features")
    for body in BAD_HEADERS:
        refused(post(body), 422, "bad-features")
    assert not trap.exists()


def test_http_refuses_requests_that_do_not_hold(stack: Stack) -> None:
    """400 and 415, each with a problem document."""
    refused(stack.post(ogg(), recorded_at="yesterday"), 400, "bad-request")
    refused(stack.post(ogg(), wait=31), 400, "bad-request")
    refused(stack.post(b"{", kind="application/json"), 400, "bad-request")
    refused(stack.post(b'{"audio": "***"}', kind="application/json"), 400, "bad-request")
    refused(stack.post(ogg(), kind="text/plain"), 415, "unsupported-media-type")


# Straight on the topic


@pytest.mark.parametrize("lane", ["live", "bulk"])
@pytest.mark.parametrize("name", REFUSED)
def test_the_topic_gives_a_dead_letter_with_the_original_bytes(log: Log, name: str, lane: str) -> None:
    """Whatever a record holds: reason, detail, bytes and headers unchanged."""
    make, reason = REFUSED[name]
    event = clip(make(), stream=f"bad-{lane}", lane="live" if lane == "live" else "bulk")
    died, headers = log.death(log.send(event))
    assert (died.reason, died.original, died.site, died.stream) == (reason, event.audio, "test", event.stream)
    assert len(died.detail) > 20
    sent = {f"original_{key}": item.decode() for key, item in encode(event).headers if key != "ce_time"}
    assert sent.items() <= headers.items()


@pytest.mark.parametrize("name", ODD)
def test_the_topic_answers_what_is_only_odd(log: Log, name: str) -> None:
    """By the bulk lane here, as a recorder sends it."""
    make, labels, windows, silent = ODD[name]
    answer = log.prediction(log.send(clip(make(), stream="odd", lane="bulk")))
    assert sorted({heard.label for heard in answer.detections}) == labels
    assert [window.silent for window in answer.windows] == [silent] * windows


def test_the_topic_refuses_features_that_do_not_fit(log: Log, tmp_path: Path) -> None:
    """The worker trusts no door."""
    right = npy(np.zeros((1, *LOG_MEL.shape), np.float16))
    trap = tmp_path / "sprung"
    for body, fingerprint, reason in (
        (right, "0123456789abcdef", "unknown-features"),
        (npy(np.array([Trap(trap)], object), allow_pickle=True), LOG_MEL.fingerprint, "bad-features"),
        (right[:-10], LOG_MEL.fingerprint, "bad-features"),
        *((body, LOG_MEL.fingerprint, "bad-features") for body in BAD_HEADERS),
        (npy(np.full((1, *LOG_MEL.shape), 1.5, np.float16)), LOG_MEL.fingerprint, "bad-features"),
    ):
        event = clip(body, stream=f"features-{reason}-{len(body)}", content_type="application/x-npy", feature_fingerprint=fingerprint)
        died, _ = log.death(log.send(event))
        assert (died.reason, died.original) == (reason, body)
    assert not trap.exists()


def test_the_topic_refuses_what_is_no_clip(log: Log) -> None:
    """An unknown version, an attribute that does not hold, an id that does not follow, no headers at all."""
    message = encode(clip(ogg(5.0, 2011.0), stream="no-clip"))
    named = dict(message.headers)

    def death_of(**changed: bytes) -> tuple[str, bytes]:
        headers = list((named | {f"ce_{name}": item for name, item in changed.items()}).items())
        place = log.put("clips", message._replace(headers=headers))
        wanted = place if "type" in changed else headers_id(headers)
        died, _ = log.death(wanted)
        log.deaths.clear()
        return died.reason, died.original

    def headers_id(headers: list[tuple[str, bytes]]) -> str:
        return dict(headers)["ce_id"].decode()

    assert death_of(type=b"org.elsilencio.clip.recorded.v9") == ("unknown-event", message.value)
    assert death_of(latitude=b"north") == ("malformed-event", message.value)
    assert death_of(stream=b"another") == ("wrong-identity", message.value)
    died, _ = log.death(log.put("clips", message._replace(headers=[])))
    assert (died.reason, died.original) == ("unknown-event", message.value)


def test_the_broker_takes_no_message_beyond_the_limit(stack: Stack) -> None:
    """What no worker could fetch never gets onto the log."""
    producer = KafkaProducer(bootstrap_servers=stack.settings.address(Port.KAFKA), max_request_size=10_000_000, acks="all")
    try:
        with pytest.raises(MessageSizeTooLargeError):
            producer.send("clips", bytes(3_000_000)).get(timeout=30)
    finally:
        producer.close()


# In the watched folder


def test_the_watched_folder_says_what_was_wrong_with_a_file(stack: Stack) -> None:
    """STEM.error.json for each bad file, with its reason; STEM.csv for what is only odd."""
    folder, output = stack.settings.online_input, stack.settings.online_output
    wanted = {name: reason for name, (_, reason) in REFUSED.items()}
    for name, (make, _) in REFUSED.items():
        (folder / f"bad-{name}_20261124_060000.ogg").write_bytes(make())
    for name, (make_odd, *_) in ODD.items():
        (folder / f"odd-{name}_20261124_060000.ogg").write_bytes(make_odd())
    with (folder / "bad-huge_20261124_060000.ogg").open("wb") as huge:
        huge.truncate(HUGE)
    wanted["huge"] = "too-large"
    for name, reason in wanted.items():
        path = output / f"bad-{name}_20261124_060000.error.json"
        wait_for(path.exists, f"{path.name}")
        said = json.loads(path.read_text())
        assert said["reason"] == reason and said["file"] == f"bad-{name}_20261124_060000.ogg" and len(said["detail"]) > 20
        assert not path.with_name(path.name.replace(".error.json", ".csv")).exists()
    for name, (_, labels, windows, _) in ODD.items():
        stem = f"odd-{name}_20261124_060000"
        wait_for((output / f"{stem}.csv").exists, f"{stem}.csv")
        rows = (output / f"{stem}.csv").read_text().splitlines()
        assert rows[0] == "row_id,low,mid,top"
        assert [row.split(",")[0] for row in rows[1:]] == [f"{stem}_{5 * n + 5}" for n in range(windows)]
        assert any(float(row.split(",")[2]) > 0.5 for row in rows[1:]) == bool(labels)


# At a deployment


def test_a_species_list_that_does_not_fit_the_model_is_refused(stack: Stack) -> None:
    """Nothing is deployed, and the sentence names both numbers."""
    folder = stack.settings.releases / "misfit"
    tone_release(folder, "misfit")
    text = json.loads((folder / "release.json").read_text())
    one = dict(text["labels"][-1], label="zither", scientific="Tonus zither")
    text["labels"].append(one)
    text["members"][0]["labels"].append("zither")
    (folder / "release.json").write_text(json.dumps(text))
    done = stack.run("deploy", "misfit", "--site", "misfits", check=False)
    said = "the model gives (3,) outputs, its release names 4 labels"
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert stack.post(ogg(), site="misfits").status_code in (403, 503)


def test_a_release_whose_features_do_not_follow_from_its_spec_is_refused(stack: Stack) -> None:
    """Training and serving would compute other numbers."""
    folder = stack.settings.releases / "drifted"
    tone_release(folder, "drifted")
    text = json.loads((folder / "release.json").read_text())
    text["features"][LOG_MEL.fingerprint]["hop"] = 512
    (folder / "release.json").write_text(json.dumps(text))
    done = stack.run("deploy", "drifted", "--site", "misfits", check=False)
    assert done.returncode == 2 and "does not follow from its spec" in done.stderr, done.stderr
