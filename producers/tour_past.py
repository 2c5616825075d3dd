"""A tour as it stood before and after one clip was answered: derived from its rows, as every summary is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from soundscape.events import ClipAnalysed, TourSummed
from soundscape.settings import Port, Settings
from soundscape.tour_verdicts import Said
from soundscape.tours import HEAD, Clip, Move, NamesOf, Row, summary

ASK_S = 2.0
"""Seconds for the answer of the process that keeps the rows."""


def rows_of(settings: Settings, tour: str) -> dict[str, Row] | None:
    """The rows of a tour by label, asked of the process that keeps them; None where it has none, or does not answer."""
    try:
        answer = httpx.get(f"{settings.url(Port.TOURS)}/rows/{quote(tour, safe='')}", timeout=ASK_S)
        found: dict[str, Row] | None = answer.json() if answer.status_code == httpx.codes.OK else None
    except (httpx.HTTPError, ValueError):
        return None
    return found


def around(rows: Mapping[str, Row] | None, tour: str, answer: ClipAnalysed, names: NamesOf) -> tuple[TourSummed | None, TourSummed | None]:
    """(before, after) the clip: of the clips answered until then, with what people say of these now.

    None before the first clip of a tour that nobody started; both None where the rows do not hold the clip.
    """
    head = rows.get(HEAD) if rows else None
    clip = str(answer.clip_id)
    if not rows or not head or head["site"] != answer.site or clip not in head["clips"]:
        return None, None
    place, at = Clip(*head["clips"][clip]).offset, answer.stages.predicted

    def seen(holds: Callable[[int], bool]) -> TourSummed | None:
        kept = {name for name, one in head["clips"].items() if holds(Clip(*one).offset)}
        return summary(tour, _only(rows, head, kept, at.timestamp()), names, at)

    return seen(lambda offset: offset < place), seen(lambda offset: offset <= place)


def _only(rows: Mapping[str, Row], head: Row, kept: set[str], at: float) -> dict[str, Row]:
    """The rows without other clips, without what was said of these, and without an end that came later."""
    moves = {what: move for what, move in head["moves"].items() if what == "started" or Move(*move).at <= at}
    said = {name: one for name, one in head["said"].items() if Said(*one).clip in kept}
    found: dict[str, Row] = {HEAD: {**head, "shown": bool(kept or moves), "clips": _of(head, kept), "said": said, "moves": moves}}
    for label, row in rows.items():
        if label != HEAD and (clips := _of(row, kept)):
            found[label] = {**row, "clips": clips}
    return found


def _of(row: Row, kept: set[str]) -> dict[str, Any]:
    return {name: one for name, one in row["clips"].items() if name in kept}
