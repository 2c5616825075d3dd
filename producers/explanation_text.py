"""An explanation for people, in the order of the clip's way."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from soundscape.terminal import terminal_width

TOP = 5
"""Scores of each window that are shown; `--json` has more."""


def show(said: dict[str, Any], console: Console | None = None) -> None:
    """Print an explanation as `producers.explanation` makes it."""
    out = console or Console(width=terminal_width())
    clip, release = said["clip"], said["release"]
    told = [f"{name} {clip[name]}" for name in ("tour_id", "recorder", "client", "recorded_at", "file_name") if clip[name] is not None]
    _line(out, f"Clip {said['clip_id']}, site {clip['site']}, stream {clip['stream']}", *told)
    if said["gone"]:
        _line(out, "Recording: the log has lost it", clip["place"])
    else:
        sound = said["recording"]
        rate = [f"{sound['original_rate']} Hz"] if sound["original_rate"] else []
        _line(out, f"Recording: {sound['original_type']}", *rate, f"{sound['bytes']} bytes", f"SHA-256 {sound['sha256']}", clip["place"])
    _line(out, f"Features: {' '.join(said['features'])}")
    _line(
        out, f"Release: {release['name']} ({release['role']}, generation {release['generation']})", ", ".join(release["licences"]),
        f"digest {release['digest'][:12]}", f"answer at {said['place']}",
    )  # fmt: skip
    for member in said["members"]:
        weight = [f"weight {member['weight']:g}"] if member["weight"] is not None else []
        left = [f"left out: {member['left_out']}"] if member["left_out"] else []
        _line(out, f"  Member {member['name']}", *weight, *left)
    if said["fusion"]:
        _line(out, _fusion(said["fusion"]))
    out.print(_scores(said))
    out.print(_stages(said["stages"]))
    for one in said["feedback"]:
        _line(out, f"Judged {one['verdict']} by {one['by']}", *one["labels"], *([one["note"]] if one["note"] else []))
    for one in said["labels"]:
        _line(out, f"Labelled {one['verdict']} by {one['by']}, {one['start_s']:g} to {one['end_s']:g} s", *one["labels"])
    _tour(out, said)
    for one in said["shadows"]:
        heard = ", ".join(f"{row['label']} {row['confidence']:.2f}" for row in one["detections"]) or "nothing"
        _line(out, f"Unseen answer of {one['release']}: {heard}")


def _line(out: Console, *parts: str) -> None:
    out.print(escape("; ".join(part for part in parts if part)), highlight=False, soft_wrap=True)


def _fusion(said: dict[str, Any]) -> str:
    """How the members became one answer."""
    groups = {"": said["weights"], **said["weights_by_taxon"]}
    shares = [
        f"{taxon + ': ' if taxon else ''}{', '.join(f'{name} {share:.2f}' for name, share in weights.items())}"
        for taxon, weights in groups.items()
    ]
    context = f"; {said['context']:.0%} of each score from the windows beside it" if said["context"] else ""
    return f"Fused by the mean of their {said['mean_of'].replace('_', ' ')}: {'; '.join(shares)}{context}"


def _scores(said: dict[str, Any]) -> Table:
    """The highest scores of each window beside their thresholds, what place and week multiplied them by, and each member's own."""
    table = Table(title="Scores", title_justify="left")
    for column in ("window", "label", "score", "threshold", "prior", "members"):
        table.add_column(column)
    detected = {one["label"] for one in said["detections"]}
    for window in said["windows"]:
        where = f"{window['start_s']:g}-{window['end_s']:g} s" + (" (silent)" if window["silent"] else "")
        for label, score in list(window["scores"].items())[:TOP]:
            threshold, prior = said["thresholds"].get(label), (said["prior"] or {}).get(label)
            members = ", ".join(f"{name} {scores[label]:.3f}" for name, scores in window["members"].items() if label in scores)
            passed = threshold is not None and score >= threshold
            row = (where, label, f"{score:.3f}", _number(threshold), _number(prior), members)
            table.add_row(*(escape(cell) for cell in row), style="bold" if passed and label in detected else None)
            where = ""
    return table


def _stages(stages: list[dict[str, Any]]) -> Table:
    table = Table(title="Stages", title_justify="left")
    for column in ("stage", "at", "ms since the one before"):
        table.add_column(column)
    for one in stages:
        table.add_row(one["stage"], one["at"], "" if one["ms"] is None else f"{one['ms']:.1f}")
    return table


def _tour(out: Console, said: dict[str, Any]) -> None:
    tour = said["tour"]
    if tour is None:
        _line(out, "Tour: nothing is known of it")
        return
    before, after = said["tour_before"], said["tour_after"]
    past = "before and after this clip: not known" if after is None else f"before this clip {_so_far(before)}, after it {_so_far(after)}"
    _line(out, f"Tour {tour['tour_id']}: {tour['diversity']} species confirmed in {tour['clips']} clips", past)
    for one in said["contributed"]:
        person = ["a person settled it"] if one["by_person"] else []
        best = ["this clip is its best"] if one["best_of_tour"] else []
        was = [] if after is None else [f"before this clip {one['before'] or 'not counted'}, after it {one['after'] or 'not counted'}"]
        _line(out, f"  {one['label']} is {one['status'] or 'not counted'}", *was, f"heard in {one['clips']} clips", *person, *best)


def _so_far(tour: dict[str, Any] | None) -> str:
    return f"{tour['diversity']} in {tour['clips']}" if tour else "none"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
