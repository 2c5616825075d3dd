"""Who comes in: the key of a request, what its role may do, and which site it means."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader

from producers.gateway.problems import Problem
from producers.gateway.services import Services
from soundscape.keys import Key

GUIDES = ("guide", "operator")
"""Roles that walk tours and judge answers. A labeler does neither: labels are blind to what the model and the guides said."""
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, description="Made by `soundscape key create NAME`")


async def services_of(request: Request) -> Services:
    """What `create_app` was given."""
    services: Services = request.app.state.services
    return services


Given = Annotated[Services, Depends(services_of)]


async def authorised(services: Given, sent: Annotated[str | None, Depends(_HEADER)]) -> Key:
    """The key of a request. Raises Problem (401)."""
    key = services.keys.find(sent) if sent else None
    if key is None:
        detail = "X-API-Key is missing." if not sent else "X-API-Key is wrong or was revoked."
        cure = " Make one with `soundscape key create NAME` and send it with every request."
        raise Problem(401, "unauthorized", detail + cure, {"WWW-Authenticate": "ApiKey"})
    return key


Authorised = Annotated[Key, Depends(authorised)]


async def guiding(key: Authorised) -> Key:
    """The key of a guide or an operator. Raises Problem (401, 403)."""
    if key.role not in GUIDES:
        raise Problem(403, "forbidden", f"The key is a {key.role}'s; use a guide's or an operator's.")
    return key


Guide = Annotated[Key, Depends(guiding)]


def site_of(key: Key, asked: str | None) -> str:
    """The site that a request means. Raises Problem (403) if its key serves another one alone."""
    if asked is not None and key.bound and asked != key.site:
        raise Problem(403, "forbidden", f"The key serves {key.site!r} alone, not {asked!r}; use a key of that site.")
    return asked or key.site


def serves(key: Key, site: str | None) -> bool:
    """Whether the key may see what belongs to the site; what names none may be seen by all."""
    return site is None or not key.bound or site == key.site
