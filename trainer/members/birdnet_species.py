"""The species that BirdNET knows: its lists as set-up fetched them, with eBird codes, names in three languages and classes."""

from __future__ import annotations

import json
from pathlib import Path

from soundscape.errors import Invalid, Reason
from soundscape.taxonomy import Species

LABELS, SPANISH, CODES = "labels_en.txt", "labels_es.txt", "ebird_codes.json"
LISTS = (LABELS, SPANISH, CODES)

SOUNDS = {
    "dogdog": "Perro",
    "engine": "Motor",
    "envrnm": "Ambiente",
    "frwrks": "Fuegos artificiales",
    "gungun": "Disparo",
    "humnov": "Sonido humano sin voz",
    "humvoc": "Voz humana",
    "humwhi": "Silbido humano",
    "nocall": "Ruido",
    "powtoo": "Herramienta eléctrica",
    "siren1": "Sirena",
}
"""Labels that no place expects or excludes, with the Spanish names that BirdNET's list lacks."""
SPEECH = ("humnov", "humvoc", "humwhi")
"""Labels that tell that a person is there: what they say, whistle, or do."""
GENERA = {
    "Amphibia": "Acris Anaxyrus Dryophytes Eleutherodactylus Gastrophryne Hyliola Incilius Lithobates Pseudacris Scaphiopus Spea",
    "Insecta": "Allonemobius Amblycorypha Anaxipha Apis Atlanticus Conocephalus Cyrtoxipha Eunemobius Gryllus Microcentrum "
    "Miogryllus Neoconocephalus Neonemobius Oecanthus Orchelimum Orocharis Phyllopalpus Pterophylla Scudderia",
    "Mammalia": "Alouatta Canis Odocoileus Sciurus Tamias Tamiasciurus",
}
"""Genera of the species that are no birds; BirdNET's files do not say the class, only that eBird's code begins with `t-`."""
_CLASS_OF = {genus: taxon for taxon, genera in GENERA.items() for genus in genera.split()}


def read_species(folder: Path) -> list[Species]:
    """BirdNET's species in the order of the model's outputs. Raises Invalid if its lists do not fit each other."""
    english, spanish = (_pairs(folder / name) for name in (LABELS, SPANISH))
    codes: dict[str, str] = json.loads((folder / CODES).read_text(encoding="utf-8"))
    if [scientific for scientific, _ in english] != [scientific for scientific, _ in spanish]:
        raise Invalid(Reason.RELEASE_INVALID, f"{LABELS} and {SPANISH} in {folder} differ in their species; run `make setup`.")
    species = []
    for (scientific, en), (_, es) in zip(english, spanish, strict=True):
        label = codes.get(f"{scientific}_{en}", scientific)
        translated = SOUNDS.get(label) or (es if es != en else scientific)  # a list's English stand-in is no Spanish name
        species.append(Species(label=label, scientific=scientific, en=en, es=translated, taxon=_taxon(label, scientific)))
    return species


def _pairs(path: Path) -> list[tuple[str, str]]:
    """(scientific, common) of each line of a label list."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [(line.split("_", 1)[0], line.split("_", 1)[-1]) for line in lines if line.strip()]


def _taxon(label: str, scientific: str) -> str:
    if label in SOUNDS:
        return "Other"
    if label == scientific or label.startswith("t-"):
        return _CLASS_OF.get(scientific.split()[0], "Other")
    return "Aves"  # every other code is one of eBird's, which lists birds
