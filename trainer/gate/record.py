"""What follows from the gate: the verdict kept for the deployer, a word on the log, and at most one retraining."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from soundscape.errors import Invalid, Unavailable
from soundscape.events import DeploymentStepped, SiteDeployed
from soundscape.release import RELEASE_FILE, LoadedRelease, named_release
from soundscape.retraining import queue
from soundscape.settings import Port, Settings
from trainer.data.store import write_text
from trainer.gate.run import Verdict
from trainer.gate.served import answers_at

DETAIL = 1000
"""Letters of the reasons on the log; all of them are in the file."""


def state_of(settings: Settings, site: str) -> SiteDeployed | None:
    """What answers the site now; None without a broker, or where nothing is deployed."""
    if not answers_at(settings, Port.KAFKA):
        return None
    from soundscape.deployments import read_states

    try:
        return read_states(settings).get(site)
    except Unavailable:
        return None


def champion_of(settings: Settings, state: SiteDeployed | None, name: str | None, say: Callable[[str], None]) -> LoadedRelease | None:
    """The release to be measured against: the one named, else the site's champion, if its files are here.

    Raises Invalid if the one named is not there or does not hold.
    """
    if name is not None:
        return named_release(settings.releases, name)
    if state is None:
        say("No champion is known (no broker answers, or nothing is deployed to the site); --champion NAME names one.")
        return None
    try:
        return named_release(settings.releases, state.champion.name, state.champion.digest)
    except Invalid as error:
        say(f"The champion cannot be compared with: {error.detail}")
        return None


def record(settings: Settings, site: str, release: str, verdict: Verdict, champion: LoadedRelease | None) -> Path:
    """Keep the verdict where the deployer looks for it, under the digest of this very release; returns the file.

    With the site and the champion that it was measured against: a verdict against another says nothing there.
    """
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = verdict.loaded.digest if verdict.loaded else _digest(settings.releases / release)
    path = settings.state / "gates" / f"{digest}.json"
    said = {
        "release": release, "digest": digest, "site": site, "champion": champion.digest if champion else None,
        "passed": verdict.passed, "reasons": verdict.reasons, "not_asked": verdict.not_asked,
        "at": datetime.now(UTC).isoformat(timespec="seconds"), "data_digest": verdict.set_digest,
    }  # fmt: skip
    write_text(path, json.dumps(said, indent=1))
    return path


def queue_retraining(settings: Settings, site: str, release: str, verdict: Verdict) -> bool:
    """Queue one retraining of the site after a refusal; whether it was queued.

    Not where one waits already, and not for a release that was itself a retraining: a model that learns nothing from its labels would
    be trained for ever.
    """
    if verdict.passed or is_retraining(settings.releases / release):
        return False
    return queue(settings, site, "gate", release=release, reasons=verdict.reasons)


def is_retraining(folder: Path) -> bool:
    """Whether a release was trained on from another one's weights, or says that it answers a queued retraining.

    Read as it stands, since a release that is refused need not hold.
    """
    try:
        said: Any = json.loads((folder / RELEASE_FILE).read_text(encoding="utf-8"))
        training = said["metrics"]["training"]
        return bool(training.get("retraining") or (training.get("plan") or {}).get("begins_with"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def say_steps(
    settings: Settings, site: str, generation: int, release: str, verdict: Verdict, queued: bool, say: Callable[[str], None]
) -> None:
    """Say on `deployment-log` how it went; without a broker the verdict is in its file alone, and that is said."""
    if not answers_at(settings, Port.KAFKA):
        say("No broker answers: the verdict is in its file alone.")
        return
    from soundscape.kafka import new_producer
    from soundscape.kafka import say as publish
    from soundscape.topics import DEPLOYMENT_LOG

    detail = "passed the gate" if verdict.passed else f"refused by the gate: {'; '.join(verdict.reasons)}"
    detail = "; ".join([detail, *verdict.not_asked])[:DETAIL]
    steps = [("gated", detail)] + ([("retraining", f"one retraining is queued, because the gate refused {release}")] if queued else [])
    try:
        producer = new_producer(settings)
        try:
            for step, says in steps:
                event = DeploymentStepped.model_validate(
                    {"site": site, "generation": generation, "step": step, "release": release, "detail": says, "at": datetime.now(UTC)}
                )
                publish(producer, DEPLOYMENT_LOG, event)
        finally:
            producer.close(timeout=5)
    except Unavailable as error:
        say(f"The verdict is in its file alone: {error}")


def _digest(folder: Path) -> str:
    """The digest of a release that does not load: of its `release.json` alone, as no prior can be trusted."""
    return hashlib.sha256((folder / RELEASE_FILE).read_bytes()).hexdigest()
