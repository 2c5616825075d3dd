"""MLflow's aliases `champion` and `candidate`, brought to the deployment states by MLflow's REST interface: two aliases need no client."""

from __future__ import annotations

import logging
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import httpx

from soundscape.events import SiteDeployed
from soundscape.settings import Settings

log = logging.getLogger(__name__)

ANSWER_S = 3.0
"""Seconds to wait for MLflow: the alias is for people, no clip waits for it."""
LOOK_S = 10.0
"""Seconds between two looks at what MLflow says, where no state has changed: what somebody moved there is put right by then."""
ROLES = ("champion", "candidate")

Version = tuple[str, str]
"""(registered model, version)."""
Aliases = dict[tuple[str, str], str]
"""(registered model, alias) -> version."""


class Registry:
    """The model registry; a release that was never registered there (the day-one release) has no alias to set."""

    def __init__(self, settings: Settings) -> None:
        self._url, self._releases = f"{settings.tracking_uri}/api/2.0/mlflow", settings.releases
        self._followed: dict[str, int] = {}
        """Generation by site, as of the last look."""
        self._next_look = 0.0

    def follow(self, states: dict[str, SiteDeployed]) -> None:
        """Bring the aliases to the states, at once when one has changed and else every LOOK_S. An MLflow that is away is asked again."""
        generations = {site: state.generation for site, state in states.items()}
        if generations == self._followed and time.monotonic() < self._next_look:
            return
        self._followed, self._next_look = generations, time.monotonic() + LOOK_S
        try:
            self._bring(wanted(states, self._versions))
        except (httpx.HTTPError, ValueError, KeyError) as error:
            log.debug("MLflow does not take the aliases: %s", error)

    def _bring(self, wanted: Aliases) -> None:
        found = self._ask("GET", "registered-models/search", params={"max_results": 1000})
        there: Aliases = {
            (model["name"], one["alias"]): str(one["version"])
            for model in found.get("registered_models", [])
            for one in model.get("aliases", [])
        }
        for (model, alias), version in wanted.items():
            if there.get((model, alias)) != version:
                self._ask("POST", "registered-models/alias", json={"name": model, "version": version, "alias": alias})
                log.info("MLflow: %s version %s is %s", model, version, alias)
        for model, alias in there.keys() - wanted.keys():
            if alias.partition("-")[0] in ROLES and self._is_ours(model, alias):
                self._ask("DELETE", "registered-models/alias", json={"name": model, "alias": alias})
                log.info("MLflow: %s has no %s any more", model, alias)

    def _versions(self, digest: str) -> list[Version]:
        """The registered versions of a release, the oldest first."""
        found = self._ask("GET", "model-versions/search", params={"filter": f"tags.digest = '{digest}'"})
        versions = [(one["name"], str(one["version"])) for one in found.get("model_versions", [])]
        return sorted(versions, key=lambda one: int(one[1]))

    def _is_ours(self, model: str, alias: str) -> bool:
        """Whether an alias names a release of this stack: on a registry that others use too, theirs are left alone."""
        found = self._ask("GET", "registered-models/alias", params={"name": model, "alias": alias})
        tags = {one["key"]: one["value"] for one in found["model_version"].get("tags", [])}
        return "digest" in tags and (self._releases / tags.get("release", "?") / "release.json").is_file()

    def _ask(self, method: str, path: str, **what: Any) -> dict[str, Any]:
        answer = httpx.request(method, f"{self._url}/{path}", timeout=ANSWER_S, **what)
        answer.raise_for_status()
        said: dict[str, Any] = answer.json()
        return said


def wanted(states: dict[str, SiteDeployed], versions_of: Callable[[str], Iterable[Version]]) -> Aliases:
    """The aliases that the states ask for; `versions_of` gives the registered versions of a release by its digest.

    A registered model has one version of an alias, and may serve several sites: where they differ, each has an alias of its own,
    `champion-SITE`, and the plain one is nobody's.
    """
    by_site: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for site, state in states.items():
        for role, ref in zip(ROLES, (state.champion, state.candidate), strict=True):
            for model, version in versions_of(ref.digest) if ref else ():
                by_site[model, role][site] = version
    aliases: Aliases = {}
    for (model, role), versions in by_site.items():
        if len(set(versions.values())) == 1:
            aliases[model, role] = next(iter(versions.values()))
        else:
            aliases |= {(model, f"{role}-{_as_alias(site)}"): version for site, version in versions.items()}
    return aliases


def _as_alias(site: str) -> str:
    """What MLflow takes: letters, digits, dashes and underscores."""
    return re.sub(r"[^\w-]", "_", site)
