"""The HTTP of the labeler: the page, and behind a key the queue, sounds, pictures, labels and species."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import ClientDisconnect

from consumers.labeler import problems
from consumers.labeler.desk import Desk
from consumers.labeler.problems import Problem
from consumers.labeler.schemas import MAX_BODY_BYTES, parse
from soundscape.errors import Reason
from soundscape.events import Name
from soundscape.keys import Key, KeyRing

PAGE = Path(__file__).parent / "page"
FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
}
"""The page by the path that the browser asks for: no other file can be asked for."""
ROLES = ("labeler", "operator")
READ_S = 20.0
"""Seconds that a body may take to arrive."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
    "media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Of every response: nothing from elsewhere runs in the page, and no sound stays in a cache after it was deleted."""


def create_app(desk: Desk, keys: KeyRing, health: Callable[[], dict[str, Any]]) -> FastAPI:
    """The application around its desk."""
    app = FastAPI(title="labeler", openapi_url=None)
    app.state.desk, app.state.keys, app.state.health = desk, keys, health
    app.include_router(router)
    problems.install(app)

    @app.middleware("http")
    async def guarded(request: Request, follow: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await follow(request)
        response.headers.update(HEADERS)
        return response

    return app


router = APIRouter()
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False)


async def desk_of(request: Request) -> Desk:
    """What `create_app` was given."""
    desk: Desk = request.app.state.desk
    return desk


async def authorised(request: Request, sent: Annotated[str | None, Depends(_HEADER)]) -> Key:
    """The key of a request. Raises Problem: 401 without one in force, 403 for a role that does not label."""
    key: Key | None = request.app.state.keys.find(sent) if sent else None
    if key is None:
        cure = "An operator makes one with `soundscape key create NAME --role labeler`."
        raise Problem(401, "unauthorized", f"The key is {'wrong or was revoked' if sent else 'missing'}. {cure}")
    if key.role not in ROLES:
        raise Problem(403, "forbidden", f"The key {key.name} is a {key.role}'s; labelling needs one made with --role labeler.")
    return key


Given = Annotated[Desk, Depends(desk_of)]
Authorised = Annotated[Key, Depends(authorised)]
Site = Annotated[Name | None, Query(description="The key's own unless given")]


def site_of(key: Key, asked: str | None) -> str:
    """The site that a request means. Raises Problem (404) where the key may not see it."""
    if asked is not None and key.bound and asked != key.site:
        raise Problem(404, "not-found", f"The key serves {key.site} alone; there is no site {asked} that it may see.")
    return asked or key.site


@router.get("/")
@router.get("/page/{name}")
def page(name: str = "") -> Response:
    """The page and its parts; they hold nothing that needs a key."""
    if name not in FILES:
        raise Problem(404, "not-found", "There is no such page; the labeler's is at /.")
    file, kind = FILES[name]
    return Response((PAGE / file).read_bytes(), media_type=kind)


@router.get("/healthz")
async def healthz(request: Request) -> JSONResponse:
    """Whether this process does its work, and why not."""
    said = request.app.state.health()
    return JSONResponse(said, 200 if said["healthy"] else 503)


@router.get("/metrics")
async def metrics() -> Response:
    """What Prometheus reads."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/me")
async def me(key: Authorised) -> dict[str, str]:
    """Whose key it is."""
    return {"name": key.name, "role": key.role, "site": key.site}


@router.get("/v1/queue/next", response_model=None)
async def next_item(key: Authorised, desk: Given, site: Site = None) -> Response:
    """The next sample, leased for ten minutes; 204 where there is none."""
    item = await desk.next(key.name, site_of(key, site))
    return Response(status_code=204) if item is None else JSONResponse(item)


@router.get("/v1/samples/{clip_id}/audio")
async def audio(clip_id: UUID, key: Authorised, desk: Given) -> Response:
    """The sound of a sample."""
    sound = await desk.sound(desk.see(key, str(clip_id)))
    return Response(sound.ogg, media_type="audio/ogg")


@router.get("/v1/samples/{clip_id}/spectrogram/{n}.png")
async def spectrogram(clip_id: UUID, n: int, key: Authorised, desk: Given) -> Response:
    """What the model sees of the n-th window, from 0."""
    sound = await desk.sound(desk.see(key, str(clip_id)))
    if not 0 <= n < len(sound.drawn.pictures):
        raise Problem(404, "not-found", f"The sample has {len(sound.drawn.pictures)} windows, numbered from 0; there is none {n}.")
    return Response(sound.drawn.pictures[n], media_type="image/png")


@router.post("/v1/labels")
async def post_labels(request: Request, key: Authorised, desk: Given) -> dict[str, Any]:
    """Say what windows hold; with the model's answer in the response."""
    return await desk.label(parse(await _body(request)), key)


@router.post("/v1/labels/{label_id}/withdraw")
async def withdraw(label_id: Name, key: Authorised, desk: Given) -> dict[str, Any]:
    """Take a label back."""
    return (await desk.withdraw(label_id, key)).model_dump(mode="json")


@router.get("/v1/species")
async def species(key: Authorised, desk: Given, q: Annotated[str, Query(max_length=100)] = "", site: Site = None) -> dict[str, Any]:
    """Species by any of their names, without regard to accents."""
    chosen = site_of(key, site)
    return {"site": chosen, "species": [one.model_dump() for one in desk.species.of(chosen).search(q)]}


@router.get("/v1/agreement")
async def agreement(key: Authorised, desk: Given, site: Site = None) -> dict[str, Any]:
    """How well each pair of labelers agrees."""
    chosen = site_of(key, site)
    return {"site": chosen, "pairs": await asyncio.to_thread(desk.agreement, chosen)}


@router.get("/v1/progress")
async def progress(key: Authorised, desk: Given, site: Site = None) -> dict[str, Any]:
    """How far the samples are."""
    return await asyncio.to_thread(desk.progress, key.name, site_of(key, site))


async def _body(request: Request) -> bytes:
    """The whole body. Raises Problem (413, 408, 400)."""
    body = bytearray()
    try:
        async with asyncio.timeout(READ_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise Problem(413, str(Reason.TOO_LARGE), f"The body has more than {MAX_BODY_BYTES} bytes; send fewer labels at once.")
    except TimeoutError as error:
        raise Problem(408, "request-timeout", f"The body did not arrive within {READ_S:.0f} s; send it again.") from error
    except ClientDisconnect as error:
        raise Problem(400, str(Reason.BAD_REQUEST), "The connection ended before the body did; send it again.") from error
    return bytes(body)
