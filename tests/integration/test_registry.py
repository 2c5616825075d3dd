"""The registry's alias `champion` follows the deployments, on a real MLflow."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from soundscape.testing import Stack, tone_release, wait_for
from trainer.tracking import tracked


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred")  # MLflow warns of its own code when it is imported
def test_the_alias_follows_the_champion(stack: Stack, tmp_path: Path) -> None:
    """A registered release becomes `champion` when it is deployed, and another one when that is; an unregistered one has none."""
    made = [tone_release(stack.settings.releases / name, name) for name in ("registered-1", "registered-2")]
    said: list[str] = []
    with tracked(stack.settings, tmp_path, "tones", said.append) as run:
        versions = {}
        for one in made:
            version = run.register(one.folder / "model.onnx", "tones", {"digest": one.digest})
            assert version is not None, said
            versions[one.release.name] = version
        tone_release(stack.settings.releases / "unregistered", "unregistered")
        for name in ("registered-1", "registered-2", "unregistered", "registered-1"):
            stack.run("deploy", name, "--site", "registry")
            wait_for(partial(_stands, versions.get(name, versions["registered-2"])), f"the alias at {name}")


def _stands(version: str) -> bool:
    from mlflow import MlflowClient

    aliases: dict[str, str] = MlflowClient().get_registered_model("tones").aliases
    return aliases.get("champion") == version
