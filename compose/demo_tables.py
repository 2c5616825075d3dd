"""What the demo prints: species of a recording, what was there and what was heard, scores, latency, and where to go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from compose.demo_answers import STAGES, Heard
from soundscape.taxonomy import Species


def _table(title: str, *columns: str, right: int = 0) -> Table:
    """A table whose columns from number `right` on hold numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if right and number >= right else "left")
    return table


def species_table(prediction: Mapping[str, Any]) -> Table:
    """The detections of an answer of the gateway."""
    title = f"Heard by {prediction['release']}"
    table = _table(title, "scientific", "English", "Spanish", "confidence", "unweighted", "when", right=3)
    for found in prediction["detections"]:
        names = found["names"]
        when = f"{found['start_s']:g} to {found['end_s']:g} s"
        numbers = f"{found['confidence']:.2f}", f"{found['unweighted']:.2f}", when
        table.add_row(f"[italic]{names['scientific']}[/]", names["en"], names["es"], *numbers)
    return table


def heard_table(heard: Heard, species: Mapping[str, Species], auc: Mapping[str, float | None]) -> Table:
    """What was there and what was heard, species by species, in rows of five seconds."""
    title = f"What was there and what was heard, in {heard.rows} rows of 5 s"
    table = _table(title, "label", "scientific", "English", "taxon", "there", "heard", "of these right", "AUC", right=4)
    for label, tally in sorted(heard.by_label.items(), key=lambda item: (-item[1].there, item[0])):
        one = species.get(label)
        names = (f"[italic]{one.scientific}[/]", one.en, one.taxon) if one else ("", "", "")
        score = auc.get(label)
        numbers = str(tally.there), str(tally.heard), str(tally.both), "-" if score is None else f"{score:.3f}"
        table.add_row(label, *names, *numbers)
    return table


def score_table(found: Mapping[str, Any]) -> Table:
    """The stream's scores against the truth, beside rivals that hear almost nothing."""
    table = _table(f"The stream against the truth, in {found['rows']} rows of {found['recordings']} minutes (95 % intervals)",
                   "who", "macro ROC-AUC", "macro mAP", "classes scored", right=1)  # fmt: skip
    rivals = {f"rival: {name.replace('_', ' ')}": one for name, one in found["rivals"].items()}
    for name, one in {"[bold]the stream[/]": found, **rivals}.items():
        table.add_row(name, _cell(one, "auc"), _cell(one, "mean_ap"), str(one["classes"]))
    return table


def _cell(one: Mapping[str, Any], what: str) -> str:
    if one[what] is None:
        return "-"
    between = one.get(f"{what}_interval")
    return f"{one[what]:.3f}" + (f" ({between[0]:.3f} to {between[1]:.3f})" if between else "")


def latency_table(spent: Mapping[str, Mapping[str, tuple[float, float]]]) -> Table:
    """Milliseconds from publishing to prediction, by stage and lane."""
    lanes = [lane for lane in ("live", "bulk") if lane in spent]
    names = {"live": "tours' clips of 5 s", "bulk": "recorders' minutes"}
    columns = [f"{names[lane]}, {what}" for lane in lanes for what in ("median", "p95")]
    table = _table("From publishing to prediction, in ms", "stage", *columns, right=1)
    for stage, title in {**STAGES, "all": "[bold]all[/]"}.items():
        table.add_row(title, *(f"{number:.0f}" for lane in lanes for number in spent[lane].get(stage, ())))
    return table


def audit_table(counts: Mapping[str, int]) -> Table:
    """What `soundscape audit` counted."""
    table = _table("Every clip ever accepted, recounted from the logs", *counts, right=0)
    table.add_row(*map(str, counts.values()))
    return table


def places_table(places: Mapping[str, str]) -> Table:
    """Where to look next."""
    table = _table("Where to look", "what", "where")
    for what, where in places.items():
        table.add_row(what, where)
    return table
