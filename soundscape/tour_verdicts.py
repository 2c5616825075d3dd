"""What people's judgements say of each species in each clip of a tour: labelers before guides, the latest of equals. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from soundscape.audio import WINDOW_S

Verdict = Literal["yes", "no", "contested"]
"""A person says so; a person says otherwise; two guides say both."""


class Said(NamedTuple):
    """One judgement as a tour's row keeps it: a guide's feedback, or a labeler's label of a window."""

    offset: int
    """On its topic: of two with one id the higher stands."""
    expert: bool
    clip: str
    by: str
    verdict: str
    labels: list[str]
    heard: list[str]
    """What the answer that a guide judged had named."""
    start_s: float
    end_s: float
    at: float
    """When the clip was recorded, or else when it was judged; seconds since 1970."""


def standing(said: Iterable[Said]) -> list[Said]:
    """Those that were not withdrawn, in the order of the log."""
    return sorted((one for one in said if one.verdict != "withdrawn"), key=lambda one: one.offset)


def verdicts(
    said: Iterable[Said], heard: Mapping[str, Mapping[str, list[int]]], lengths: Mapping[str, int]
) -> dict[str, dict[str, Verdict]]:
    """Label -> clip -> what people say.

    `heard`: clip -> label -> the windows, from 0, in which its answer names it; `lengths`: clip -> how many windows it has.
    """
    by_clip: dict[str, list[Said]] = defaultdict(list)
    for one in standing(said):
        by_clip[one.clip].append(one)
    found: dict[str, dict[str, Verdict]] = defaultdict(dict)
    for clip, judged in by_clip.items():
        named = heard.get(clip, {})
        experts = {one.start_s: one for one in judged if one.expert and one.verdict in ("species", "nothing")}
        guides = [one for one in judged if not one.expert]
        for label in {*named, *(label for one in judged for label in (*one.labels, *one.heard))}:
            of_guides = _guides(label, guides, named)
            claimed = range(lengths.get(clip, 1)) if of_guides is not None else ()
            verdict = _experts(label, list(experts.values()), named.get(label) or claimed) or of_guides
            if verdict:
                found[label][clip] = verdict
    return dict(found)


def _experts(label: str, latest: list[Said], windows: Sequence[int]) -> Verdict | None:
    """Yes if a labeler heard it in the clip; no where labelers heard all the windows that may hold it, and it was in none.

    `windows` are those in which the answer names it, else, where a guide speaks of it, all of the clip.
    """
    if any(label in one.labels for one in latest if one.verdict == "species"):
        return "yes"
    covered = [any(one.start_s < (n + 1) * WINDOW_S and n * WINDOW_S < one.end_s for one in latest) for n in windows]
    return "no" if covered and all(covered) else None


def _guides(label: str, judged: list[Said], named: Mapping[str, list[int]]) -> Verdict | None:
    latest: dict[str, bool] = {}
    for one in judged:
        says = _says(one, label, named)
        if says is not None:
            latest[one.by] = says
    if not latest:
        return None
    return "contested" if len(set(latest.values())) > 1 else "yes" if next(iter(latest.values())) else "no"


def _says(one: Said, label: str, named: Mapping[str, list[int]]) -> bool | None:
    """What a guide's judgement says of one label. "It was SPECIES" says no to all else that the clip's answers named."""
    if one.verdict in ("right", "wrong"):
        return one.verdict == "right" if label in one.heard else None
    if one.verdict == "species":
        return True if label in one.labels else False if label in one.heard or label in named else None
    return None
