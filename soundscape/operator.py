"""The deployer's door, asked by commands on the same machine: with the operator's token, and its refusals as our errors."""

from __future__ import annotations

from typing import Any

import httpx

from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.settings import Port, Settings

WAIT_S = 400.0
"""Seconds to wait for the deployer's answer: it waits for the workers itself, and names who did not report."""


def ask(settings: Settings, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The deployer's answer. Raises Invalid with its reason, Unavailable if it cannot be asked."""
    try:
        secret = (settings.state / "operator.token").read_text(encoding="utf-8")
        answer = httpx.request(
            method, settings.url(Port.DEPLOYER) + path, json=body, timeout=WAIT_S, headers={"Authorization": f"Bearer {secret}"}
        )
    except (httpx.ReadError, httpx.RemoteProtocolError, httpx.ReadTimeout) as error:  # it took the request, and no answer came
        what = "The deployer did not answer to its end: what was asked may have been done"
        raise Unavailable(f"{what}; `soundscape trial` shows what is in force, and --generation guards what you ask next.") from error
    except (OSError, httpx.HTTPError) as error:
        raise Unavailable("The deployer does not answer; start the stack with `soundscape up`.") from error
    if answer.status_code == httpx.codes.OK:
        said: dict[str, Any] = answer.json()
        return said
    as_json = answer.headers.get("content-type", "").startswith("application/json")
    detail = str(answer.json().get("detail")) if as_json else answer.text
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        raise Unavailable(detail)
    raise Invalid(Reason.BAD_REQUEST, detail)
