"""`soundscape audit`: the logs, the board, the tours and the watched files' answers recounted against each other."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from consumers.again import send_lost
from consumers.board import Store, new_redis, redis_errors
from consumers.effects import BOARD_TOPICS
from consumers.recount import Log, Tally, read_logs, tally, unsummed
from consumers.results import RESULTS_TOPICS, Ledger, ledger_path
from consumers.tour_recount import StillBehind, miscounts
from soundscape.answers import csv_path, error_path
from soundscape.audio import sha256
from soundscape.board import clip_key
from soundscape.errors import Unavailable
from soundscape.settings import Settings, get_settings
from soundscape.terminal import terminal_width
from soundscape.topics import Topic

SHOWN = 20
"""Ids listed for people."""
ASK_S = 0.2
"""Seconds between two looks while a reader catches up."""
BATCH = 1000
"""Keys asked of Redis at a time."""


def recount(settings: Settings, wait_s: float) -> tuple[Tally, list[str], list[str]]:
    """(the clips counted from the logs, what was counted twice or wrongly, what is worth knowing beside it).

    Raises Unavailable if the broker or Redis is away, or if the board or the results do not reach the log's end within `wait_s`. Clips
    that their tours have not taken in by then wait: a tour is summed when the machine has time for it.
    """
    log = read_logs(settings)
    client = new_redis(settings)
    try:
        _caught_up("board", Store(client).positions, log, BOARD_TOPICS, wait_s)
        twice = board_differences(log, client)
    finally:
        client.close()
    notes: list[str] = []
    if ledger_path(settings).exists():
        _caught_up("results", lambda: _ledger_positions(settings), log, RESULTS_TOPICS, wait_s)
        files, notes = file_differences(log, settings.online_output)
        twice += files
    elif log.files:
        notes = ["The answers of watched files were not compared: `results` has never run here."]
    waiting: set[str] = set()
    try:
        twice += miscounts(settings, wait_s)
    except StillBehind as error:
        waiting = unsummed(settings, log)
        notes.append(f"The tours were not compared. {error}")
    return tally(log, waiting), twice, notes


def board_differences(log: Log, client: Any) -> list[str]:
    """One line for each clip whose hash or counts on the board are not what the log says. Raises Unavailable.

    What the board has heard after the logs were read is not held against it. A clip that looks wrong is looked at again, all
    its keys in one MULTI, since the board moves on meanwhile.
    """
    held: dict[str, set[str]] = defaultdict(set)
    with redis_errors():
        for key in client.scan_iter(match="counts:*", count=BATCH):
            for clip in client.sscan_iter(key, count=BATCH):
                held[clip].add(key)
        clips = sorted(log.accepted.keys() | log.answers.keys() | log.dead.keys() | held.keys())
        suspects: list[str] = []
        for first in range(0, len(clips), BATCH):
            batch = clips[first : first + BATCH]
            with client.pipeline(transaction=False) as pipe:
                for clip in batch:
                    pipe.hgetall(clip_key(clip))
                hashes = pipe.execute()
            pairs = zip(batch, hashes, strict=True)
            suspects += [clip for clip, said in pairs if difference(log, clip, said, held.get(clip, set()))]
        lines = []
        for clip in suspects:
            keys = sorted(held.get(clip, set()) | (log.answers[clip].counts if clip in log.answers else set()))
            with client.pipeline(transaction=True) as pipe:
                pipe.hgetall(clip_key(clip))
                for key in keys:
                    pipe.sismember(key, clip)
                said, *inside = pipe.execute()
            sets = {key for key, there in zip(keys, inside, strict=True) if there}
            if line := difference(log, clip, said, sets):
                lines.append(line)
    return lines


def difference(log: Log, clip: str, said: Mapping[str, str], sets: set[str]) -> str | None:
    """What is wrong with a clip's hash and the COUNTS sets that hold it, in one line; None if all is as the log says."""
    for name, expected in (
        ("accepted", log.accepted.get(clip, [])),
        ("predicted", [log.answers[clip].place] if clip in log.answers else []),
        ("dead", [log.dead[clip]] if clip in log.dead else []),
    ):
        found = said.get(name)
        if found is not None and not log.knows(found):
            return None  # newer than our reading
        if expected and found not in expected:
            return f"{clip}: the board has {name} at {found or 'no place'}, the log at {' and '.join(expected)}"
    if clip not in log.answers:
        if "predicted" in said:
            return None  # answered longer ago than the log remembers
        return f"{clip}: counted in {', '.join(sorted(sets))} without an answer" if sets else None
    wanted = log.answers[clip].counts
    if sets != wanted:
        wrong, missing = sorted(sets - wanted), sorted(wanted - sets)
        return f"{clip}: " + "; ".join(
            text
            for text in (
                f"counted in {', '.join(wrong)} where its answer is not" if wrong else "",
                f"not counted in {', '.join(missing)}" if missing else "",
            )
            if text
        )
    return None


def file_differences(log: Log, folder: Path) -> tuple[list[str], list[str]]:
    """(one line for each file whose answer in the folder is not what the log says, notes on answers that are not there)."""
    lines: list[str] = []
    missing = 0
    for answer in log.files.values():
        csv, error = csv_path(folder, answer.file_name), error_path(folder, answer.file_name)
        right, other = (csv, error) if answer.said.predicted else (error, csv)
        if other == error and not csv.exists() and _refused_at_the_door(error, log):
            continue  # the file was changed since, and refused before it reached the log
        if other.exists():
            lines.append(f"{answer.file_name}: {other.name} is there, but the log's answer is {right.name}")
        if not right.exists():
            missing += 1
        elif answer.said.predicted and sha256(body := csv.read_bytes()) != answer.digest:
            ids = [line.split(b",", 1)[0] for line in body.splitlines()[1:]]
            what = "holds a row twice" if len(set(ids)) < len(ids) else "is not the answer on the log"
            lines.append(f"{answer.file_name}: {csv.name} {what}")
    return lines, [f"{missing} answered files have no answer in the folder (moved away?)"] if missing else []


def _refused_at_the_door(error: Path, log: Log) -> bool:
    try:
        clip = json.loads(error.read_bytes())["clip_id"]
    except (OSError, ValueError, KeyError):
        return False
    return clip not in log.accepted and clip not in log.dead


def _ledger_positions(settings: Settings) -> dict[str, int]:
    try:
        ledger = Ledger(ledger_path(settings))
        try:
            return ledger.positions()
        finally:
            ledger.close()
    except sqlite3.Error as error:
        raise Unavailable(f"The results' ledger cannot be read ({error}).") from error


def _caught_up(name: str, positions: Callable[[], Mapping[str, int]], log: Log, topics: tuple[Topic, ...], wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    names = {topic.name for topic in topics}
    ends = {part: end for part, end in log.read_to.items() if part.rpartition(":")[0] in names}
    while behind := sum(max(0, end - at) for part, end in ends.items() if (at := positions().get(part, 0)) < end):
        if time.monotonic() > deadline:
            raise Unavailable(f"`{name}` is {behind} records behind the log after {wait_s:g} s; see `soundscape status`.")
        time.sleep(ASK_S)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One object for machines.")
@click.option("--send-again", is_flag=True, help="Send the lost clips to their lane again, from the log.")
@click.option("--wait", "wait_s", type=click.FloatRange(min=0), default=60.0, show_default=True,
              help="Seconds for board, results and tours to reach the log's end.")  # fmt: skip
def audit(as_json: bool, send_again: bool, wait_s: float) -> None:
    """Count every clip on the log: answered, dead, lost, counted twice. Exit code 1 if any was lost or counted twice.

    What --send-again sends is the same clip: however often it is answered, it counts once.
    """
    counted, twice, notes = recount(get_settings(), wait_s)
    said = {
        "waiting": len(counted.waiting),
        "accepted": counted.accepted,
        "predicted": counted.predicted,
        "dead": counted.dead,
        "lost": len(counted.lost),
        "twice": len(twice),
    }
    if send_again:
        said["sent_again"] = send_lost(get_settings(), counted.lost)
    if as_json:
        click.echo(json.dumps(said))
    else:
        _show(said, counted, twice, notes)
    if counted.lost or twice:
        sys.exit(1)


def _show(said: dict[str, int], counted: Tally, twice: list[str], notes: list[str]) -> None:
    table = Table(*said)
    table.add_row(*map(str, said.values()))
    Console(width=terminal_width()).print(table)
    for title, lines in (("Lost", [*counted.lost]), ("Counted twice or wrongly", twice), ("Note", notes)):
        for line in lines[:SHOWN]:
            click.echo(f"{title}: {line}")
        if len(lines) > SHOWN:
            click.echo(f"{title}: {len(lines) - SHOWN} more.")
    if (sent := said.get("sent_again")) is not None:
        gone = len(counted.lost) - sent
        what = "clip was" if sent == 1 else "clips were"
        click.echo(f"{sent} lost {what} sent again; `soundscape audit` counts them answered once nothing waits any more.")
        if gone:
            click.echo(f"{gone} could not be: the log has them no longer.")
