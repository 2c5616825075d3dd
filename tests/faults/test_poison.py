"""Inputs that kill: their neighbours on the same partition are answered, and they end as dead letters."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import httpx
import numpy as np
import psutil
import pytest

from soundscape.events import ClipDied
from soundscape.features import LOG_MEL
from soundscape.settings import Port
from soundscape.testing import Stack, ogg, wait_for
from soundscape.testing_log import Log, clip, streams_of_one_partition

KILLER = np.ones((1, *LOG_MEL.shape), np.float16)
"""What `tone_release` dies of: it kills the model server's stub that runs it."""


def killer() -> bytes:
    """Log-mels that kill the model, as a client would send them."""
    out = io.BytesIO()
    np.save(out, KILLER)
    return out.getvalue()


@contextmanager
def hunting(worker: psutil.Process, pause_s: float) -> Iterator[list[int]]:
    """Kills the decoding children of a worker, each as it is seen, with pauses; yields the pids so far."""
    stop, killed = threading.Event(), list[int]()

    def hunt() -> None:
        while not stop.wait(pause_s):
            for child in worker.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if child.pid not in killed and "spawn_main" in " ".join(child.cmdline()):
                        child.kill()
                        killed.append(child.pid)
                        break

    with ThreadPoolExecutor(1) as pool:
        hunter = pool.submit(hunt)
        try:
            yield killed
        finally:
            stop.set()
        hunter.result()


def test_an_input_that_kills_the_model_becomes_a_dead_letter(stack: Stack, log: Log) -> None:
    """After five failures on a model that answers its probe; before and behind it on the partition, and by others, all are answered.

    Where the model takes longer than its limit to come back, clips wait aside for it meanwhile, and are sent again by themselves.
    """
    first, poisoned, last = streams_of_one_partition(3)
    ids = [log.send(clip(ogg(5.0, 2000.0 + n), stream=first)) for n in range(3)]
    event = clip(killer(), stream=poisoned, content_type="application/x-npy", feature_fingerprint=LOG_MEL.fingerprint)
    dead = log.send(event)
    ids += [log.send(clip(ogg(5.0, 2000.0 + n), stream=last)) for n in range(3)]
    ids += [log.send(clip(ogg(5.0, 500.0 + n), stream=f"elsewhere-{n}")) for n in range(8)]
    ids += [log.send(clip(ogg(5.0, 8000.0 + n), stream=f"recorder-{n}", lane="bulk")) for n in range(4)]

    def its_end() -> list[ClipDied]:
        log.poll()
        return log.dead(dead)

    (died,) = wait_for(its_end, "the clip to die for good", 300.0)
    assert (died.reason, died.original) == ("poison", event.audio)
    for one in ids:
        assert log.prediction(one, 120.0).detections, one
    assert not [one for one in ids if log.dead(one)], "nobody else died"
    answer = stack.post(ogg(5.0, 2090.0), wait=30, tour_id="after-the-poison")
    assert answer.status_code == 200, answer.text
    found = stack.audit()
    assert (found["lost"], found["twice"]) == (0, 0)


@pytest.mark.slow
def test_the_same_over_http(stack: Stack) -> None:
    """422 with the reason, in the end."""
    headers = {"X-Feature-Fingerprint": LOG_MEL.fingerprint}
    answer = stack.post(killer(), kind="application/x-npy", headers=headers, tour_id="poison-http", wait=30)
    where = f"{stack.gateway_url}/v1/clips/{answer.json()['clip_id']}"

    def died() -> bool:
        return httpx.get(where, params={"wait": 30}, headers={"X-API-Key": stack.key}, timeout=60.0).status_code == 422

    wait_for(died, "the clip to die", 120.0)
    said = httpx.get(where, headers={"X-API-Key": stack.key}, timeout=10.0).json()
    assert (said["state"], said["problem"]["reason"]) == ("dead", "poison")
    assert stack.post(ogg(5.0, 2091.0), wait=30, tour_id="poison-http").status_code == 200


def test_a_decoder_that_is_killed_again_and_again_takes_nobody_with_it(stack: Stack, log: Log) -> None:
    """Whatever child of the live worker appears is killed for a while; every clip ends, most are answered, the worker lives."""
    worker = psutil.Process(stack.status()["analyse-live-0"]["pid"])
    with hunting(worker, 0.7) as killed:
        ids = [log.send(clip(ogg(5.0, 2000.0 + n), stream=f"hunted-{n % 4}")) for n in range(40)]
        wait_for(lambda: len(killed) >= 5, "five children to be killed")
    later = [log.send(clip(ogg(5.0, 500.0 + n), stream=f"hunted-{n % 4}")) for n in range(8)]
    for one in later:
        assert log.prediction(one, 60.0).detections

    def all_ended() -> bool:
        log.poll()
        return all(one in log.predictions or log.dead(one) for one in ids)

    wait_for(all_ended, "every clip to be answered or dead", 120.0)
    assert {died.reason for one in ids for died in log.dead(one)} <= {"decoder-died"}
    assert sum(one in log.predictions for one in ids) >= len(ids) // 2
    assert worker.is_running()
    found = stack.audit()
    assert (found["lost"], found["twice"]) == (0, 0)


@pytest.mark.slow
def test_a_clip_that_kills_every_decoder_dies_of_it(stack: Stack, log: Log) -> None:
    """Its own children are killed three times in its hands: `decoder-died`; its neighbours on the partition are answered."""
    before, hunted, after = streams_of_one_partition(3)
    worker = psutil.Process(stack.status()["analyse-live-0"]["pid"])
    first = log.send(clip(ogg(5.0, 2000.0), stream=before))
    assert log.prediction(first).detections
    with hunting(worker, 0.02):
        event = clip(ogg(5.0, 2002.0), stream=hunted)
        died, _ = log.death(log.send(event), 120.0)
    assert (died.reason, died.original) == ("decoder-died", event.audio)
    assert log.prediction(log.send(clip(ogg(5.0, 2004.0), stream=after))).detections
    assert httpx.get(f"{stack.settings.url(Port.LIVE)}/healthz", timeout=5.0).json()["healthy"]
