"""When a collection says that a recording was made: Xeno-canto's API by its number, iNaturalist's by observation or by species."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from time import monotonic, sleep
from typing import Any, NamedTuple

import httpx

from soundscape.errors import Invalid, Reason, Unavailable

PAUSE_S = 1.0
"""Between two requests: Xeno-canto's terms ask for one a second, iNaturalist's for at most 60 a minute."""
TRIES = 3
"""Of a request that fails as a network or a busy server does, each after twice the pause of the one before."""
TIMEOUT_S = 30.0
BUSY = 429
REFUSED = (401, 403)
TOGETHER = 200
"""Observations in an answer of iNaturalist's, at most."""
NO_DATE, NOT_FOUND = "no date", "not found"
_OBSERVATION = re.compile(r"/observations/(\d+)")


class Found(NamedTuple):
    """What is known of a recording: its day as YYYY-MM-DD, or why there is none."""

    recording: str
    day: str
    reason: str = ""


class Asker:
    """Asks one API, never faster than its terms allow. `secret` goes with every request and into no message."""

    def __init__(self, name: str, url: str, secret: Mapping[str, str] | None = None, pause: float = PAUSE_S) -> None:
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs whole addresses, and the key stands in them
        self.name, self._url, self._secret, self._pause, self._last = name, url, dict(secret or {}), pause, -pause
        self._client = httpx.Client(timeout=TIMEOUT_S, headers={"User-Agent": "soundscape (dates of recordings)"})

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, **query: str | int) -> dict[str, Any] | None:
        """The answer; None where the API says that there is no such thing (404).

        Raises Invalid (bad-request) if the key is refused; Unavailable if the network, the server or its limits do not allow it now.
        """
        why = ""
        for attempt in range(TRIES):
            sleep(max(0.0, self._last + self._pause * 2**attempt - monotonic()))
            try:
                answer = self._client.get(self._url, params={**query, **self._secret})
            except httpx.HTTPError as error:
                why = type(error).__name__  # its text may hold the address, and that the key
                continue
            finally:
                self._last = monotonic()
            if answer.status_code == httpx.codes.NOT_FOUND:
                return None
            if self._secret and answer.is_client_error and (answer.status_code in REFUSED or "key" in answer.text):
                raise Invalid(Reason.BAD_REQUEST, f"{self.name} refuses the key ({answer.status_code}); get one from your account there.")
            if answer.status_code == httpx.codes.OK:
                try:
                    found = answer.json()
                except ValueError:
                    found = None
                if isinstance(found, dict):
                    return found
            why = f"answer {answer.status_code}" + ("" if answer.status_code != httpx.codes.OK else " that is no JSON")
            if answer.is_client_error and answer.status_code != BUSY:
                break
        raise Unavailable(f"{self.name} cannot be asked now ({why}); what was answered is kept, run the same command again later.")


def xeno_canto(asker: Asker, recordings: Sequence[str]) -> Iterator[Found]:
    """Of recordings as XC123, one request each (API v3, `query=nr:123`). Raises as `Asker.ask`."""
    for recording in recordings:
        answer = asker.ask(query=f"nr:{recording.removeprefix('XC')}")
        rows = [row for row in (answer or {}).get("recordings", []) if f"XC{row.get('id')}" == recording]
        yield _found(recording, rows[0].get("date")) if rows else Found(recording, "", NOT_FOUND)


def inaturalist(asker: Asker, recordings: Mapping[str, tuple[str, str]]) -> Iterator[Found]:
    """Of recordings as iNat123, each with the address that train.csv gives and the id of its species there. Raises as `Asker.ask`.

    The number is that of the sound (static.inaturalist.org/sounds/123), not of its observation, and the API finds none by its sound: where
    the address does not name the observation, those of the species that have sounds are read until each sound is found.
    """
    named = {found.group(1): one for one, (url, _) in recordings.items() if (found := _OBSERVATION.search(url))}
    ids = sorted(named)
    for first in range(0, len(ids), TOGETHER):
        some = ids[first : first + TOGETHER]
        answer = asker.ask(id=",".join(some), per_page=TOGETHER) or {}
        days = {str(row.get("id")): row.get("observed_on") for row in answer.get("results", [])}
        yield from (_found(named[one], days[one]) if one in days else Found(named[one], "", NOT_FOUND) for one in some)
    by_taxon: dict[str, set[str]] = {}
    for one, (_, taxon) in recordings.items():
        if one not in named.values():
            by_taxon.setdefault(taxon, set()).add(one)
    for taxon, wanted in sorted(by_taxon.items()):
        yield from _of_species(asker, taxon, wanted)


def _of_species(asker: Asker, taxon: str, wanted: set[str]) -> Iterator[Found]:
    last = 0
    while wanted and taxon.isdigit():
        answer = asker.ask(taxon_id=taxon, sounds="true", order_by="id", order="asc", id_above=last, per_page=TOGETHER)
        rows = (answer or {}).get("results", [])
        for row in rows:
            for sound in row.get("sounds") or []:
                if (name := f"iNat{sound.get('id')}") in wanted:
                    wanted.discard(name)
                    yield _found(name, row.get("observed_on"))
        before, last = last, max((int(row["id"]) for row in rows), default=0)
        if len(rows) < TOGETHER or last <= before:  # the last page, or a server that does not turn it
            break
    yield from (Found(one, "", NOT_FOUND) for one in sorted(wanted))


def _found(recording: str, day: object) -> Found:
    """The day, if it is one: 2012-00-00 is none."""
    try:
        return Found(recording, date.fromisoformat(str(day)[:10]).isoformat())
    except ValueError:
        return Found(recording, "", NO_DATE)
