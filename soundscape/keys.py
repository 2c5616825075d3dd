"""API keys: made, listed and revoked by `soundscape key`, read by the gateway without a restart; only their hashes are stored."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

import click
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.events import Moment, Name
from soundscape.options import NAME
from soundscape.settings import Settings, get_settings

Role = Literal["guide", "labeler", "operator"]
PREFIX = "se_"
"""Begins every key, so that one that leaks is recognised."""
RANDOM_BYTES = 24
"""192 bits: no hash of it can be turned back by trying, so a plain SHA-256 is enough and costs a request nothing."""


class Key(BaseModel):
    """A key as it is stored. One that is `bound` serves its site alone; another may name any site, and means `site` if it does not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    sha256: str
    role: Role
    site: Name
    bound: bool
    created_at: Moment
    revoked_at: Moment | None = None


_KEYS = TypeAdapter(list[Key])


def keys_file(settings: Settings) -> Path:
    """Where the hashes lie."""
    return settings.state / "keys.json"


def hash_of(key: str) -> str:
    """Hex SHA-256 of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_keys(path: Path) -> list[Key]:
    """All keys, revoked ones too; none where there is no file. Raises Unavailable if the file cannot be read: nobody is let in then."""
    try:
        return _KEYS.validate_json(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValidationError) as error:
        raise Unavailable(f"The keys in {path} cannot be read ({type(error).__name__}); mend or remove the file.") from error


class KeyRing:
    """The keys in force, read again whenever their file changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._keys: dict[str, Key] = {}

    def find(self, key: str) -> Key | None:
        """The key that was sent, or None for one that is wrong or revoked. Raises Unavailable."""
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        except FileNotFoundError:
            seen = None
        if seen != self._seen or seen is None:
            self._keys = {one.sha256: one for one in read_keys(self._path) if one.revoked_at is None}
            self._seen = seen
        return self._keys.get(hash_of(key))


@contextmanager
def _changed(settings: Settings) -> Iterator[list[Key]]:
    """The keys, to be changed in place: one writer at a time, written whole, mode 0600."""
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = keys_file(settings)
    with FileLock(path.with_suffix(".lock"), mode=0o600):
        keys = read_keys(path)
        yield keys
        temporary = path.with_suffix(".tmp")
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(json.dumps(_KEYS.dump_python(keys, mode="json"), indent=1).encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def create_key(settings: Settings, name: str, role: Role = "guide", site: str | None = None) -> str:
    """Make a key and return it; it is not stored. Raises Invalid for a name in use or one that no stream can have."""
    key = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
    try:
        made = Key(
            name=name,
            sha256=hash_of(key),
            role=role,
            site=site or settings.site,
            bound=site is not None and role != "operator",
            created_at=datetime.now(UTC),
        )
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise Invalid(Reason.BAD_REQUEST, f"The {first['loc'][0]} of the key does not hold: {first['msg']}.") from error
    with _changed(settings) as keys:
        if any(one.name == name and one.revoked_at is None for one in keys):
            raise Invalid(Reason.BAD_REQUEST, f"There is a key {name!r} already; revoke it first, or choose another name.")
        keys.append(made)
    return key


def revoke_key(settings: Settings, name: str) -> None:
    """Revoke the key of that name. Raises Invalid if there is none in force."""
    with _changed(settings) as keys:
        for n, one in enumerate(keys):
            if one.name == name and one.revoked_at is None:
                keys[n] = one.model_copy(update={"revoked_at": datetime.now(UTC)})
                return
        raise Invalid(Reason.BAD_REQUEST, f"There is no key {name!r} in force; `soundscape key list` names them.")


@click.group()
def key() -> None:
    """Keys of the gateway: who may send clips."""


@key.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice(get_args(Role)), default="guide", show_default=True, help="What the key may do.")
@click.option("--site", type=NAME, help="The one site that the key serves; without it, el-silencio, or any site that a request names.")
def create_command(name: str, role: Role, site: str | None) -> None:
    """Make a key and print it, once, as the last word; send it as X-API-Key."""
    made = create_key(get_settings(), name, role, site)
    click.echo(f"Key {name} ({role}, site {site or get_settings().site}); it is shown this once: {made}")


@key.command("list")
def list_command() -> None:
    """Name the keys; the keys themselves are stored nowhere."""
    keys = read_keys(keys_file(get_settings()))
    for one in keys:
        state = f"revoked {one.revoked_at:%Y-%m-%d %H:%M} UTC" if one.revoked_at else "in force"
        click.echo(f"{one.name}\t{one.role}\t{one.site if one.bound else one.site + ' or any other'}\t{state}")
    if not keys:
        click.echo("There is no key yet; make one with `soundscape key create NAME`.")


@key.command("revoke")
@click.argument("name")
def revoke_command(name: str) -> None:
    """Let a key act no more, from the next request on."""
    revoke_key(get_settings(), name)
    click.echo(f"Key {name} is revoked.")
