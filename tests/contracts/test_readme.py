"""What the README promises is what the code does: its commands, its limits, its sites, and its cure after a power cut."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from datetime import datetime
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest

from soundscape.answers import csv_path, error_path
from soundscape.audio import MAX_BYTES, MAX_CHANNELS, MAX_SECONDS, RATES
from soundscape.cli import GROUP
from soundscape.settings import Settings
from soundscape.topics import CLIPS, RECORDINGS, TOPICS

BLOCK = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:^(?:[A-Z_]+=\S+ )?|`(?:[A-Z_]+=\S+ )?)soundscape ([^`\n]*)", re.MULTILINE)
"""`soundscape` at the beginning of a line or of a code span, perhaps after a variable."""


@pytest.fixture(scope="module")
def readme(root: Path) -> str:
    """The text."""
    return (root / "README.md").read_text("utf-8")


def _misfit(said: str) -> str | None:
    """What no command takes of the words after `soundscape`, None if all of it is taken."""
    words = shlex.split(said.partition("  #")[0])
    entry = {one.name: one for one in entry_points(group=GROUP)}.get(words[0])
    if entry is None:
        return f"{words[0]} in: {said}"
    command, rest = entry.load(), words[1:]
    while isinstance(command, click.Group) and rest:
        if (inner := command.commands.get(rest[0])) is None:
            return f"{rest[0]} in: {said}"
        command, rest = inner, rest[1:]
    if not command.context_settings.get("allow_interspersed_args", True):  # what follows the first bare word is a command of its own
        own = next((n for n, word in enumerate(rest) if not word.startswith("-") and not (n and rest[n - 1].startswith("-"))), len(rest))
        if misfit := _misfit(shlex.join(rest[own:])) if rest[own:] else None:
            return misfit
        rest = rest[:own]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    strange = [word for word in rest if word.startswith("-") and word not in known]
    return f"{strange[0]} in: {said}" if strange else None


def test_every_command_of_the_readme_is_one(readme: str) -> None:
    """With each of its options."""
    found = COMMAND.findall(readme)
    assert len(found) > 20
    assert [misfit for said in found if (misfit := _misfit(said))] == []


def test_a_release_comes_before_the_first_clip_is_sent(readme: str) -> None:
    """After a plain `up` no site has one: what a reader types from top to bottom must be answered."""
    site = Settings.model_fields["site"].default
    add, deploy = f"soundscape release add birdnet --site {site}", f"soundscape deploy birdnet-{site} --site {site} --accept-noncommercial"
    assert readme.index(add) < readme.index(deploy) < readme.index("var/online_input/") < readme.index("curl -H")


def test_the_readme_names_what_every_site_is_given_by(readme: str) -> None:
    """The setting, the parameter and the key: whoever deploys to a site of their own must be able to reach it."""
    asked = readme[: readme.index("## What people say")]
    prefix, site = Settings.model_config["env_prefix"], Settings.model_fields["site"].default
    assert f"`{site}` is meant wherever no site is named" in asked
    for way in (f"`{prefix}SITE=own-recordings soundscape up`", "`?site=own-recordings`", "key create ana --site own-recordings"):
        assert way in asked, way


def test_the_limits_of_a_clip_are_those_of_the_decoder(readme: str) -> None:
    """Rate, channels, length and bytes."""
    rates, size = f"{RATES[0] // 1000} to {RATES[1] // 1000} kHz", f"{MAX_BYTES // 1_000_000} MB"
    said = f"OGG, WAV, FLAC and MP3 of {rates} and up to {MAX_CHANNELS} channels, up to {MAX_SECONDS / 60:.0f} minutes and {size}."
    assert said in " ".join(readme.split())


def test_the_flushed_topics_are_named_alike(root: Path, readme: str) -> None:
    """Where the README and the decision say what a power cut spares, they name the topics that are durable."""
    durable = ", ".join(f"`{topic.name}`" for topic in TOPICS if topic.durable)
    for text in (readme, (root / "docs" / "decisions" / "0003-stream.md").read_text("utf-8")):
        flushed = [part for part in re.findall(r"flush\.messages=1`\)?(?: on|:) ((?:`[\w-]+`(?:, )?)+)", text)]
        assert flushed == [durable]


def test_how_much_is_analysed_again_is_what_is_kept(readme: str) -> None:
    """A position beyond the end begins the partition again."""
    days = {3: "three days"}[RECORDINGS.retention_days or 0]
    assert f"in the bulk lane up to {days} of recordings" in " ".join(readme.split())


def test_what_the_log_still_has_after_a_power_cut_is_sent_again_by_a_command(readme: str) -> None:
    """Named where a reader looks for it, with how long the sound is there."""
    section = readme[readme.index("## What can be lost") : readme.index("## Licences")]
    assert "`soundscape audit --send-again`" in section
    assert f"`{CLIPS.name}` keeps the sound for {CLIPS.retention_days} days" in section


def test_the_cure_after_a_power_cut_touches_what_has_no_answer(readme: str, tmp_path: Path) -> None:
    """As it stands: files without an answer and those answered after its moment, and no other."""
    (cure,) = (block for block in BLOCK.findall(readme) if "touch" in block)
    (moment,) = re.findall(r'-newermt "([^"]+)"', cure)
    cut, settings = datetime.fromisoformat(moment).astimezone().timestamp(), Settings(data_dir=tmp_path / "var")
    inside, outside = settings.online_input, settings.online_output
    inside.mkdir(parents=True)
    outside.mkdir(parents=True)
    files = {"old": csv_path, "refused_long_ago": error_path, "new": csv_path, "a name": csv_path, "none": None}
    for stem, place in files.items():
        answers = [place(outside, f"{stem}.ogg")] if place else []
        for path in (inside / f"{stem}.ogg", *answers):
            path.touch()
            os.utime(path, (cut - 9, cut + 1 if stem == "new" and path in answers else cut - 9))
    subprocess.run(["bash", "-eu", "-c", cure], cwd=tmp_path, check=True)
    assert {path.stem for path in inside.iterdir() if path.stat().st_mtime > cut - 9} == {"new", "none"}
