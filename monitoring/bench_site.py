"""The benchmarks' own site: its release deployed, a key for the time of a run, and the product's commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from soundscape.errors import Invalid, Reason
from soundscape.settings import Settings

SITE = "bench"


@contextmanager
def prepared(settings: Settings, site: str) -> Iterator[str]:
    """The benchmark's release deployed, and a key for the time of the run. Raises Invalid with a command's own words."""
    if site == SITE and SITE not in deployed(settings):
        soundscape("release", "bench")
        soundscape("deploy", SITE, "--site", SITE)
    name = f"bench-{os.getpid()}-{int(time.time())}"
    key = soundscape("key", "create", name, "--site", site).split()[-1]
    try:
        yield key
    finally:
        soundscape("key", "revoke", name)


def soundscape(*arguments: str, allowed: Collection[int] = (0,)) -> str:
    """What a command of the product prints. Raises Invalid with its words if it ends with another code than those allowed.

    Ctrl-C does not reach it: what it began is done or refused, never in between, when the benchmark takes its change back.
    """
    command = [str(Path(sys.executable).parent / "soundscape"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, start_new_session=True)
    if done.returncode not in allowed:
        raise Invalid(Reason.BAD_REQUEST, done.stderr.strip().removeprefix("soundscape: ") or f"{' '.join(arguments)} failed.")
    return done.stdout


def audited() -> dict[str, int]:
    """What `soundscape audit` counts, also where it found something lost. Raises Invalid if it could not count."""
    counted: dict[str, int] = json.loads(soundscape("audit", "--json", allowed=(0, 1)).splitlines()[-1])
    return counted


def deployed(settings: Settings) -> dict[str, str]:
    """Champion by site. Raises Unavailable without a broker."""
    from soundscape.deployments import read_states

    return {site: state.champion.name for site, state in read_states(settings).items()}
