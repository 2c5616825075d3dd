"""A prepared data set's report as people read it: tables, and a sentence for each thing that is not as they may think."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from soundscape.terminal import terminal_width
from trainer.data.integrity import RARE
from trainer.data.prepare import Report

SHOWN = 20
"""Names in a list; report.json has them all."""


def show_report(report: Report) -> None:
    """Print the report."""
    console = Console(width=terminal_width(), highlight=False)
    table = Table("role", "sounds", "windows of 5 s", "minutes", title="Prepared")
    for role, one in report.counts.items():
        table.add_row(role, str(one["sounds"]), str(one["windows"]), f"{one['seconds'] / 60:.1f}")
    console.print(table)
    console.print(_integrity(report))
    for line in sentences(report):
        console.print(line)
    if report.left_out:
        left = Table("left out", "reason", "", title=f"{len(report.left_out)} left out (all in report.json)")
        for gone in report.left_out[:SHOWN]:
            left.add_row(gone.name, gone.reason, gone.detail)
        console.print(left)


def _integrity(report: Report) -> Table:
    found = report.integrity
    table = Table("", "", title="What the folder holds", show_header=False)
    if found.seconds:
        lengths = ", ".join(f"{what} {found.seconds[what]:g}" for what in ("min", "median", "p95", "max"))
        table.add_row("seconds of a sound", f"{lengths}; {found.seconds['sum'] / 60:.1f} min in all")
    if found.ratings:
        table.add_row("ratings", ", ".join(f"{rating}: {n}" for rating, n in found.ratings.items()))
    table.add_row(f"species below {RARE} clips", _some([f"{label} ({n})" for label, n in found.rare.items()]))
    table.add_row("the same bytes under several names", _some([" = ".join(names) for names in found.same_bytes]))
    table.add_row("the same sound in other bytes", _some([" = ".join(names) for names in found.same_sound]))
    reasons = sorted({gone.reason for gone in report.left_out})
    table.add_row("left out", ", ".join(f"{one}: {sum(gone.reason == one for gone in report.left_out)}" for one in reasons) or "none")
    return table


def sentences(report: Report) -> list[str]:
    """What the split kept apart, what was cut, what is not known."""
    sides, time = report.integrity.recordings, report.integrity.by_time
    told = [
        f"Split by recording, species by species: {sides['train']} to learn from, {sides['validation']} to judge by; "
        f"{sides['shared']} lie in several species' folders, {sides['on both sides']} on both sides.",
        f"{report.placed} clips are kept out of training because they are heard in labelled soundscapes.",
        f"By time (`soundscape rehearse`): {time['older']} older recordings, {time['new'] + time['later']} newer ones; "
        f"{time['undated']} of {time['older'] + time['new'] + time['later']} have no date"
        + ("; the hash of their id stands in for it." if time["undated"] else "."),
    ]
    if (speech := report.speech) is None:
        told.append("Nobody listened for human speech: SOUNDSCAPE_TAGGER names no weights, or SOUNDSCAPE_TRAINING_SPEECH_LIMIT is 1.")
    else:
        told.append(
            f"Human speech (score {speech.limit:g} or more): {speech.windows} of {speech.of} training windows are left out, in "
            f"{speech.sounds} sounds; {len(speech.whole)} of these are left out whole."
        )
    if report.unseen:
        told.append(f"No training clip of: {', '.join(report.unseen)}.")
    if report.cut:
        told.append(f"Only the first minute was taken of {len(report.cut)} longer sounds.")
    return told


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)}: {', '.join(names[:SHOWN])}{rest}" if names else "none"
