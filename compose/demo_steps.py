"""The steps of the demo, in the order of the story."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from compose.demo_answers import Answers, Streamed, compare, latencies, names_of, read_streamed, write_rows
from compose.demo_story import StepFailed, Story, everything
from compose.demo_tables import audit_table, heard_table, latency_table, places_table, score_table, species_table
from compose.local import tools
from soundscape.answers import csv_path, error_path
from soundscape.audio import encode_ogg, read
from soundscape.deployments import read_states
from soundscape.release import RELEASE_FILE, named_release
from soundscape.settings import Port, Settings

FOREST_SITE, OWN_SITE = "synthetic-forest", "own-recordings"
SEED = 1
FOCAL_CLIPS, LABELLED_MINUTES = 16, 18
"""Of the synthetic forest: clips of each species to learn from, and minutes that are only streamed and judged."""
FOREST_MINUTES, OWN_MINUTES = 3.25, 20.0
"""Of training."""
FOREST_MODEL = "small"
"""Learns the forest in that time, on slow cores too (AUC 0.92 after 2 minutes, 0.98 after 4); own recordings get the trainer's choice."""
RECORDERS, TOURS, TOUR_CLIPS, TOUR_RATE = 3, 2, 12, "3"
MOST_MINUTES = 40
"""Streamed of a folder that has more soundscapes."""
PATIENCE_S = 90.0
"""Seconds without any answer after which the stream is said to stand still."""
ANSWER_S = 30
"""Seconds that the gateway may take for the first recording: it may still be loading the model."""
KEY = "demo"
REAL = "birds_10s.wav"
REAL_STEM = "DEMO_20260501_060000"


def tell(story: Story, settings: Settings, data: Path | None, minutes: float | None) -> None:
    """All of it. Raises StepFailed, SoundscapeError, httpx.HTTPError, OSError."""
    home = settings.root / "demo"
    with story.step("Start the stack", "Kafka, Redis, Triton, the workers and the doors, all on this machine"):
        story.say(story.run("up", shown=lambda line: line.rstrip().endswith("…") or " is healthy" in line or "waiting for" in line)[-1])
    bird = _day_one(story, settings)
    with story.step("Make a key", "the gateway lets nobody in without one"):
        key = _key(story)
        story.say("A key named `demo`; only its hash is stored.")
    if bird:
        _real_recording(story, settings, key)
    folder, site = (data, OWN_SITE) if data else (home / "forest", FOREST_SITE)
    if data is None:
        with story.step("Grow a synthetic forest", "sound whose truth is exactly known, without a download"):
            arguments = ("--seed", str(SEED), "--clips", str(FOCAL_CLIPS), "--minutes", str(LABELLED_MINUTES))
            story.run("forest", "make", str(folder), *arguments, shown=everything)
    budget, model = minutes or (OWN_MINUTES if data else FOREST_MINUTES), () if data else ("--model", FOREST_MODEL)
    with story.step("Train a first model", f"at most {budget:g} minutes of learning; the labelled soundscapes are kept out of it"):
        release = story.run("train", "--data", str(folder), *model, "--minutes", f"{budget:g}", shown=everything)[-1].strip()
    if not (settings.releases / release / RELEASE_FILE).is_file():
        raise StepFailed(f"The training's last line is {release!r}, which is no release in {settings.releases}.")
    with story.step(f"Deploy it to {site}", "both lanes answer by it before this returns"):
        _deploy(story, settings, release, site)
    labelled = (folder / "soundscape_labels.csv").is_file()
    answers, streams, files = _stream(story, settings, folder, site, home, labelled, own=data is not None, bird=bird)
    _report(story, settings, folder, release, answers, streams, home, labelled)
    _where(story, settings, key, site, bird, files)


def _day_one(story: Story, settings: Settings) -> bool:
    """Deploy BirdNET to the default site; whether it serves there."""
    with story.step(f"Deploy BirdNET to {settings.site}", "a site answers real recordings before it has data of its own"):
        code, lines, errors = story.ask("release", "add", "birdnet", "--site", settings.site)
        if code != 0:
            story.say(f"[yellow]Left out:[/] {(errors or lines or ['it could not be added'])[-1].removeprefix('soundscape: ')}")
            story.say("Everything else goes on without it.")
            return False
        for line in lines[:-1]:
            story.say(f"[dim]{line}[/]")
        _deploy(story, settings, lines[-1].strip(), settings.site)
    return True


def _deploy(story: Story, settings: Settings, release: str, site: str) -> None:
    """Make the release the champion of the site, unless it is. A licence that forbids commercial use is said."""
    loaded = named_release(settings.releases, release)
    digest, options = loaded.digest, list[str]()
    if bound := [f"{member.name}: {member.licence}" for member in loaded.release.members if member.noncommercial]:
        story.say(f"[dim]No commercial use: {', '.join(bound)}.[/]")
        options = ["--accept-noncommercial"]
    if (state := read_states(settings).get(site)) and (state.champion.name, state.champion.digest) == (release, digest):
        story.say(f"{site} is answered by {release} already (generation {state.generation}).")
        return
    story.say(story.run("deploy", release, "--site", site, *options)[-1])


def _key(story: Story) -> str:
    """A new key; the one of an earlier run is revoked, because it was shown only once."""
    if any(line.startswith(f"{KEY}\t") and "in force" in line for line in story.run("key", "list")):
        story.run("key", "revoke", KEY)
    return story.run("key", "create", KEY, secret=True)[-1].split()[-1]


def _real_recording(story: Story, settings: Settings, key: str) -> None:
    path = tools.SAMPLES / REAL
    with story.step("Ask who sings in a real recording", f"{REAL}, ten seconds of birds, over HTTP as an app would"):
        if not path.is_file():
            story.say(f"[yellow]Left out:[/] {path} is not there; `make setup` fetches it where the network allows.")
            return
        began = time.monotonic()
        said = _ask(settings, key, path)
        took = time.monotonic() - began
        story.console.print(species_table(said["prediction"]))
        story.say(f"Answered in {took:.2f} s by HTTP; licence: {', '.join(said['prediction']['licences'])}.")


def _ask(settings: Settings, key: str, path: Path) -> dict[str, Any]:
    """The gateway's answer to a WAV file. Raises StepFailed for a refusal, httpx.HTTPError."""
    base, headers = settings.url(Port.GATEWAY), {"X-API-Key": key}
    params = {"wait": str(ANSWER_S), "site": settings.site}
    answer = httpx.post(
        f"{base}/v1/clips", content=path.read_bytes(), params=params, headers=headers | {"Content-Type": "audio/wav"}, timeout=ANSWER_S + 30
    )
    for _ in range(3):
        if answer.status_code != httpx.codes.ACCEPTED:
            break
        answer = httpx.get(f"{base}/v1/clips/{answer.json()['clip_id']}", params=params, headers=headers, timeout=ANSWER_S + 30)
    if answer.status_code != httpx.codes.OK:
        raise StepFailed(f"The gateway answered {answer.status_code}: {answer.text[:300]}")
    said: dict[str, Any] = answer.json()
    return said


def _stream(
    story: Story, settings: Settings, folder: Path, site: str, home: Path, labelled: bool, *, own: bool, bird: bool
) -> tuple[Answers, dict[str, Streamed], list[str]]:
    """Stream recorders, tours and files at once; the answers, what was sent by kind, and the names of the files dropped."""
    shutil.rmtree(home / "stream", ignore_errors=True)
    minutes, tours = home / "stream" / "minutes", home / "stream" / "tours"
    why = f"{RECORDERS} recorders as fast as acknowledged, {TOURS} tours at {TOUR_RATE} times real time, files into the watched folder"
    files: list[str] = []
    with story.step(f"Stream what the model never heard through {site}", why), closing(Answers(settings)) as answers:
        known = ("--labelled",) if labelled else ()
        recorded = ("--data", str(folder), *known, "--recorders", str(RECORDERS), "--minutes", str(MOST_MINUTES // RECORDERS))
        walked = ("--data", str(folder), *known) if own else ("--seed", str(SEED))
        jobs = (
            story.start("simulate", "--site", site, *recorded, "--rate", "max", "--truth", str(minutes)),
            story.start("simulate", "--site", site, *walked, "--recorders", "0", "--tours", str(TOURS), "--clips", str(TOUR_CLIPS),
                        "--rate", TOUR_RATE, "--truth", str(tours)),
        )  # fmt: skip
        if bird:
            files = _drop(settings, folder)
        bar = Bar(story)
        while any(job.alive() for job in jobs):
            answers.poll()
            bar(len(answers.predicted))
        for job in jobs:
            story.say(story.succeeded(job)[-1])
        streams = {"minutes": read_streamed(minutes), "tours": read_streamed(tours)}
        clips = [clip for one in streams.values() for clip in one.stems]
        answers.wait_for(clips, PATIENCE_S, bar)
        _files_answered(settings, files)
        story.say(f"{len(clips)} clips: {sum(clip in answers.predicted for clip in clips)} answered, "
                  f"{sum(clip in answers.dead and clip not in answers.predicted for clip in clips)} dead letters.")  # fmt: skip
    return answers, streams, files


def _drop(settings: Settings, folder: Path) -> list[str]:
    """Put a few files into the watched folder: the real recording as OGG, and two soundscapes."""
    names = []
    real = tools.SAMPLES / REAL
    if real.is_file():
        wave, rate = read(real.read_bytes())
        names.append(_put(settings, f"{REAL_STEM}.ogg", encode_ogg(wave, rate)))
    there = sorted((folder / "train_soundscapes").glob("*.ogg"))
    return names + [_put(settings, path.name, path.read_bytes()) for path in there[:2]]


def _put(settings: Settings, name: str, body: bytes) -> str:
    """Write a file into the watched folder unless it is there; its name."""
    path = settings.online_input / name
    if not path.exists():
        path.write_bytes(body)
    return name


def _files_answered(settings: Settings, files: list[str]) -> None:
    """Wait until each file has its answer beside the others. Raises StepFailed."""
    def missing() -> list[str]:
        folder = settings.online_output
        return [name for name in files if not csv_path(folder, name).exists() and not error_path(folder, name).exists()]

    deadline = time.monotonic() + PATIENCE_S
    while missing():
        if time.monotonic() > deadline:
            raise StepFailed(f"No answer to {', '.join(missing())} came to {settings.online_output} within {PATIENCE_S:.0f} s.")
        time.sleep(0.2)


class Bar:
    """How many answers have come, as a line that renews itself in a terminal, or one every few seconds."""

    EVERY_S = 5.0

    def __init__(self, story: Story) -> None:
        self._story, self._said_at = story, float("-inf")
        self._said: tuple[int, int | None] | None = None

    def __call__(self, done: int, of: int | None = None) -> None:
        """Say it, if it is news; `of` is how many there will be, once that is known."""
        terminal, now = self._story.console.is_terminal, time.monotonic()
        if (done, of) == self._said or (done != of and now < self._said_at + (0.2 if terminal else self.EVERY_S)):
            return
        self._said, self._said_at = (done, of), now
        text = f"   {done} answers so far" if of is None else f"   {done} of {of} clips have their answer"
        self._story.console.print(f"{text:<50}", end="\r" if terminal and done != of else "\n", highlight=False)


def _report(
    story: Story, settings: Settings, folder: Path, release: str, answers: Answers, streams: dict[str, Streamed], home: Path, labelled: bool
) -> None:
    with story.step("Look at what was heard", "beside what was there, and beside those who hear almost nothing"):
        found: dict[str, Any] = {}
        if labelled:
            write_rows(home / "answers", streams["minutes"], answers.predicted)
            said = story.run("score", "--data", str(folder), "--answers", str(home / "answers"), "--json")
            found = json.loads("\n".join(said))
        species = names_of(named_release(settings.releases, release).release.labels)
        auc = {one["label"]: one["auc"] for one in found.get("species", ())}
        sent = {clip for one in streams.values() for clip in one.stems}
        mine = {clip: answer for clip, answer in answers.predicted.items() if clip in sent}
        story.console.print(heard_table(compare(streams.values(), mine), species, auc))
        if found:
            story.console.print(score_table(found))
        else:
            story.say(f"{folder} has no soundscape_labels.csv: nothing is scored.")
        story.console.print(latency_table(latencies(mine.values())))
    with story.step("Count every clip", "accepted, answered, dead, lost, counted twice: from the logs, the board and the files"):
        counts = _audit(story)
        story.console.print(audit_table(counts))
        if counts["lost"] or counts["twice"]:
            raise StepFailed(f"{counts['lost']} clips were lost and {counts['twice']} counted twice; `soundscape audit` names them.")


def _audit(story: Story) -> dict[str, int]:
    """What `audit` counts, once nothing waits any more. Raises StepFailed."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        code, lines, errors = story.ask("audit", "--json")
        if not lines:
            raise StepFailed(f"`soundscape audit` ended with {code}: {(errors or [''])[-1]}")
        counts: dict[str, int] = json.loads(lines[-1])
        if not counts["waiting"] or time.monotonic() > deadline:
            return counts


def _where(story: Story, settings: Settings, key: str, site: str, bird: bool, files: list[str]) -> None:
    gateway = settings.url(Port.GATEWAY)
    places = {
        "answers to watched files": f"{settings.online_output}" + (f" ({len(files)} of this run)" if files else ""),
        "put files to be answered here": f"{settings.online_input}",
        "the API's page": f"{gateway}/docs",
        "MLflow: runs, metrics, models": settings.tracking_uri,
        "Prometheus: every metric": settings.url(Port.PROMETHEUS),
    }
    story.console.print()
    story.console.print(places_table(places))
    story.console.print(f"Identify a file of your own{'' if bird else ' (no BirdNET here: only the model of this demo answers)'}:")
    asked = f"{gateway}/v1/clips?wait=30" + ("" if bird else f"&site={site}")
    line = f"curl -H 'X-API-Key: {key}' -H 'Content-Type: audio/wav' --data-binary @YOUR.wav '{asked}'"
    story.console.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)
