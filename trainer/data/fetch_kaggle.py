"""BirdCLEF 2025 from Kaggle, by Kaggle's own client: found, never installed; downloaded, checked and unpacked into one folder."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from soundscape.errors import Invalid, Reason, Unavailable
from trainer.data.catalog import Catalog, read_catalog
from trainer.progress import Progress

COMPETITION = "birdclef-2025"
RULES = f"https://www.kaggle.com/competitions/{COMPETITION}/rules"
CURE = (
    f"accept the rules at {RULES}, install Kaggle's client (`pip install kaggle`, anywhere on the PATH), put the token that "
    "kaggle.com/settings gives into ~/.kaggle/kaggle.json (or into KAGGLE_USERNAME and KAGGLE_KEY), and run "
    f"`soundscape fetch {COMPETITION}` again"
)
ARCHIVE_GB = 13.0
"""About what the archive takes; as much again when it is unpacked, for OGG does not shrink."""
MARGIN_GB = 1.0
"""Left free."""
SAID = 4000
"""Characters of the client's last words that are looked through for the reason of a failure."""


def fetch_competition(folder: Path, say: Callable[[str], None], progress: Progress) -> Catalog:
    """Download and unpack into `folder`; what an earlier run has is kept, and a folder that is whole is only read.

    Raises Invalid, with the cure, without client, token, accepted rules or disk, for an archive that reaches outside, or for a folder that
    does not have the layout afterwards; Unavailable if the client fails otherwise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    archive, whole = folder / f"{COMPETITION}.zip", folder / ".fetched"
    try:
        with FileLock(folder / ".fetch.lock", timeout=0):
            if not whole.is_file():
                if not zipfile.is_zipfile(archive):  # the directory of a zip is its end: half of one has none
                    _download(_client(), folder, archive, say)
                unpack(archive, folder, progress)
                catalog = read_catalog(folder)
                whole.write_text(f"{archive.stat().st_size} bytes\n", encoding="utf-8")
                archive.unlink()
                return catalog
    except Timeout as error:
        raise Invalid(Reason.BAD_REQUEST, f"{folder} is being fetched by another process; wait for it.") from error
    return read_catalog(folder)


def unpack(archive: Path, folder: Path, progress: Progress) -> None:
    """Unpack a zip; files that are there with the right size stay. Raises Invalid if a name leads outside, or the disk is too small."""
    try:
        with zipfile.ZipFile(archive) as packed:
            files = [one for one in packed.infolist() if not one.is_dir()]
            for one in files:
                _inside(one)
            todo = [one for one in files if not _there(folder / one.filename, one.file_size)]
            _room(folder, sum(one.file_size for one in todo) / 1e9)
            for n, one in enumerate(todo):
                target = folder / one.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                part = target.with_name(f".{target.name}.part")
                with packed.open(one) as source, part.open("wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
                part.replace(target)
                progress("files unpacked", len(files) - len(todo) + n + 1, len(files))
    except zipfile.BadZipFile as error:
        what = f"{archive} is no whole archive ({error}); delete it and run the same command again."
        raise Invalid(Reason.BAD_REQUEST, what) from error


def _inside(one: zipfile.ZipInfo) -> None:
    """Raise Invalid for a name that leads out of the folder, and for a link, which could."""
    path = PurePosixPath(one.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in one.filename or stat.S_ISLNK(one.external_attr >> 16):
        raise Invalid(Reason.BAD_REQUEST, f"The archive holds {one.filename!r}, which leads outside its folder; nothing of it is unpacked.")


def _there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _room(folder: Path, gigabytes: float) -> None:
    free = shutil.disk_usage(folder).free / 1e9
    if free < gigabytes + MARGIN_GB:
        what = f"{folder} has {free:.1f} GB free, and about {gigabytes + MARGIN_GB:.0f} GB are needed"
        raise Invalid(Reason.BAD_REQUEST, f"{what}; free some, or give another folder by --to.")


def _client() -> str:
    """The client's path. Raises Invalid, with the cure, if it is not here or has no token."""
    beside = Path(sys.executable).parent / "kaggle"
    client = shutil.which("kaggle") or (str(beside) if os.access(beside, os.X_OK) else None)
    if client is None:
        raise Invalid(Reason.BAD_REQUEST, f"Kaggle's client is not here; {CURE}.")
    if not _has_token():
        raise Invalid(Reason.BAD_REQUEST, f"Kaggle's client is here, and has no token; {CURE}.")
    return client


def _has_token() -> bool:
    """Whether the client will find credentials, in any of the places where its versions look; what they are is its business."""
    given = os.environ
    if given.get("KAGGLE_API_TOKEN") or (given.get("KAGGLE_USERNAME") and given.get("KAGGLE_KEY")):
        return True
    homes = [Path.home() / ".kaggle", Path(given.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "kaggle"]
    homes += [Path(given["KAGGLE_CONFIG_DIR"])] if given.get("KAGGLE_CONFIG_DIR") else []
    return any((home / name).is_file() for home in homes for name in ("kaggle.json", "access_token"))


def _download(client: str, folder: Path, archive: Path, say: Callable[[str], None]) -> None:
    """Let the client download the archive, or go on with one that it has begun; its own words and bar go to stderr."""
    begun = archive.stat().st_size / 1e9 if archive.is_file() else 0.0
    _room(folder, 2 * ARCHIVE_GB - begun)
    say(f"Kaggle's client downloads {COMPETITION} (CC BY-NC-SA 4.0: not for commercial use) into {folder} ...")
    command = [client, "competitions", "download", "-c", COMPETITION, "-p", str(folder)]
    said = bytearray()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        while some := os.read(process.stdout.fileno(), 1 << 16):
            sys.stderr.write(some.decode("utf-8", "replace"))
            sys.stderr.flush()
            said = (said + some)[-SAID:]
    words = said.decode("utf-8", "replace").strip()
    if process.returncode == 0 and zipfile.is_zipfile(archive):
        return
    if "403" in words or "accept" in words.lower():
        cure = f"accept the rules at {RULES} and run the same command again"
        raise Invalid(Reason.BAD_REQUEST, f"Kaggle refuses the data to this account; {cure}.")
    if "401" in words:
        cure = "make a new one at kaggle.com/settings and run the same command again"
        raise Invalid(Reason.BAD_REQUEST, f"Kaggle refuses the token; {cure}.")
    last = words.replace("\r", "\n").splitlines()[-1][:200] if words else "without a word"
    what = f"Kaggle's client ended with code {process.returncode} ({last}) and no whole archive; run the same command again, it goes on"
    raise Unavailable(f"{what}.")
