"""An evaluation as one page that stands alone: pictures and sounds are in it, and nothing is fetched from anywhere."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.store import write_text
from trainer.evaluation import measures, plots
from trainer.evaluation.run import RELEASE, Result
from trainer.evaluation.worst import Error, worst_errors

TITLES = {"soundscapes": "Soundscapes", "focal": "Focal clips"}
LEADS = {
    "soundscapes": "Minutes of the forest, window by window: what the system meets. Many species, far and near, over each other.",
    "focal": "One animal near the microphone, kept out of training by recording. Easier than the forest, and never mixed with it.",
}


def write_report(result: Result, folder: Path) -> Path:
    """Write `report.json` and `report.html` into the folder, each whole; returns the page's path."""
    write_text(folder / "report.json", json.dumps(result.numbers, indent=1))
    page = folder / "report.html"
    write_text(page, html_of(result, worst_errors(result.heard, RELEASE)))
    return page


def html_of(result: Result, errors: Iterable[Error]) -> str:
    """The page."""
    numbers = result.numbers
    parts: dict[str, Any] = numbers["parts"]
    name, frozen = escape(numbers["release"]), numbers["set"]
    heard = ", ".join(f"{frozen['sounds'][kind]} {TITLES[kind].lower()} ({frozen['rows'][kind]} windows)" for kind in parts)
    sections = [_scores(kind, found) for kind, found in parts.items()]
    sections += [_rivals(parts), *(_slices(kind, found) for kind, found in parts.items()), _strain(numbers["strain"])]
    sections.append(_errors(errors, {one.label: one.en for one in result.heard.material.species}))
    sections += [_answers(kind, result) for kind in parts]
    sections += [_species(kind, found) for kind, found in parts.items()]
    css = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}: how well it hears</title><style>{css}</style></head><body><header><h1>How well {name} hears</h1>"
        f"<p>Judged on {escape(frozen['folder'])}: {heard}.</p>"
        f"<p>{escape(numbers['at'])} · set <code>{frozen['digest'][:16]}</code> · release <code>{numbers['release_digest'][:16]}</code></p>"
        f"</header><main>{''.join(sections)}{_foot(numbers)}</main></body></html>"
    )


def _scores(kind: str, found: Mapping[str, Any]) -> str:
    covered = found["coverage"]
    cards = [
        (_number(found["mean_ap"]), "macro mAP" + _between(found["mean_ap_interval"])),
        (_number(found["auc"]), "macro ROC-AUC" + _between(found["auc_interval"])),
        (_number(found["top_1"], 0), f"top 1 of {found['rows_with_a_call']} windows with a call"),
        (_number(found["top_5"], 0), "top 5"),
        (f"{covered['ever_named']}/{covered['there']}", "species ever named where they are"),
        (_number(found["calibration_error"]), "calibration error of scores above 0.1"),
    ]
    body = "".join(f'<div class="card"><b>{value}</b><span>{escape(says)}</span></div>' for value, says in cards)
    return _section(TITLES[kind], f'{LEADS[kind]} {found["classes"]} species could be scored.', f'<div class="cards">{body}</div>')


def _rivals(parts: Mapping[str, Any]) -> str:
    says = "The same windows, answered by classifiers that know only the level and bandwidth, the mean energy of each band, or nothing."
    return _section("Beside those who hear almost nothing", says, f'<div class="panel">{plots.rivals_plot(parts)}</div>')


def _slices(kind: str, found: Mapping[str, Any]) -> str:
    says = "Each part alone, with the number of calls in it. A part with fewer than 30 is shown hollow and decides nothing."
    panel = f'<div class="panel">{plots.slices_plot(found["slices"])}</div>'
    return _section(f"Where it hears, and where not: {TITLES[kind].lower()}", says, panel)


def _strain(curves: Mapping[str, Any]) -> str:
    if not curves:
        return ""
    says = "Labelled calls put together at known strength: up to four species at once, and one call at falling strength over made noise."
    panels = f'<div class="panel">{plots.strain_plot(curves, "mean_ap", "macro mAP")}</div>'
    panels += f'<div class="panel" style="margin-top:14px">{plots.strain_plot(curves, "named", "share of calls named")}</div>'
    return _section("What breaks it", says, panels)


def _answers(kind: str, result: Result) -> str:
    found, rows = result.numbers["parts"][kind], result.heard.rows[kind]  # type: ignore[index]
    answers, species = rows.answers[RELEASE], result.heard.material.species
    curves = {"all": measures.precision_recall(rows.truth, answers.scores)}
    for taxon in sorted({one.taxon for one in species}):
        columns = np.array([one.taxon == taxon for one in species])
        if points := measures.precision_recall(rows.truth[:, columns], answers.scores[:, columns]):
            curves[taxon] = points
    names = {one.label: one.en for one in species}
    pairs = "".join(f"<li>{escape(names[a])} named as {escape(names[b])}: {n}</li>" for a, b, n in found["confusions"]["pairs"][:5])
    panels = [
        ("Confusions by taxon", plots.confusion_plot(found["confusions"]["names"], found["confusions"]["table"]) + f"<ul>{pairs}</ul>"),
        ("Precision and recall, all calls together", plots.precision_recall_plot(curves)),
        ("What a score is worth", plots.reliability_plot(found["reliability"])),
        ("Heard as often as there", plots.frequency_plot(found["species"])),
    ]
    body = "".join(f'<div class="panel"><h3 style="margin-top:0">{title}</h3>{picture}</div>' for title, picture in panels)
    says = "With the thresholds that the release carries."
    return _section(f"Its answers: {TITLES[kind].lower()}", says, f'<div class="two">{body}</div>')


def _errors(errors: Iterable[Error], names: Mapping[str, str]) -> str:
    def called(labels: Iterable[str]) -> str:
        return ", ".join(escape(names[label]) for label in labels) or "nothing"

    cards = "".join(
        f'<div class="error"><img alt="spectrogram" src="data:image/png;base64,{base64.b64encode(one.picture).decode()}">'
        f'<audio controls preload="none" src="data:audio/ogg;base64,{base64.b64encode(one.sound).decode()}"></audio>'
        f'<div><span class="tag {"missed" if one.what == "missed" else ""}">{one.what}</span> <b>{escape(names[one.label])}</b>, '
        f"score {one.score:.2f}<br>there: {called(one.there)}<br>named: {called(one.named)}"
        f"<br><small>{escape(one.where)}</small></div></div>"
        for one in errors
    )
    says = "The most confident wrong names, and the calls that it came least near to naming. Listen: some are the truth's errors."
    return _section("The worst errors", says, f'<div class="errors">{cards or "None: every call was named, and nothing else."}</div>')


def _species(kind: str, found: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(one['en'])} <small><i>{escape(one['scientific'])}</i></small></td><td>{escape(one['taxon'])}</td>"
        f'<td class="n">{one["there"]}</td><td class="n">{one["named"]}</td><td class="n">{one["right"]}</td>'
        f'<td class="n">{_number(one["auc"])}</td>'
        f'<td><span class="bar" style="width:{90 * (one["ap"] or 0):.0f}px"></span>{_number(one["ap"])}</td></tr>'
        for one in sorted(found["species"], key=lambda one: -(one["ap"] if one["ap"] is not None else -1))
    )
    numbers = "".join(f'<th class="n">{title}</th>' for title in ("there", "named", "right", "ROC-AUC"))
    head = f"<tr><th>species</th><th>taxon</th>{numbers}<th>average precision</th></tr>"
    table = f'<details {"open" if kind == "soundscapes" else ""}><summary>{len(found["species"])} species</summary><table>{head}{rows}'
    return _section(f"Species by species: {TITLES[kind].lower()}", "", f"{table}</table></details>")


def _foot(numbers: Mapping[str, Any]) -> str:
    frozen = numbers["set"]
    said = [f"Set {frozen['digest']} of names, contents and truth.", f"Release {numbers['release_digest']}."]
    if numbers["labels_lacking"]:
        said.append(f"The release has no label for: {', '.join(map(str, numbers['labels_lacking']))}; they score 0.")
    if frozen["left_out_as_trained_on"]:
        said.append(f"{len(frozen['left_out_as_trained_on'])} sounds were left out, because the release was trained on them.")
    said += [f"Not decoded: {name} ({why})" for name, why in frozen["refused"][:20]]
    return f"<footer>{'<br>'.join(escape(one) for one in said)}</footer>"


def _section(title: str, lead: str, body: str) -> str:
    return f'<section><h2>{escape(title)}</h2><p class="lead">{escape(lead)}</p>{body}</section>'


def _number(value: float | None, digits: int = 3) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if digits else f"{value:.0%}"


def _between(interval: Any) -> str:
    return f", {interval[0]:.3f} to {interval[1]:.3f}" if interval else ""
