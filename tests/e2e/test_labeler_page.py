"""The labeler's page in a real browser, by keyboard alone and by mouse: what a person does all day, and what they may do wrong."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest

from consumers.labeler.queue import wants_second
from soundscape.audio import encode_ogg
from soundscape.denied import read_denied
from soundscape.events import ClipAnalysed, ClipLabelled, ClipSampled
from soundscape.judgements import standing_labels
from soundscape.kafka import new_consumer, read_all
from soundscape.settings import Port
from soundscape.testing import Stack, free_base, tone, wait_for
from soundscape.testing_log import Log, clip
from soundscape.topics import LABELS, PREDICTIONS, SAMPLES
from soundscape.wire import decode, encode, texts

pytestmark = pytest.mark.browser

KEYS = {"Enter": "\ue007", "Left": "\ue012", "Right": "\ue014", "Down": "\ue015", "Escape": "\ue00c", "Backspace": "\ue003"}
"""What WebDriver calls the keys that have no character."""
SIZE = (1280, 800)


class Browser:
    """Chromium without a window, driven by its WebDriver over HTTP."""

    def __init__(self, shots: Path) -> None:
        port = free_base(29000)
        self._shots = shots
        self._driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0)
        wait_for(self._ready, "chromedriver")
        switches = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required"]
        wanted = {"goog:chromeOptions": {"args": switches}, "goog:loggingPrefs": {"browser": "ALL"}}
        self._session = f"/session/{self._post('/session', {'capabilities': {'alwaysMatch': wanted}})['sessionId']}"
        self.size(*SIZE)

    def _ready(self) -> bool:
        try:
            return bool(self._http.get("/status").json()["value"]["ready"])
        except httpx.HTTPError:
            return False

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        value = self._http.post(path, json=body).json()["value"]
        assert not (isinstance(value, dict) and "error" in value), value
        return value

    def size(self, width: int, height: int) -> None:
        """Be a screen of so many pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._post(f"{self._session}/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics})

    def go(self, url: str) -> None:
        """Open a page."""
        self._post(f"{self._session}/url", {"url": url})

    def js(self, code: str) -> Any:
        """What an expression is in the page."""
        return self._post(f"{self._session}/execute/sync", {"script": f"return {code}", "args": []})

    def text(self, name: str) -> str:
        """What an element says."""
        return str(self.js(f"document.getElementById('{name}').innerText"))

    def shown(self, name: str) -> bool:
        """Whether an element is there to be seen."""
        return bool(self.js(f"document.getElementById('{name}').getClientRects().length > 0"))

    def sees(self, condition: str, what: str) -> Any:
        """Wait until an expression is true in the page."""
        return wait_for(lambda: self.js(condition), what, 20.0)

    def press(self, *keys: str) -> None:
        """Press keys, by name or as text."""
        pressed = [char for key in keys for char in ([KEYS[key]] if key in KEYS else key)]
        actions = [{"type": kind, "value": char} for char in pressed for kind in ("keyDown", "keyUp")]
        self._post(f"{self._session}/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def click(self, css: str) -> None:
        """Press the mouse's button over an element."""
        found = self._post(f"{self._session}/element", {"using": "css selector", "value": css})
        self._post(f"{self._session}/element/{next(iter(found.values()))}/click", {})

    def shot(self, name: str) -> None:
        """Keep what there is to see, for a person's eyes."""
        picture = self._http.get(f"{self._session}/screenshot").json()["value"]
        (self._shots / f"{name}.png").write_bytes(base64.b64decode(picture))

    def errors(self) -> list[str]:
        """What the page complained about in its console."""
        log = self._post(f"{self._session}/se/log", {"type": "browser"})
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]

    def close(self) -> None:
        """End it."""
        self._http.delete(self._session)
        self._http.close()
        self._driver.terminate()
        self._driver.wait()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A browser; its pictures lie in the test's folder."""
    opened = Browser(tmp_path)
    yield opened
    opened.close()


class Site:
    """A site of the test's own, whose release is `tones`, with keys and samples."""

    def __init__(self, stack: Stack, log: Log) -> None:
        self.stack, self.log, self.name = stack, log, f"glade-{uuid4().hex[:8]}"
        self.url = stack.settings.url(Port.LABELER)
        stack.run("deploy", "tones", "--site", self.name)
        self.key = self.new_key("ana", "labeler")
        headers = {"X-API-Key": self.key}
        wait_for(lambda: httpx.get(f"{self.url}/v1/species", headers=headers).status_code == 200, "the site's species", 90.0)

    def new_key(self, name: str, role: str) -> str:
        """A key of this site."""
        return self.stack.run("key", "create", f"{name}-{self.name}", "--role", role, "--site", self.name).stdout.split()[-1]

    def sample(self, *hertz: float, reason: str = "flagged") -> str:
        """A clip with these tones, five seconds each, answered by the stack and sampled; its id. It gets one review."""
        number = 0
        while True:
            stream = f"{self.name}-{number}"
            body = encode_ogg(np.concatenate([tone(5.0, one) for one in hertz]))
            event = clip(body, site=self.name, stream=stream)
            if not wants_second(str(event.clip_id)):
                break
            number += 1
        self.log.send(event)
        answer = self.log.prediction(str(event.clip_id))
        said = {
            "clip_id": event.clip_id, "stream": stream, "site": self.name, "reason": reason, "probability": 1.0,
            "topic": answer.place.topic, "partition": answer.place.partition, "offset": answer.place.offset,
            "end_s": 5.0 * len(hertz), "recorder": "Quebrada Norte", "release": answer.release, "answer_place": self._place(answer),
            "sampled_at": datetime.now(UTC), "audio": body,
        }  # fmt: skip
        self.log.put(SAMPLES.name, encode(ClipSampled.model_validate(said)))
        return str(event.clip_id)

    def _place(self, answer: ClipAnalysed) -> str:
        for record in self._records(PREDICTIONS.name):
            if texts(record.headers).get("ce_clipid") == str(answer.clip_id):
                return f"{record.topic}:{record.partition}:{record.offset}"
        raise AssertionError("the answer is not on the log")

    def _records(self, topic: str) -> list[Any]:
        consumer = new_consumer(self.stack.settings)
        try:
            return list(read_all(consumer, [topic]))
        finally:
            consumer.close()

    def labels(self) -> dict[float, tuple[str, tuple[str, ...]]]:
        """What stands of this site's labels, by the window's start."""
        said = [decode(ClipLabelled, record.headers, record.value) for record in self._records(LABELS.name)]
        return {one.start_s: (one.verdict, one.labels) for one in standing_labels(said) if one.site == self.name}


@pytest.fixture
def site(stack: Stack, log: Log) -> Site:
    """A site of the test's own."""
    return Site(stack, log)


def sign_in(browser: Browser, site: Site) -> None:
    """Type the key, and have a sample."""
    browser.go(site.url)
    browser.sees("document.activeElement.id === 'key'", "the key asked for")
    browser.press(site.key, "Enter")
    browser.sees("!document.getElementById('work').hidden && document.getElementById('spectrogram').naturalWidth > 0", "a spectrogram")


def said(browser: Browser, words: str) -> None:
    """Wait for what the page says."""
    browser.sees(f"document.getElementById('status').innerText.includes({words!r})", words)


def test_a_person_labels_by_keyboard_alone(browser: Browser, site: Site) -> None:
    """Listen, search, several species, compare, accept the rest, undo, and go on; the key is never in an address."""
    first = site.sample(500.0, 2000.0, 8000.0)
    sign_in(browser, site)
    browser.shot("1-sample")
    assert "Hidden until you have answered" in browser.text("model-body")
    browser.press(" ")
    browser.sees("document.getElementById('audio').currentTime > 0.3", "the sound to play")
    cursor = "new DOMMatrix(getComputedStyle(document.getElementById('cursor')).transform).e"
    browser.sees(f"{cursor} > 5", "the cursor to move")
    browser.press(" ")
    browser.sees("document.getElementById('audio').paused", "the sound to pause")
    browser.press("Enter")
    said(browser, "Choose a species first")
    browser.press("/")
    browser.press("tono l")
    browser.sees("document.querySelectorAll('#results [role=option]').length === 1", "one species found")
    browser.shot("2-search")
    browser.press("Enter", "tone")
    browser.sees("document.querySelectorAll('#results [role=option]').length === 3", "all species found")
    browser.press("Down", "Enter")
    browser.sees("document.querySelectorAll('#chips button').length === 2", "two species chosen")
    browser.press("Backspace")
    browser.sees("document.querySelectorAll('#chips button').length === 1", "the last one gone")
    browser.press("Enter")
    browser.sees("document.querySelector('.agree')", "the model's answer beside ours")
    assert site.labels() == {0.0: ("species", ("low",))}
    assert "low tone" in browser.text("model-body")
    browser.shot("3-answer")
    assert "2 others" in browser.text("bulk")
    browser.press("b")
    said(browser, "Taken")
    assert site.labels() == {0.0: ("species", ("low",)), 5.0: ("species", ("mid",)), 10.0: ("species", ("top",))}
    browser.press("z")
    said(browser, "Withdrawn")
    assert list(site.labels()) == [0.0]
    browser.press("Right", "n")
    browser.sees("document.getElementById('nothing').getAttribute('aria-pressed') === 'true'", "nothing chosen")
    browser.press("Left", "u", "Enter")
    said(browser, "Taken")
    assert site.labels() == {0.0: ("species", ("low",)), 5.0: ("unknown", ()), 10.0: ("nothing", ())}
    browser.press("Enter")
    browser.sees("!document.getElementById('empty').hidden", "nothing left")
    assert first not in browser.js("location.href") and site.key not in browser.js("location.href")
    assert browser.js("Object.keys(localStorage).some((name) => localStorage[name].startsWith('se_'))") is False
    assert browser.errors() == []


def test_a_person_labels_by_mouse_in_spanish(browser: Browser, site: Site) -> None:
    """The same with buttons; names in the chosen language."""
    site.sample(500.0)
    sign_in(browser, site)
    browser.click("#lang")
    assert browser.text("question") == "¿Qué oye?"
    browser.click("#picture")
    browser.sees("document.getElementById('audio').currentTime > 2", "the sound at the middle")
    browser.click("#search")
    browser.press("low")
    browser.sees("document.querySelectorAll('#results [role=option]').length === 1", "one species found")
    browser.click("#results li")
    browser.sees("document.getElementById('chips').innerText.includes('tono low')", "its Spanish name")
    browser.click("#submit")
    browser.sees("document.querySelector('.agree')", "the model's answer")
    browser.shot("4-spanish")
    assert site.labels() == {0.0: ("species", ("low",))}
    assert "un guía la marcó" in browser.text("model-body")
    assert browser.errors() == []


def test_speech_asks_once_more_and_deletes(browser: Browser, site: Site) -> None:
    """Kept on the first thought, deleted on the second; the next sample comes."""
    clips = {site.sample(500.0), site.sample(8000.0)}
    sign_in(browser, site)
    browser.press("s")
    browser.sees("document.getElementById('speech-ask').open", "the question")
    assert browser.js("document.activeElement.id") == "speech-no", "a hasty Enter keeps the sound"
    browser.shot("5-speech")
    browser.press("Escape")
    browser.sees("!document.getElementById('speech-ask').open", "the question gone")
    assert site.labels() == {}
    before = browser.js("document.getElementById('spectrogram').src")
    browser.press("s")
    browser.sees("document.getElementById('speech-ask').open", "the question")
    browser.press("s")
    said(browser, "deleted")
    assert browser.js("document.getElementById('spectrogram').src") != before
    assert site.labels() == {0.0: ("speech", ())}
    assert len(clips & read_denied(site.stack.settings).clips()) == 1


def test_where_labels_measure_the_answer_stays_hidden_to_the_last_window(browser: Browser, site: Site) -> None:
    """The random stratum: no look at the answer and no bulk confirmation before all of it is judged."""
    site.sample(500.0, 2000.0, reason="random")
    sign_in(browser, site)
    browser.press("u", "Enter")
    said(browser, "still to be answered")
    assert site.labels() == {}
    assert "every window" in browser.text("model-body") and not browser.shown("bulk")
    assert browser.text("question") == "What do you hear in window 2 of 2?"
    browser.press("n", "Enter")
    browser.sees("document.querySelector('.differ')", "the model's answer")
    assert site.labels() == {0.0: ("unknown", ()), 5.0: ("nothing", ())}


def test_a_key_that_may_not_label_is_told_so(browser: Browser, site: Site) -> None:
    """A guide's key, then a wrong one, then the right one."""
    site.sample(500.0)
    browser.go(site.url)
    for key, words in ((site.new_key("guide", "guide"), "labeler"), ("se_wrong", "wrong or was revoked")):
        browser.sees("document.activeElement.id === 'key'", "the key asked for")
        browser.js("document.getElementById('key').value = ''")
        browser.press(key, "Enter")
        browser.sees(f"document.getElementById('key-wrong').innerText.includes({words!r})", words)
    browser.js("document.getElementById('key').value = ''")
    browser.press(site.key, "Enter")
    browser.sees("!document.getElementById('work').hidden", "the sample")


@pytest.mark.parametrize("size", [(1280, 800), (1024, 768), (768, 1024)])
def test_it_fits_screens_and_tablets(browser: Browser, site: Site, size: tuple[int, int]) -> None:
    """Nothing reaches beyond the sides, and sound, answer and submit are on the screen together."""
    site.sample(500.0, 2000.0)
    sign_in(browser, site)
    browser.size(*size)
    browser.sees(f"innerWidth === {size[0]}", "the size")
    browser.shot("6-size")
    assert browser.js("document.documentElement.scrollWidth <= innerWidth")
    for name in ("play", "picture", "search", "submit"):
        box = browser.js(f"document.getElementById('{name}').getBoundingClientRect().toJSON()")
        assert box["left"] >= 0 and box["right"] <= size[0] and box["top"] >= 0 and box["bottom"] <= size[1], (name, box)
    unnamed = "[...document.querySelectorAll('#work button, #work input')].filter((one) => one.getClientRects().length"
    assert browser.js(f"{unnamed} && !(one.innerText.trim() || one.getAttribute('aria-label'))).map((one) => one.id)") == []
