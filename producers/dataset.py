"""The synthetic forest as a folder in BirdCLEF 2025's layout: focal clips, labelled minutes and their exact truth."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from producers.beds import bed
from producers.layout import write_csv, write_ogg, write_taxonomy, write_truth, write_whole
from producers.notes import RATE
from producers.scenes import PlacedCall, Purpose, scene, seed_of, turned_down
from producers.species import BY_LABEL, INHABITANTS, Individual, dialect, individual
from soundscape.errors import Invalid, Reason

VERSION = 1
"""Raised whenever the same seed would sound different: a folder of another version is refused, not mixed."""
FIRST_MINUTE = datetime(2026, 3, 1, 6, 0)  # noqa: DTZ001  (local time, as the file names of BirdCLEF are)
MINUTES_APART = timedelta(hours=3, minutes=7)
NEAR_SNR_DB = (14.0, 32.0)
"""Focal recordings are made near the animal."""
LATITUDE, LONGITUDE = 6.76, -74.21
FIRST_DAY, DAYS = date(2024, 3, 1), 730
"""Over which a drifting forest's focal clips were recorded, the first one of each species first."""
DRIFTED = 0.3
"""Of each species' clips, the newest: they are in another dialect."""
TRAIN_COLUMNS = (
    "primary_label",
    "secondary_labels",
    "type",
    "filename",
    "collection",
    "rating",
    "url",
    "latitude",
    "longitude",
    "scientific_name",
    "common_name",
    "author",
    "license",
)


@dataclass(frozen=True)
class Recipe:
    """What a synthetic data set is made from; the same recipe gives the same truth, to the byte."""

    seed: int
    clips_per_species: int = 25
    minutes: int = 16
    recorder: str = "SYN"
    version: int = VERSION
    drift: float = 0.0
    """Octaves by which the newest clips' dialect differs; 0: none does, and the clips have no dates."""

    @property
    def told(self) -> dict[str, object]:
        """As it is written down: without a drift as before there was any."""
        return {key: value for key, value in asdict(self).items() if key != "drift" or value}

    def drift_of(self, index: int) -> float:
        """Octaves of a species' clip of that number."""
        return self.drift if index >= self.clips_per_species - round(DRIFTED * self.clips_per_species) else 0.0

    def day_of(self, index: int) -> date:
        """When a species' clip of that number was recorded."""
        return FIRST_DAY + timedelta(days=index * DAYS // max(1, self.clips_per_species))


def focal(rng: np.random.Generator, label: str, snr_db: float, drift: float = 0.0) -> NDArray[np.float32]:
    """One focal clip, float32 at 32 kHz: 5 to 20 s (longer if its calls are) of one animal near by, over a light bed.

    With a `drift`, in octaves, the animal calls in another dialect; length and bed are the same to the sample.
    """
    animal = individual(BY_LABEL[label], rng)
    seconds, at = rng.uniform(5, 20), rng.uniform(0.2, 1.2)
    again = copy.deepcopy(rng)
    calls = _calls(animal, rng, at, seconds)
    n = max(int(seconds * RATE), calls[-1][0] + len(calls[-1][1]) + RATE // 4)
    if drift:  # the plain calls were made all the same: what is drawn after them is the bed
        (first, wave), *others = _calls(dialect(animal, drift), again, at, seconds)
        calls = [(first, wave[: n - first]), *(one for one in others if one[0] + len(one[1]) <= n)]
    background = bed(rng, n)
    canvas = background.copy()
    for first, wave in calls:
        here = slice(first, first + len(wave))
        ratio = np.mean(background[here] ** 2) / np.mean(wave**2) * 10 ** (snr_db / 10)
        canvas[here] += wave * np.float32(np.sqrt(ratio))
    return turned_down(canvas)


def _calls(animal: Individual, rng: np.random.Generator, at: float, seconds: float) -> list[tuple[int, NDArray[np.float32]]]:
    """Calls one after the other from second `at` on, at least one: the first sample of each, and its wave."""
    calls: list[tuple[int, NDArray[np.float32]]] = []
    while not calls or at < seconds - 1:
        wave = animal.call(rng)
        calls.append((int(at * RATE), wave))
        at += len(wave) / RATE + rng.uniform(0.3, 2.0)
    return calls


def minute_stem(recipe: Recipe, index: int) -> str:
    """SITE_YYYYMMDD_HHMMSS (local time) of a minute."""
    return f"{recipe.recorder}_{FIRST_MINUTE + index * MINUTES_APART:%Y%m%d_%H%M%S}"


def _focal_row(recipe: Recipe, folder: Path, job: tuple[str, int]) -> dict[str, object]:
    label, index = job
    one = BY_LABEL[label].species
    filename = f"{label}/SYN{INHABITANTS.index(BY_LABEL[label]):02d}{index:05d}.ogg"
    path = folder / "train_audio" / filename
    rng = seed_of(recipe.seed, Purpose.FOCAL, INHABITANTS.index(BY_LABEL[label]), index)
    snr_db = round(float(rng.uniform(*NEAR_SNR_DB)), 1)
    place = rng.normal(0, 0.02, 2)
    if not path.exists():
        write_ogg(path, focal(rng, label, snr_db, recipe.drift_of(index)))
    row: dict[str, object] = {
        "primary_label": label,
        "secondary_labels": "['']",
        "type": "['call']",
        "filename": filename,
        "collection": "SYN",
        "rating": 3 + round((snr_db - NEAR_SNR_DB[0]) / (NEAR_SNR_DB[1] - NEAR_SNR_DB[0]) * 4) / 2,
        "url": "",
        "latitude": round(LATITUDE + float(place[0]), 4),
        "longitude": round(LONGITUDE + float(place[1]), 4),
        "scientific_name": one.scientific,
        "common_name": one.en,
        "author": "Synthetic forest",
        "license": "cc0-1.0",
    }
    return row | ({"date": recipe.day_of(index).isoformat()} if recipe.drift else {})


def _minute(recipe: Recipe, folder: Path, index: int) -> list[PlacedCall]:
    path = folder / "train_soundscapes" / f"{minute_stem(recipe, index)}.ogg"
    wave, calls = scene((recipe.seed, Purpose.MINUTE, index))
    if not path.exists():
        write_ogg(path, wave)
    return calls


def write_dataset(
    folder: Path,
    seed: int,
    clips_per_species: int = 25,
    minutes: int = 16,
    *,
    recorder: str = "SYN",
    drift: float = 0.0,
    workers: int | None = None,
    progress: bool = True,
) -> Recipe:
    """Write the synthetic forest into `folder`; what is there already is kept, so it can be interrupted and run again.

    `drift` is in octaves: the newest clips of each species are in another dialect, and all have dates (Recipe).
    `workers` is the number of processes (all cores unless given; 1 means this one). Returns the recipe, which is
    also written last, as `synthesis.json`: a folder that has it is complete.

    Raises Invalid if the folder holds a data set of another recipe.
    """
    recipe = Recipe(seed, clips_per_species, minutes, recorder, drift=drift)
    started, done = folder / ".synthesis.started.json", folder / "synthesis.json"
    for mark in (started, done):
        if mark.exists() and _noted(mark) != asdict(recipe):
            raise Invalid(Reason.BAD_REQUEST, f"{folder} holds a forest of another recipe; name another folder or remove it.")
    if done.exists():
        return recipe
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(recipe.told, indent=1) + "\n"
    write_whole(started, lambda part: part.write_text(text, encoding="utf-8"))
    clips = [(one.label, index) for one in INHABITANTS for index in range(clips_per_species)]
    workers = workers or os.cpu_count() or 1
    total = len(clips) + minutes
    if workers == 1:
        results = (
            map(_focal_row, repeat(recipe), repeat(folder), clips),
            map(_minute, repeat(recipe), repeat(folder), range(minutes)),
        )
        rows, calls = _collect(*results, total, progress)
    else:
        # Spawned, not forked: the caller may hold threads of a broker's or a model's client.
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            rows, calls = _collect(
                pool.map(_focal_row, repeat(recipe), repeat(folder), clips, chunksize=8),
                pool.map(_minute, repeat(recipe), repeat(folder), range(minutes), chunksize=1),
                total,
                progress,
            )
    write_taxonomy(folder)
    write_csv(folder / "train.csv", (*TRAIN_COLUMNS, "date") if drift else TRAIN_COLUMNS, rows)
    write_truth(folder, [(minute_stem(recipe, index), one) for index, one in enumerate(calls)])
    started.replace(done)
    return recipe


def _noted(mark: Path) -> dict[str, object]:
    """The recipe that a folder names, with the defaults of what it was made before."""
    return {"drift": 0.0, **json.loads(mark.read_text(encoding="utf-8"))}


def _collect(
    rows: Iterable[dict[str, object]], minutes: Iterable[list[PlacedCall]], total: int, progress: bool
) -> tuple[list[dict[str, object]], list[list[PlacedCall]]]:
    """All results in order, counted on one bar."""

    def both() -> Iterable[dict[str, object] | list[PlacedCall]]:
        yield from rows
        yield from minutes

    results = list(track(both(), "Growing a synthetic forest", total, console=Console(stderr=True), disable=not progress))
    return [one for one in results if isinstance(one, dict)], [one for one in results if isinstance(one, list)]
