"""The registry's aliases follow the deployments, on a real MLflow."""

from __future__ import annotations

from pathlib import Path

import pytest

from soundscape.testing import Stack, tone_release, wait_for
from trainer.tracking import tracked

SITE = "registry"


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred")  # MLflow warns of its own code when it is imported
def test_the_aliases_follow_the_deployments(stack: Stack, tmp_path: Path) -> None:
    """Of a champion, of one that was never registered, of a candidate until it is gone; what is moved by hand is put right."""
    made = [tone_release(stack.settings.releases / name, name) for name in ("registered-1", "registered-2")]
    tone_release(stack.settings.releases / "unregistered", "unregistered")
    said: list[str] = []
    with tracked(stack.settings, tmp_path, "tones", said.append) as run:
        versions = [
            run.register(one.folder / "model.onnx", "tones", {"digest": one.digest, "release": one.release.name}) for one in made
        ]
        first, second = (version for version in versions if version is not None)
        assert _aliases() == {}, "training gives none"
        for name, version in (("registered-1", first), ("registered-2", second), ("unregistered", None), ("registered-1", first)):
            stack.run("deploy", name, "--site", SITE)
            _become({"champion": version} if version else {})
        stack.run("candidate", "registered-2", "--site", SITE, "--force")
        _become({"champion": first, "candidate": second})
        _move("champion", second)
        _become({"champion": first, "candidate": second})
        stack.run("rollback", "--site", SITE)
        _become({"champion": first})


def _become(wanted: dict[str, str]) -> None:
    wait_for(lambda: _aliases() == wanted, f"the aliases {wanted}")


def _aliases() -> dict[str, str]:
    from mlflow import MlflowClient

    return {alias: str(version) for alias, version in MlflowClient().get_registered_model("tones").aliases.items()}


def _move(alias: str, version: str) -> None:
    from mlflow import MlflowClient

    MlflowClient().set_registered_model_alias("tones", alias, version)
