"""MLflow's alias `champion`, brought to what the deployment states say; by MLflow's REST interface, since one alias needs no client."""

from __future__ import annotations

import logging
from typing import Any

import httpx

from soundscape.settings import Settings

log = logging.getLogger(__name__)

CHAMPION = "champion"
ANSWER_S = 3.0
"""Seconds to wait for MLflow: the alias is for people, no clip waits for it."""


class Registry:
    """The model registry; a release that was never registered there (the day-one release) has no alias to set."""

    def __init__(self, settings: Settings) -> None:
        self._url = f"{settings.tracking_uri}/api/2.0/mlflow"
        self._done: dict[str, str] = {}

    def follow(self, champions: dict[str, str]) -> None:
        """Set the alias of each site's champion, given by the release's digest. An MLflow that is away is asked again next time."""
        for site, digest in champions.items():
            if self._done.get(site) != digest:
                try:
                    self._point(digest)
                except httpx.HTTPError as error:
                    log.debug("MLflow does not take the alias of %s: %s", site, error)
                    return
                self._done[site] = digest

    def _point(self, digest: str) -> None:
        found = self._ask("GET", "model-versions/search", params={"filter": f"tags.digest = '{digest}'"})
        for version in found.get("model_versions", []):
            body = {"name": version["name"], "version": version["version"], "alias": CHAMPION}
            self._ask("POST", "registered-models/alias", json=body)
            log.info("MLflow: %s version %s is %s", version["name"], version["version"], CHAMPION)

    def _ask(self, method: str, path: str, **what: Any) -> dict[str, Any]:
        answer = httpx.request(method, f"{self._url}/{path}", timeout=ANSWER_S, **what)
        answer.raise_for_status()
        said: dict[str, Any] = answer.json()
        return said
