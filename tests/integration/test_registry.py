"""The registry's aliases follow the deployments, on a real MLflow."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from soundscape.features import LOG_MEL
from soundscape.release import LoadedRelease, load_release
from soundscape.testing import Stack, tone_release, wait_for
from trainer.evaluation.hear import Ears
from trainer.training.tracking import tracked

SITE = "registry"


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred")  # MLflow warns of its own code when it is imported
def test_the_aliases_follow_the_deployments(stack: Stack, tmp_path: Path) -> None:
    """Of a champion, of one that was never registered, of a candidate until it is gone; what is moved by hand is put right."""
    made = [tone_release(stack.settings.releases / name, name) for name in ("registered-1", "registered-2")]
    tone_release(stack.settings.releases / "unregistered", "unregistered")
    said: list[str] = []
    with tracked(stack.settings, tmp_path, "tones", said.append) as run:
        versions = [run.register(one, "tones") for one in made]
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
    _comes_back(stack, made[1], f"tones/{second}")
    for wanted in ("tones", "tones@champion"):
        assert stack.run("release", "fetch", wanted).stdout.split()[-1] == made[wanted == "tones"].release.name


def _comes_back(stack: Stack, made: LoadedRelease, registered: str) -> None:
    """What the registry alone holds is the release that was made, to the last byte; what is not there is said."""
    kept, folder = made.folder.rename(made.folder.with_name(".kept")), made.folder
    assert stack.run("release", "fetch", registered).stdout.split()[-1] == made.release.name
    again = load_release(folder, made.digest)
    sound = LOG_MEL.compute(np.random.default_rng(0).normal(0, 0.1, 160_000).astype(np.float32))
    before, after = (
        Ears(one).members({LOG_MEL.fingerprint: sound})["tones"] for one in (LoadedRelease(kept, made.release, made.digest), again)
    )
    np.testing.assert_array_equal(before, after)
    other = tone_release(folder, made.release.name, activation="none")
    assert other.digest != made.digest
    unknown = "MLflow knows no"
    for wanted, says in ((registered, "Another release is named"), ("nobody", unknown), ("tones@nobody", unknown), ("tones/99", unknown)):
        refused = stack.run("release", "fetch", wanted, check=False)
        assert refused.returncode == 2 and says in refused.stderr
    shutil.rmtree(folder)
    kept.rename(folder)


def _become(wanted: dict[str, str]) -> None:
    wait_for(lambda: _aliases() == wanted, f"the aliases {wanted}")


def _aliases() -> dict[str, str]:
    from mlflow import MlflowClient

    return {alias: str(version) for alias, version in MlflowClient().get_registered_model("tones").aliases.items()}


def _move(alias: str, version: str) -> None:
    from mlflow import MlflowClient

    MlflowClient().set_registered_model_alias("tones", alias, version)
