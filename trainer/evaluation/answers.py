"""Answers from the stream (`online_output/STEM.csv`, or JSON lines) joined with a data folder's truth, row by row."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from soundscape.errors import Invalid, Reason
from soundscape.taxonomy import Species, read_taxonomy
from trainer.data.catalog import Row, read_rows


@dataclass(frozen=True)
class Joined:
    """Rows that have both truth and an answer, in the order of the truth."""

    species: tuple[Species, ...]
    row_ids: tuple[str, ...]
    truth: npt.NDArray[np.bool_]
    """(rows, labels)"""
    scores: npt.NDArray[np.float32]
    """(rows, labels); 0 where the answer lacks the label."""
    unanswered: tuple[str, ...]
    """Rows of truth without an answer."""
    unknown: tuple[str, ...]
    """Labels of the truth's taxonomy that no answer has."""

    @property
    def stems(self) -> npt.NDArray[np.str_]:
        """The soundscape of each row."""
        return np.array([row_id.rpartition("_")[0] for row_id in self.row_ids])


def join(data: Path, answers: Path) -> Joined:
    """Join. Raises Invalid if the folder has no truth, an answer cannot be read, or no row has both."""
    rows = read_rows(data)
    if not rows:
        raise Invalid(Reason.BAD_REQUEST, f"{data} has no soundscape_labels.csv with rows; there is nothing to score against.")
    species = tuple(read_taxonomy(data / "taxonomy.csv"))
    found = dict(_read(answers))
    column = {one.label: n for n, one in enumerate(species)}
    both = [row for row in rows if row.row_id in found]
    if not both:
        raise Invalid(Reason.BAD_REQUEST, f"No row of {answers} is one of the {len(rows)} rows of {data / 'soundscape_labels.csv'}.")
    truth, scores = np.zeros((len(both), len(column)), bool), np.zeros((len(both), len(column)), np.float32)
    for n, row in enumerate(both):
        truth[n, [column[label] for label in row.labels if label in column]] = True
        for label, score in found[row.row_id].items():
            if label in column:
                scores[n, column[label]] = score
    answered = {label for row in both for label in found[row.row_id]}
    return Joined(species, tuple(row.row_id for row in both), truth, scores, _without(rows, found), tuple(sorted(column.keys() - answered)))


def _without(rows: tuple[Row, ...], found: dict[str, dict[str, float]]) -> tuple[str, ...]:
    return tuple(row.row_id for row in rows if row.row_id not in found)


def _read(path: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Row id and score by label of each answer: of every CSV in a folder, of one CSV, or of a file of JSON lines."""
    if not path.exists():
        raise Invalid(Reason.BAD_REQUEST, f"There are no answers at {path}.")
    if path.is_dir():
        for one in sorted(path.glob("*.csv")):
            yield from _read(one)
        return
    try:
        with path.open(newline="", encoding="utf-8") as file:
            if path.suffix == ".csv":
                for row in csv.DictReader(file):
                    yield row.pop("row_id"), {label: float(value) for label, value in row.items()}
            else:
                for line in filter(str.strip, file):
                    body = json.loads(line)
                    yield str(body["row_id"]), {str(label): float(value) for label, value in body["scores"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Invalid(Reason.BAD_REQUEST, f"{path} is not an answer file ({error}); expected row_id and one column a label.") from error
