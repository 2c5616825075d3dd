"""A candidate for the benchmarks: their champion under another name, with another digest; whatever it became is taken back."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring.bench_site import SITE, soundscape
from soundscape.errors import Invalid, Reason

if TYPE_CHECKING:
    from soundscape.events import SiteDeployed
    from soundscape.release import Member
    from soundscape.settings import Settings

PREFIX = "bench-beside-"
TRIES = 3
"""Rollbacks: one for a candidate, one for a champion, and one for a command that was under way when the benchmark was ended."""


@contextmanager
def beside(settings: Settings) -> Iterator[str]:
    """The name of a release to be offered; at the end, however it comes, the site has its champion again and no candidate.

    After a promotion `previous` names the copy, as after every rollback. Raises Invalid where nothing can be copied or taken back.
    """
    usual = signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended by `kill` or `timeout`, it is taken back as well
    try:
        take_back(settings)  # of a run that was killed
        name = copy_champion(settings)
        try:
            yield name
        finally:
            take_back(settings)
    finally:
        signal.signal(signal.SIGTERM, usual)


def take_back(settings: Settings) -> None:
    """Roll back until the copy is neither candidate nor champion. Raises Invalid if it stays, Unavailable without a broker."""
    why = ""
    for _ in range(TRIES):
        state = _state(settings)
        if state is None or _copy_in(state) is None:
            return
        try:
            soundscape("rollback", "--site", SITE, "--generation", str(state.generation))
        except Invalid as error:  # it may have happened all the same: the state says so
            why = f": {error.detail}"
    state = _state(settings)
    if state is not None and (there := _copy_in(state)) is not None:
        raise Invalid(Reason.BAD_REQUEST, f"Site {SITE} still has {there}{why}; run `soundscape rollback --site {SITE}`.")


def copy_champion(settings: Settings) -> str:
    """Copy the site's champion; the copy's name. A copy that holds is used again, since a state may still name it.

    The model file says another `doc_string`: Triton serves it as a model of its own, as it would any candidate's.
    Raises Invalid: no champion, or a member that is no ONNX file.
    """
    from soundscape.release import load_release, named_release, write_release

    state = _state(settings)
    if state is None:
        raise Invalid(Reason.NO_RELEASE, f"Site {SITE} has no release to be copied.")
    loaded = named_release(settings.releases, state.champion.name, state.champion.digest)
    if any(member.runtime != "onnx" for member in loaded.release.members):
        raise Invalid(Reason.BAD_REQUEST, f"{loaded.release.name} is not all of ONNX; deploy `{SITE}` to site {SITE}.")
    name = f"{PREFIX}{loaded.digest[:8]}"
    folder, temporary = settings.releases / name, settings.releases / f".{name}"
    try:
        return load_release(folder).release.name
    except Invalid:  # there is none yet, or half of one
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(loaded.folder, temporary)
    members = tuple(_another(temporary / member.file, member, name) for member in loaded.release.members)
    write_release(temporary, loaded.release.model_copy(update={"name": name, "members": members}))
    temporary.rename(folder)
    return name


def _another(path: Path, member: Member, says: str) -> Member:
    """Write the model file anew, the same but for what it says of itself."""
    import onnx

    from soundscape.release import file_digest

    model = onnx.load(path)
    model.doc_string = says
    onnx.save(model, path)
    return member.model_copy(update={"digest": file_digest(path)})


def _copy_in(state: SiteDeployed) -> str | None:
    """The copy that is candidate or champion of the site, if one is."""
    return next((ref.name for ref in (state.candidate, state.champion) if ref is not None and ref.name.startswith(PREFIX)), None)


def _state(settings: Settings) -> SiteDeployed | None:
    from soundscape.deployments import read_states

    return read_states(settings).get(SITE)
