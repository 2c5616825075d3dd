"""Every error as a problem document (RFC 9457): what was wrong and what to do, never a traceback."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.metrics import REFUSED

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
TYPES = "https://elsilencio.example/problems/"
"""Base of every problem's `type`; its last part is the reason."""
STATUS = {
    Reason.BAD_REQUEST: 400,
    Reason.TOO_LARGE: 413,
    Reason.NO_RELEASE: 503,
    Reason.RELEASE_INVALID: 503,
    Reason.MODEL_UNAVAILABLE: 503,
}
"""HTTP status of a reason; the others say that the clip itself will never work: 422."""
RETRY_S = {"no-release": 30, "disk-full": 60, "backlog": 10, "unavailable": 5, "starting": 2, "busy": 5}
"""Seconds of Retry-After by reason."""
NAMES = {401: "unauthorized", 403: "forbidden", 404: "not-found", 405: "method-not-allowed", 413: "too-large", 500: "internal-error"}
"""Reasons of what the framework itself refuses."""


class Problem(Exception):
    """A refusal, ready to be said."""

    def __init__(self, status: int, reason: str, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.reason, self.detail = status, reason, detail
        retry = {"Retry-After": str(RETRY_S.get(reason, 5))} if status == 503 else {}
        self.headers = retry | (headers or {})

    def body(self) -> dict[str, Any]:
        """The document: `type`, `title`, `status`, `detail`, and `reason` for programs."""
        return {
            "type": TYPES + self.reason,
            "title": self.reason.replace("-", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            "reason": self.reason,
        }


def problem_of(error: Invalid | Unavailable) -> Problem:
    """An error of ours as a problem."""
    if isinstance(error, Invalid):
        return Problem(STATUS.get(error.reason, 422), str(error.reason), error.detail)
    return Problem(503, "unavailable", str(error))


def respond(problem: Problem) -> JSONResponse:
    """The response to a refused request; counted."""
    REFUSED.labels(str(problem.status)).inc()
    return JSONResponse(problem.body(), problem.status, problem.headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Let every error of the app leave as a problem document."""

    async def said(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)
        return respond(error)

    async def ours(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Invalid | Unavailable)
        return respond(problem_of(error))

    async def parameters(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return respond(Problem(400, str(Reason.BAD_REQUEST), sentence(error.errors())))

    async def framework(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        reason = NAMES.get(error.status_code, HTTPStatus(error.status_code).phrase.lower().replace(" ", "-"))
        detail = f"{str(error.detail).rstrip('.')}; /docs names what there is."
        return respond(Problem(error.status_code, reason, detail, dict(error.headers or {})))

    async def fault(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return respond(Problem(500, NAMES[500], "The gateway failed; nothing was accepted. Try again, and tell the operator."))

    app.add_exception_handler(Problem, said)
    app.add_exception_handler(Invalid, ours)
    app.add_exception_handler(Unavailable, ours)
    app.add_exception_handler(RequestValidationError, parameters)
    app.add_exception_handler(HTTPException, framework)
    app.add_exception_handler(Exception, fault)


def sentence(errors: Any) -> str:
    """Pydantic's first complaint as one sentence that names the field."""
    first = errors[0]
    where = [str(part) for part in first["loc"] if part not in ("query", "path", "body", "header")]
    said = _SAID.get(first["type"], first["msg"])
    return f"{'.'.join(where) or 'The body'} does not hold: {said}."


_SAID = {
    "timezone_aware": "it needs an offset, as in 2026-11-24T06:30:00Z",
    "extra_forbidden": "there is no such parameter; /docs names those that there are",
    "missing": "it is missing",
    "string_pattern_mismatch": "it may not hold slashes, backslashes or control characters",
    "uuid_parsing": "it must be a clip's id, a UUID",
}
"""Pydantic's complaints that a sentence of ours says better."""
