"""`python -m consumers.deployer_door`: the deployer as a process, and its HTTP door on loopback for the command line."""

from __future__ import annotations

import hmac
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from tempfile import NamedTemporaryFile
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Response
from prometheus_client import make_asgi_app
from pydantic import BaseModel, ConfigDict

from consumers.deployer import RECONCILE_S, Deployer
from consumers.earning import Earning
from soundscape.errors import Invalid, SoundscapeError
from soundscape.events import Name, SiteDeployed
from soundscape.logs import set_up_logging
from soundscape.settings import HOST, Port, Settings, get_settings

log = logging.getLogger(__name__)


class Ask(BaseModel):
    """A command to deploy."""

    model_config = ConfigDict(extra="forbid")

    site: Name
    release: Name
    actor: Name
    seen: int | None = None
    accept_noncommercial: bool = False


class Change(BaseModel):
    """A command that changes a site's trial."""

    model_config = ConfigDict(extra="forbid")

    site: Name
    actor: Name
    seen: int | None = None
    force: bool = False


class Offer(Change):
    """A command to make a release the candidate."""

    release: Name
    accept_noncommercial: bool = False


class Share(Change):
    """A command to let the candidate answer a share of the streams."""

    share: float


class Loan(BaseModel):
    """A release that is to be served while it is measured."""

    model_config = ConfigDict(extra="forbid")

    release: Name
    digest: str


def token(settings: Settings) -> str:
    """The operator's token: made once, readable by the stack's owner only, so that loopback alone does not give the right to deploy."""
    path = settings.state / "operator.token"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        with NamedTemporaryFile("w", dir=path.parent, encoding="utf-8") as file:  # made with mode 0600
            file.write(secrets.token_urlsafe(32))
            file.flush()
            with suppress(FileExistsError):
                os.link(file.name, path)  # whole or not at all
    return path.read_text(encoding="utf-8")


def new_door(deployer: Deployer, earning: Earning, settings: Settings) -> FastAPI:
    """The HTTP application."""
    app = FastAPI(title="deployer", openapi_url=None)
    app.mount("/metrics", make_asgi_app())
    secret = token(settings)

    def operator(authorization: Annotated[str, Header()] = "") -> None:
        if not hmac.compare_digest(authorization, f"Bearer {secret}"):
            raise HTTPException(401, "The operator's token is missing or wrong.")

    @app.get("/healthz")
    def healthz(response: Response) -> dict[str, Any]:
        response.status_code = 503 if deployer.trouble else 200
        return {"healthy": not deployer.trouble, "why": deployer.trouble}

    @app.get("/states", dependencies=[Depends(operator)])
    def states() -> dict[str, Any]:
        return {site: state.model_dump(mode="json") for site, state in deployer.states().items()}

    @app.post("/deploy", dependencies=[Depends(operator)])
    def deploy(ask: Ask) -> dict[str, Any]:
        return done(
            lambda: deployer.deploy(
                ask.site, ask.release, actor=ask.actor, seen=ask.seen, accept_noncommercial=ask.accept_noncommercial
            )
        )

    @app.post("/candidate", dependencies=[Depends(operator)])
    def candidate(ask: Offer) -> dict[str, Any]:
        licence = ask.accept_noncommercial
        return done(
            lambda: earning.offer(
                ask.site, ask.release, actor=ask.actor, seen=ask.seen, force=ask.force, accept_noncommercial=licence
            )
        )

    @app.post("/canary", dependencies=[Depends(operator)])
    def canary(ask: Share) -> dict[str, Any]:
        return done(lambda: earning.share(ask.site, ask.share, actor=ask.actor, seen=ask.seen, force=ask.force))

    @app.post("/promote", dependencies=[Depends(operator)])
    def promote(ask: Change) -> dict[str, Any]:
        return done(lambda: earning.promote(ask.site, actor=ask.actor, seen=ask.seen, force=ask.force))

    @app.post("/rollback", dependencies=[Depends(operator)])
    def rollback(ask: Change) -> dict[str, Any]:
        return done(lambda: earning.rollback(ask.site, actor=ask.actor, seen=ask.seen))

    @app.post("/loan", dependencies=[Depends(operator)])
    def lend(ask: Loan) -> dict[str, Any]:
        with as_http():
            return {"loan": deployer.lend(ask.release, ask.digest)}

    @app.delete("/loan/{loan}", dependencies=[Depends(operator)])
    def give_back(loan: str) -> dict[str, Any]:
        deployer.give_back(loan)
        return {"loan": None}

    @app.get("/trial", dependencies=[Depends(operator)])
    def trial(site: Name) -> dict[str, Any]:
        with as_http():
            return earning.report(site)

    def done(command: Callable[[], SiteDeployed]) -> dict[str, Any]:
        """What a command made of the site, once it has arrived everywhere."""
        with as_http():
            state = command()
            deployer.confirm(state)
        return state.model_dump(mode="json")

    return app


@contextmanager
def as_http() -> Iterator[None]:
    """Our errors as HTTP's: 422 for what will never work, 503 for what is away."""
    try:
        yield
    except Invalid as error:
        raise HTTPException(422, error.detail) from error
    except SoundscapeError as error:
        raise HTTPException(503, str(error)) from error


def main() -> None:
    """Run the deployer until it is told to stop."""
    set_up_logging()
    settings = get_settings()
    settings.model_repository.mkdir(parents=True, exist_ok=True)
    deployer = Deployer(settings)
    earning = Earning(settings, deployer)
    threading.Thread(target=_reconcile_for_ever, args=(deployer, earning), name="reconcile", daemon=True).start()
    uvicorn.run(new_door(deployer, earning, settings), host=HOST, port=settings.port(Port.DEPLOYER), log_level="warning")


def _reconcile_for_ever(deployer: Deployer, earning: Earning) -> None:
    try:
        while True:
            try:
                deployer.start()
                deployer.reconcile()
                earning.watch()
            except SoundscapeError as error:
                deployer.trouble = str(error)
                log.warning("%s", error)
            time.sleep(RECONCILE_S)
    except BaseException:
        log.exception("the deployer cannot go on")
        os._exit(70)  # a thread's end alone would leave a door that does nothing


if __name__ == "__main__":
    main()
