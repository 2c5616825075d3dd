"""The aliases follow the deployment states, on an MLflow in memory that answers as the real one does."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from consumers.registry import Registry
from soundscape.events import ReleaseRef, SiteDeployed
from soundscape.settings import Settings

MODEL = "forest"


class FakeMlflow:
    """One registered model, with a version of each release; its aliases are what is looked at."""

    def __init__(self, settings: Settings, *releases: str) -> None:
        self.releases = releases
        self.aliases: dict[str, str] = {}
        self.away = False
        self.asked = 0
        for name in releases:
            (settings.releases / name).mkdir(parents=True)
            (settings.releases / name / "release.json").touch()

    def _version(self, number: str) -> dict[str, Any]:
        release = self.releases[int(number) - 1]
        tags = {"digest": f"digest of {release}", "release": release}
        return {"name": MODEL, "version": number, "tags": [{"key": key, "value": value} for key, value in tags.items()]}

    def request(self, method: str, url: str, *, timeout: float, params: Any = None, json: Any = None) -> httpx.Response:
        """As MLflow's REST interface."""
        self.asked += 1
        if self.away:
            raise httpx.ConnectError("nobody listens")
        said: dict[str, Any] = {}
        match method, url.partition("/api/2.0/mlflow/")[2]:
            case "GET", "model-versions/search":
                numbers = [str(n) for n, one in enumerate(self.releases, 1) if params["filter"] == f"tags.digest = 'digest of {one}'"]
                said = {"model_versions": [self._version(number) for number in numbers]} if numbers else {}
            case "GET", "registered-models/search":
                aliases = [{"alias": alias, "version": number} for alias, number in self.aliases.items()]
                said = {"registered_models": [{"name": MODEL} | ({"aliases": aliases} if aliases else {})]}
            case "GET", "registered-models/alias":
                said = {"model_version": self._version(self.aliases[params["alias"]])}
            case "POST", "registered-models/alias":
                self.aliases[json["alias"]] = json["version"]
            case "DELETE", "registered-models/alias":
                del self.aliases[json["alias"]]
            case other:
                raise AssertionError(other)
        return httpx.Response(200, json=said, request=httpx.Request(method, url))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A stack's."""
    return Settings(data_dir=tmp_path)


@pytest.fixture
def mlflow(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> FakeMlflow:
    """With the releases `one` (version 1) and `two` (version 2)."""
    made = FakeMlflow(settings, "one", "two")
    monkeypatch.setattr("consumers.registry.httpx.request", made.request)
    return made


def state(site: str, generation: int, champion: str, candidate: str | None = None) -> dict[str, SiteDeployed]:
    """A site's, by its name."""
    champions, candidates = (ReleaseRef(name=one, digest=f"digest of {one}") if one else None for one in (champion, candidate))
    assert champions is not None
    return {
        site: SiteDeployed(
            site=site, generation=generation, champion=champions, candidate=candidates, stage="shadow" if candidate else "champion",
            reason="", actor="ana", at=datetime.now(UTC),
        )
    }  # fmt: skip


def test_a_candidate_has_its_alias_while_it_is_one(settings: Settings, mlflow: FakeMlflow) -> None:
    """Offered, promoted, offered again and rolled back."""
    follower = Registry(settings)
    follower.follow(state("s", 1, "one"))
    assert mlflow.aliases == {"champion": "1"}
    follower.follow(state("s", 2, "one", "two"))
    assert mlflow.aliases == {"champion": "1", "candidate": "2"}
    follower.follow(state("s", 3, "two"))
    assert mlflow.aliases == {"champion": "2"}
    follower.follow(state("s", 4, "two", "one"))
    follower.follow(state("s", 5, "two"))
    assert mlflow.aliases == {"champion": "2"}


def test_a_release_that_was_never_registered_has_no_alias_and_keeps_no_others(settings: Settings, mlflow: FakeMlflow) -> None:
    """The day-one release takes the site over: what was champion is no more."""
    follower = Registry(settings)
    follower.follow(state("s", 1, "one"))
    follower.follow(state("s", 2, "birdnet"))
    assert mlflow.aliases == {}


def test_sites_that_differ_have_an_alias_each(settings: Settings, mlflow: FakeMlflow) -> None:
    """One model has one `champion`: while two sites agree it is theirs, and then it is nobody's."""
    follower = Registry(settings)
    follower.follow(state("a", 1, "one") | state("el silencio", 1, "one"))
    assert mlflow.aliases == {"champion": "1"}
    follower.follow(state("a", 1, "one") | state("el silencio", 2, "two"))
    assert mlflow.aliases == {"champion-a": "1", "champion-el_silencio": "2"}
    follower.follow(state("a", 2, "two") | state("el silencio", 2, "two"))
    assert mlflow.aliases == {"champion": "2"}


def test_what_somebody_changed_in_mlflow_is_put_right(settings: Settings, mlflow: FakeMlflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the next look, though no state has changed; between two looks nothing is asked."""
    follower, states = Registry(settings), state("s", 1, "one")
    follower.follow(states)
    mlflow.aliases = {"champion": "2", "candidate": "1"}
    asked = mlflow.asked
    follower.follow(states)
    assert mlflow.asked == asked
    monkeypatch.setattr("consumers.registry.time.monotonic", lambda: 1e9)
    follower.follow(states)
    assert mlflow.aliases == {"champion": "1"}


def test_aliases_of_others_are_left_alone(settings: Settings, mlflow: FakeMlflow) -> None:
    """Other names, and releases that are not this stack's, on a registry that several share."""
    (settings.releases / "two" / "release.json").unlink()
    mlflow.aliases = {"best": "1", "champion-elsewhere": "2"}
    Registry(settings).follow(state("s", 1, "one"))
    assert mlflow.aliases == {"best": "1", "champion-elsewhere": "2", "champion": "1"}


def test_an_mlflow_that_is_away_is_asked_again(settings: Settings, mlflow: FakeMlflow, monkeypatch: pytest.MonkeyPatch) -> None:
    follower, mlflow.away = Registry(settings), True
    follower.follow(state("s", 1, "one"))
    mlflow.away = False
    monkeypatch.setattr("consumers.registry.time.monotonic", lambda: 1e9)
    follower.follow(state("s", 1, "one"))
    assert mlflow.aliases == {"champion": "1"}
