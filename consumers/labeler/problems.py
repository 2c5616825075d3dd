"""Every refusal of the labeler's door as a problem document (RFC 9457): what was wrong and what to do."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from soundscape.errors import Invalid, Reason, Unavailable

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
TYPES = "https://elsilencio.example/problems/"
"""Base of every problem's `type`; its last part is the reason."""
RETRY_S = 3
"""Seconds of Retry-After while something is away."""
NAMES = {404: "not-found", 405: "method-not-allowed"}
"""Reasons of what the framework itself refuses."""


class Problem(Exception):
    """A refusal, ready to be said."""

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.reason, self.detail = status, reason, detail

    def response(self) -> JSONResponse:
        """The document as a response."""
        body = {
            "type": TYPES + self.reason,
            "title": self.reason.replace("-", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            "reason": self.reason,
        }
        headers = {"Retry-After": str(RETRY_S)} if self.status == 503 else {}
        if self.status == 401:
            headers["WWW-Authenticate"] = "ApiKey"
        return JSONResponse(body, self.status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Let every error of the app leave as a problem document."""

    async def said(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)
        return error.response()

    async def ours(_: Request, error: Exception) -> JSONResponse:
        if isinstance(error, Invalid):
            return Problem(422, str(error.reason), error.detail).response()
        return Problem(503, "unavailable", str(error)).response()

    async def parameters(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return Problem(400, str(Reason.BAD_REQUEST), sentence(error.errors())).response()

    async def framework(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return Problem(error.status_code, NAMES.get(error.status_code, "refused"), f"{str(error.detail).rstrip('.')}.").response()

    async def fault(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return Problem(500, "internal-error", "The labeler failed; send the same labels again, and tell the operator.").response()

    app.add_exception_handler(Problem, said)
    app.add_exception_handler(Invalid, ours)
    app.add_exception_handler(Unavailable, ours)
    app.add_exception_handler(RequestValidationError, parameters)
    app.add_exception_handler(HTTPException, framework)
    app.add_exception_handler(Exception, fault)


def sentence(errors: Any) -> str:
    """Pydantic's first complaint as one sentence that names the field."""
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("query", "path", "body", "header"))
    return f"{where or 'The body'} does not hold: {first['msg']}."
