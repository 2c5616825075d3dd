"""BirdCLEF's taxonomy: labels are text, in plain string order, each once."""

from __future__ import annotations

from pathlib import Path

import pytest

from soundscape.errors import Invalid
from soundscape.taxonomy import read_taxonomy

HEAD = "primary_label,inat_taxon_id,scientific_name,common_name,class_name"
ROWS = ("rucspa1,1,Zonotrichia capensis,Rufous-collared Sparrow,Aves", "60,2,Scinax ruber,Red Snouted Treefrog,Amphibia",
        "1139490,3,Ragoniella pulchella,Katydid,Insecta")  # fmt: skip


def written(folder: Path, *lines: str) -> Path:
    """A taxonomy of these lines."""
    path = folder / "taxonomy.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_labels_are_text_in_string_order(tmp_path: Path) -> None:
    """Sixty of BirdCLEF's labels are digits only; as numbers they would sort otherwise, and lose leading zeros."""
    species = read_taxonomy(written(tmp_path, HEAD, *ROWS))
    assert [one.label for one in species] == ["1139490", "60", "rucspa1"]
    assert (species[2].en, species[2].es, species[2].taxon) == ("Rufous-collared Sparrow", "Zonotrichia capensis", "Aves")


def test_a_spanish_name_is_taken_where_there_is_one(tmp_path: Path) -> None:
    """From its own column; an empty cell falls back to the scientific name."""
    path = written(tmp_path, HEAD + ",nombre_comun", ROWS[0] + ",Chingolo común", ROWS[1] + ",")
    assert {one.label: one.es for one in read_taxonomy(path)} == {"rucspa1": "Chingolo común", "60": "Scinax ruber"}


@pytest.mark.parametrize("lines", [("",), (HEAD,), ("primary_label", "a"), (HEAD, ROWS[0], ROWS[0])])
def test_a_file_that_is_no_taxonomy_is_refused(tmp_path: Path, lines: tuple[str, ...]) -> None:
    """Empty, without rows, without columns, or with a label twice."""
    with pytest.raises(Invalid):
        read_taxonomy(written(tmp_path, *lines))
