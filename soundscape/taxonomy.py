"""The ordered labels of a model and the names of species."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from soundscape.csv_table import read_table
from soundscape.errors import Invalid, Reason

TAXA = ("Aves", "Amphibia", "Insecta", "Mammalia")
"""The four classes of BirdCLEF 2025, as `taxonomy.csv` spells them."""


class Species(BaseModel):
    """One label with its names. `label` is the eBird code of a bird and the iNaturalist id of anything else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str
    scientific: str
    en: str
    es: str
    taxon: str
    """`Aves`, `Amphibia`, `Insecta`, `Mammalia`, or `Other` (human voice, engines, …)."""


def read_taxonomy(path: Path) -> list[Species]:
    """Read BirdCLEF's `taxonomy.csv`, in the plain string order of labels; labels stay strings ("60", "1139490").

    A Spanish name comes from an optional column `nombre_comun`, else the scientific name stands in.

    Raises Invalid if a column is missing or a label occurs twice.
    """
    _, rows = read_table(path)
    wanted = {"primary_label", "scientific_name", "common_name", "class_name"}
    if not rows or not wanted <= rows[0].keys():
        raise Invalid(Reason.BAD_REQUEST, f"{path} must be a CSV with the columns {', '.join(sorted(wanted))}.")
    for row in rows:
        if not row["primary_label"] or any(row[column] is None for column in wanted):
            raise Invalid(Reason.BAD_REQUEST, f"{path} has a row without all of {', '.join(sorted(wanted))} ({row}); fill it in.")
    species = [
        Species(
            label=row["primary_label"],
            scientific=row["scientific_name"],
            en=row["common_name"],
            es=row.get("nombre_comun") or row["scientific_name"],
            taxon=row["class_name"],
        )
        for row in rows
    ]
    labels = [one.label for one in species]
    if len(set(labels)) != len(labels):
        raise Invalid(Reason.BAD_REQUEST, f"{path} names a primary_label twice; each may stand once.")
    return sorted(species, key=lambda one: one.label)
