"""Types of command-line options that several commands share."""

from __future__ import annotations

from typing import Any

import click
from pydantic import TypeAdapter, ValidationError

from soundscape.event import Name

_NAME: TypeAdapter[str] = TypeAdapter(Name)


class NameType(click.ParamType):
    """A name as events carry it; an empty one, as of a shell variable that was not set, is no default."""

    name = "text"

    def __init__(self, folder: bool = False) -> None:
        """`folder`: the name becomes one's, so it is no hidden one, and none that leads elsewhere."""
        self._folder = folder

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name itself; says what is wrong with it otherwise."""
        if self._folder and str(value).startswith("."):
            self.fail(f"{value!r} begins with a dot; a release becomes a folder of its name, so choose another.", param, ctx)
        try:
            return _NAME.validate_python(value)
        except ValidationError:
            self.fail(f"{value!r} is no name: 1 to 200 characters, no slash, no backslash, no control character.", param, ctx)


NAME = NameType()
RELEASE_NAME = NameType(folder=True)
