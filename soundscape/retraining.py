"""What waits to be retrained: one request a site, a file that the gate or the quality process leaves and `soundscape retrain` takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from soundscape.settings import Settings

FOLDER = "retraining"


def queue(settings: Settings, site: str, because: str, **said: Any) -> bool:
    """Ask for one retraining of a site; False where one waits already."""
    path = _path(settings, site)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    body = {"site": site, "because": because, **said, "at": datetime.now(UTC).isoformat(timespec="seconds")}
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(body, indent=1))
    except FileExistsError:
        return False
    return True


def queued(settings: Settings) -> Mapping[str, str]:
    """Site -> why, for every request that waits."""
    found = {}
    for path in sorted((settings.state / FOLDER).glob("*.json")):
        try:
            found[path.stem] = str(json.loads(path.read_text(encoding="utf-8"))["because"])
        except (OSError, ValueError, KeyError):
            found[path.stem] = "unknown"  # cut off while it was written: asked for all the same
    return found


def done(settings: Settings, site: str) -> None:
    """Take a site's request off the list."""
    _path(settings, site).unlink(missing_ok=True)


def last_at(settings: Settings, site: str) -> datetime | None:
    """When the site was last retrained here, if it was."""
    times = []
    for path in (settings.root / "retrainings").glob("*.json"):
        try:
            if json.loads(path.read_text(encoding="utf-8")).get("site") == site:
                times.append(path.stat().st_mtime)
        except (OSError, ValueError):
            continue
    return datetime.fromtimestamp(max(times), UTC) if times else None


def _path(settings: Settings, site: str) -> Path:
    return settings.state / FOLDER / f"{site}.json"
