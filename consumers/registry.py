"""MLflow's aliases `champion` and `candidate`, brought to the deployment states by MLflow's REST interface: two aliases need no client."""

from __future__ import annotations

import logging
from typing import Any

import httpx

from soundscape.events import SiteDeployed
from soundscape.settings import Settings

log = logging.getLogger(__name__)

ANSWER_S = 3.0
"""Seconds to wait for MLflow: the alias is for people, no clip waits for it."""


class Registry:
    """The model registry; a release that was never registered there (the day-one release) has no alias to set."""

    def __init__(self, settings: Settings) -> None:
        self._url = f"{settings.tracking_uri}/api/2.0/mlflow"
        self._done: dict[tuple[str, str], str] = {}

    def follow(self, states: dict[str, SiteDeployed]) -> None:
        """Set the aliases of each site's champion and candidate. An MLflow that is away is asked again next time."""
        for site, state in states.items():
            for alias, ref in (("champion", state.champion), ("candidate", state.candidate)):
                if ref is None or self._done.get((site, alias)) == ref.digest:
                    continue
                try:
                    self._point(ref.digest, alias)
                except httpx.HTTPError as error:
                    log.debug("MLflow does not take the alias of %s: %s", site, error)
                    return
                self._done[site, alias] = ref.digest

    def _point(self, digest: str, alias: str) -> None:
        found = self._ask("GET", "model-versions/search", params={"filter": f"tags.digest = '{digest}'"})
        for version in found.get("model_versions", []):
            body = {"name": version["name"], "version": version["version"], "alias": alias}
            self._ask("POST", "registered-models/alias", json=body)
            log.info("MLflow: %s version %s is %s", version["name"], version["version"], alias)

    def _ask(self, method: str, path: str, **what: Any) -> dict[str, Any]:
        answer = httpx.request(method, f"{self._url}/{path}", timeout=ANSWER_S, **what)
        answer.raise_for_status()
        said: dict[str, Any] = answer.json()
        return said
