"""The answers of the stream beside the truth, and beside rivals that hear almost nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from soundscape.terminal import terminal_width
from trainer.data import store
from trainer.data.listen import listen
from trainer.data.prepare import prepare
from trainer.evaluation import evaluate, rivals
from trainer.evaluation.answers import Joined, join

HEARD = 0.5
"""A species counts as heard in a row from this score on, unless a release's threshold is given."""


def scored(
    data: Path, answers: Path, learnt_from: Path, datasets: Path, thresholds: Mapping[str, float], say: Callable[[str], None]
) -> dict[str, Any]:
    """Scores of the answers and of the rivals on the same rows, as one plain object. Raises Invalid as `join`."""
    joined = join(data, answers)
    heard = joined.scores >= np.array([thresholds.get(one.label, HEARD) for one in joined.species], np.float32)
    by_class, precision = evaluate.auc_by_class(joined.truth, joined.scores), evaluate.ap_by_class(joined.truth, joined.scores)
    taxa: dict[str, list[int]] = {}
    for n, one in enumerate(joined.species):
        taxa.setdefault(one.taxon, []).append(n)
    groups = {taxon: np.array(columns) for taxon, columns in taxa.items()}
    return {
        **asdict(evaluate.score(joined.truth, joined.scores, joined.stems)),
        "unanswered": list(joined.unanswered),
        "unknown": list(joined.unknown),
        "by_taxon": {taxon: asdict(one) for taxon, one in evaluate.score_by(groups, joined.truth, joined.scores).items()},
        "rivals": _rivals(data, joined, learnt_from, datasets, say),
        "species": [
            {
                "label": one.label, "scientific": one.scientific, "en": one.en, "es": one.es,
                "there": int(joined.truth[:, n].sum()),
                "heard": int(heard[:, n].sum()),
                "right": int((joined.truth & heard)[:, n].sum()),
                "auc": None if np.isnan(by_class[n]) else round(float(by_class[n]), 4),
                "ap": None if np.isnan(precision[n]) else round(float(precision[n]), 4),
            }
            for n, one in enumerate(joined.species)
        ],
    }  # fmt: skip


def _rivals(data: Path, joined: Joined, learnt_from: Path, datasets: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """The constant prior always; the others where the sounds and something to learn from are there."""
    out = {"constant": asdict(evaluate.score(joined.truth, rivals.constant(joined.truth)))}
    sounds = {stem: data / "train_soundscapes" / f"{stem}.ogg" for stem in sorted(set(joined.stems.tolist()))}
    if not (learnt_from / "train.csv").is_file() or not all(path.is_file() for path in sounds.values()):
        say("The other rivals are left out: they need train_soundscapes/ and clips to learn from (--learnt-from).")
        return out
    prepared, _ = prepare(learnt_from, datasets, say)
    if prepared.labels != read_labels(joined):
        say("The other rivals are left out: the data they would learn from has other labels.")
        return out
    items = [_heard(prepared, stem, path) for stem, path in sounds.items()]
    windows = {item.recording: prepared.windows(item) for item in items}
    first = dict(zip(windows, np.cumsum([0, *(len(one) for one in windows.values())])[:-1].tolist(), strict=True))
    rows = np.array([first[row.rpartition("_")[0]] + int(row.rpartition("_")[2]) // 5 - 1 for row in joined.row_ids])
    energy = rivals.band_energy(prepared, np.concatenate(list(windows.values())))
    level = rivals.level_and_bandwidth(prepared, items)
    return {
        **out,
        "band_energy": asdict(evaluate.score(joined.truth, energy[rows])),
        "level_and_bandwidth": asdict(evaluate.score(joined.truth, level[rows])),
    }


def read_labels(joined: Joined) -> tuple[str, ...]:
    """The columns of the joined rows."""
    return tuple(one.label for one in joined.species)


def _heard(prepared: store.Prepared, stem: str, path: Path) -> store.Item:
    """A soundscape of the truth, with its mel power beside the prepared data."""
    file = f"processed/soundscapes/scored-{stem}.npy"
    heard = listen(path, prepared.folder / file)
    return store.Item(path.name, store.JUDGE, (), stem, file, heard.seconds, heard.digest)


class Told:
    """Scores as tables for people."""

    def __init__(self, found: dict[str, Any]) -> None:
        self._found = found

    def show(self) -> None:
        """Print them."""
        from rich.console import Console
        from rich.table import Table

        found, console = self._found, Console(width=terminal_width())
        table = Table("species", "scientific name", "there", "heard", "right", "ROC-AUC", "AP", title="Rows of 5 s, species by species")
        for one in found["species"]:
            if one["there"] or one["heard"]:
                cells = [str(one[key]) for key in ("there", "heard", "right")]
                table.add_row(
                    one["en"], one["scientific"], *cells, *("-" if one[key] is None else f"{one[key]:.3f}" for key in ("auc", "ap"))
                )
        console.print(table)
        table = Table("who", "macro ROC-AUC", "macro mAP", "species", "rows", title="Beside the truth (95 % over soundscapes)")
        parts = {"the stream": found, **{f"  {taxon}": one for taxon, one in found["by_taxon"].items()}}
        parts |= {f"rival: {name.replace('_', ' ')}": one for name, one in found["rivals"].items()}
        for name, one in parts.items():
            table.add_row(name, _cell(one, "auc"), _cell(one, "mean_ap"), str(one["classes"]), str(one["rows"]))
        console.print(table)
        if found["unanswered"]:
            console.print(f"{len(found['unanswered'])} rows of truth have no answer, and are not in the score.")
        if found["unknown"]:
            console.print(f"No answer has a column for: {', '.join(found['unknown'])}; they score 0 everywhere.")


def _cell(found: dict[str, Any], what: str) -> str:
    if found[what] is None:
        return "-"
    between = found.get(f"{what}_interval")
    return f"{found[what]:.3f}" + (f" ({between[0]:.3f} to {between[1]:.3f})" if between else "")
