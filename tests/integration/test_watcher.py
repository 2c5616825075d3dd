"""The seed's way: files into online_input, answers out of online_output, with a watcher that is killed on the way."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from uuid import uuid4

from soundscape import testing
from soundscape.kafka import new_consumer, read_all
from soundscape.testing import Stack, wait_for
from soundscape.topics import RECORDINGS
from soundscape.wire import texts


def _clips_by_file(stack: Stack) -> dict[str, Counter[str]]:
    """File name -> clip ids on the log."""
    consumer = new_consumer(stack.settings)
    found: dict[str, Counter[str]] = {}
    for record in read_all(consumer, [RECORDINGS.name]):
        said = texts(record.headers)
        if "ce_filename" in said:
            found.setdefault(said["ce_filename"], Counter())[said["ce_clipid"]] += 1
    consumer.close()
    return found


def _kill_watcher(stack: Stack) -> bool:
    row = stack.status()["watcher"]
    if row["healthy"]:
        os.kill(row["pid"], signal.SIGKILL)
    return bool(row["healthy"])


def test_every_file_is_answered_once_though_the_watcher_dies_and_half_a_file_waits(stack: Stack) -> None:
    stack.run("deploy", "tones")
    folder, answers, tag = stack.settings.online_input, stack.settings.online_output, uuid4().hex[:8]
    body = testing.ogg(seconds=5.0)
    cut = body.index(b"OggS", len(body) // 2)
    (folder / f"{tag}_text.ogg").write_text("this is no sound")
    stems, kills = [f"{tag}_{n:02}" for n in range(30)], 0
    with (folder / f"{tag}_half.ogg").open("wb", buffering=0) as half:
        half.write(body[:cut])
        for n, stem in enumerate(stems):
            (folder / f".{stem}").write_bytes(testing.ogg(seconds=1.0 + n / 100))
            (folder / f".{stem}").rename(folder / f"{stem}.ogg")
            if n % 10 == 5:
                wait_for(lambda: _kill_watcher(stack), "a watcher to kill")
                kills += 1
        half.write(body[cut:])
    for stem in [*stems, f"{tag}_half"]:
        wait_for((answers / f"{stem}.csv").exists, f"the answer of {stem}")
    refusal = answers / f"{tag}_text.error.json"
    assert json.loads(wait_for(lambda: refusal.exists() and refusal.read_bytes(), "the refusal"))["reason"] == "not-audio"
    clips = {name: ids for name, ids in _clips_by_file(stack).items() if name.startswith(tag)}
    assert clips.keys() == {f"{stem}.ogg" for stem in [*stems, f"{tag}_half", f"{tag}_text"]}
    assert all(len(ids) == 1 for ids in clips.values())
    again = sum(ids.total() for ids in clips.values()) - len(clips)
    assert again <= kills, "one file at a time is between the broker's word and the ledger's: no more than that is sent again"
    said = stack.audit()
    assert (said["lost"], said["twice"]) == (0, 0)
