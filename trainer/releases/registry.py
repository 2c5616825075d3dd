"""A release brought back from MLflow's registry alone, on a machine that never made it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.event import Name
from soundscape.release import RELEASE_FILE, LoadedRelease, load_release, named_release
from soundscape.settings import Settings
from trainer.training.tracking import RELEASE, quiet_mlflow, reachable


def fetch(settings: Settings, wanted: str) -> LoadedRelease:
    """The release of `MODEL` (its newest version), `MODEL/VERSION` or `MODEL@ALIAS`, put among the releases of this machine.

    One that is here already is left as it is. Raises Invalid for what is not registered, whose files are gone or are not those that were
    registered, or if another release has its name; Unavailable if MLflow does not answer.
    """
    quiet_mlflow()
    uri = settings.tracking_uri
    if uri.startswith("http") and not reachable(uri):
        raise Unavailable(f"MLflow does not answer at {uri}; start the stack with `soundscape up`.")
    import mlflow

    mlflow.set_tracking_uri(uri)
    try:
        version = _version(mlflow.MlflowClient(), wanted)
    except mlflow.exceptions.MlflowException as error:
        what = f"MLflow knows no {wanted} ({str(error).splitlines()[0][:150]}); its page lists what is registered: {uri}"
        raise Invalid(Reason.BAD_REQUEST, what) from error
    name, digest = version.tags.get("release", ""), version.tags.get("digest")
    if not _may_be_a_folder(name) or not digest:
        raise Invalid(Reason.BAD_REQUEST, f"{wanted} says of no release that it is one; give a version that `soundscape train` registered.")
    if (settings.releases / name / RELEASE_FILE).is_file():
        here = named_release(settings.releases, name)
        if here.digest != digest:
            raise Invalid(Reason.BAD_REQUEST, f"Another release is named {name} here; remove {here.folder} or rename it first.")
        return here
    settings.releases.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.releases, prefix=".fetched-") as scratch:
        try:
            folder = Path(mlflow.artifacts.download_artifacts(run_id=version.run_id, artifact_path=RELEASE, dst_path=scratch))
        except (mlflow.exceptions.MlflowException, OSError) as error:
            what = f"The files of {wanted} cannot be had from MLflow ({str(error).splitlines()[0][:150]}); train the release anew."
            raise Invalid(Reason.BAD_REQUEST, what) from error
        if (loaded := load_release(folder)).digest != digest or loaded.release.name != name:
            raise Invalid(Reason.RELEASE_INVALID, f"The files of {wanted} are not those that were registered as {name}; train it anew.")
        shutil.move(folder, settings.releases / name)
    return named_release(settings.releases, name, digest)


def _may_be_a_folder(name: str) -> bool:
    """Whether a registered name is one that a release may have, and no hidden one."""
    try:
        return not TypeAdapter(Name).validate_python(name).startswith(".")
    except ValidationError:
        return False


def _version(client: Any, wanted: str) -> Any:
    """The registered version that is meant. Raises MLflow's exception if there is none."""
    model, at, alias = wanted.partition("@")
    if at:
        return client.get_model_version_by_alias(model, alias)
    model, slash, number = wanted.partition("/")
    if slash:
        return client.get_model_version(model, number)
    newest = client.get_registered_model(model).latest_versions
    if not newest:
        raise Invalid(Reason.BAD_REQUEST, f"{model} has no version in MLflow; train one first.")
    return max(newest, key=lambda one: int(one.version))
