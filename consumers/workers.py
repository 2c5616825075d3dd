"""What the workers of both lanes say of themselves, by their own doors."""

from __future__ import annotations

from typing import Any

import httpx

from soundscape.settings import Port, Settings
from soundscape.topics import group_of


def behind(settings: Settings, site: str, generation: int) -> list[str]:
    """Names of the workers that are not yet at the site's generation."""
    return [name for name, said in reports(settings).items() if said.get("generations", {}).get(site, 0) < generation]


def reports(settings: Settings) -> dict[str, dict[str, Any]]:
    """Health of every worker that the settings name; empty for one that does not answer."""
    ports = {f"{group_of('live')}-{n}": settings.url(Port.LIVE, n) for n in range(settings.live_workers)}
    ports |= {f"{group_of('bulk')}-{n}": settings.url(Port.BULK, n) for n in range(settings.bulk_workers)}
    return {name: _report(url) for name, url in ports.items()}


def _report(url: str) -> dict[str, Any]:
    try:
        said: dict[str, Any] = httpx.get(f"{url}/healthz", timeout=2.0).json()
    except (httpx.HTTPError, ValueError):
        return {}
    return said
