"""Parts of an evaluation that are looked at alone: by taxon, by night, weak calls, insects' hours, rare species, source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from soundscape.features import Float32
from soundscape.taxonomy import Species
from trainer.evaluation import evaluate
from trainer.evaluation.rows import Rows

Bool = npt.NDArray[np.bool_]

MIN_POSITIVES = 30
"""A slice with fewer says little: it is reported and marked, and decides nothing."""
LOW_SNR_DB = 9.0
"""Of the loudest call; about a quarter of the calls in the synthetic forest and in composed minutes are weaker."""
RARE_CLIPS = 10
NIGHT = (18, 6)
"""Hours of the local clock between which it is night."""
MAX_SOURCES = 12


@dataclass(frozen=True)
class Slice:
    """A part by name: `cells` bool (rows, labels) says what counts."""

    family: str
    name: str
    cells: Bool


@dataclass(frozen=True)
class Sliced:
    """How well a part is heard. `positives` are rows and labels that are true; `small`: fewer than MIN_POSITIVES."""

    family: str
    name: str
    positives: int
    rows: int
    classes: int
    auc: float | None
    mean_ap: float | None
    mean_ap_interval: tuple[float, float] | None
    small: bool


def slices(rows: Rows, species: tuple[Species, ...], clips: Mapping[str, int]) -> Iterator[Slice]:
    """Every part that has a positive; `clips` counts the training clips of each label, and without any no species is called rare."""
    for one in _all(rows, species, clips):
        if (rows.truth & one.cells).any():
            yield one


def measure(part: Slice, rows: Rows, scores: Float32) -> Sliced:
    """Score one part, with the bootstrap's interval over recordings."""
    truth, ranked = evaluate.within(part.cells, rows.truth, scores)
    counted = _scorable(part.cells, truth)
    mean_ap = evaluate.ap_by_class(truth[:, counted], ranked[:, counted]).mean() if counted.any() else None
    positives = int(truth.sum())
    return Sliced(
        part.family, part.name, positives, int(part.cells.any(axis=1).sum()), int(counted.sum()), _auc(part.cells, rows.truth, scores),
        None if mean_ap is None else float(mean_ap), evaluate.mean_ap_between(truth[:, counted], ranked[:, counted], rows.recordings),
        positives < MIN_POSITIVES,
    )  # fmt: skip


def compare(
    part: Slice, rows: Rows, first: Float32, second: Float32, shared: Bool, groups: npt.NDArray[np.str_]
) -> evaluate.Difference | None:
    """How much better one release hears a part than another, on the labels that both know, bool (labels,); None if none can be scored."""
    cells = part.cells & shared
    truth, ranked = evaluate.within(cells, rows.truth, first)
    counted = _scorable(cells, truth)
    if not counted.any():
        return None
    _, beside = evaluate.within(cells, rows.truth, second)
    return evaluate.difference(truth[:, counted], ranked[:, counted], beside[:, counted], groups)


def _scorable(cells: Bool, truth: Bool) -> Bool:
    """Columns with a positive and a negative among the cells that count, bool (labels,)."""
    return np.asarray(truth.any(axis=0) & (cells & ~truth).any(axis=0))


def _auc(cells: Bool, truth: Bool, scores: Float32) -> float | None:
    found = []
    for column in np.flatnonzero(_scorable(cells, truth & cells)):
        inside = cells[:, column]
        found.append(float(evaluate.auc_by_class(truth[inside, column : column + 1], scores[inside, column : column + 1])[0]))
    return float(np.mean(found)) if found else None


def _all(rows: Rows, species: tuple[Species, ...], clips: Mapping[str, int]) -> Iterator[Slice]:
    shape = rows.truth.shape
    taxa = np.array([one.taxon for one in species])
    for taxon in sorted(set(taxa.tolist())):
        yield Slice("taxon", taxon, np.broadcast_to(taxa == taxon, shape))
    if clips:
        rare = np.array([clips.get(one.label, 0) < RARE_CLIPS for one in species])
        yield Slice("species", f"rare (fewer than {RARE_CLIPS} clips)", np.broadcast_to(rare, shape))
        if rare.any():
            yield Slice("species", "others", np.broadcast_to(~rare, shape))
    hours = np.array([-1 if sound.recorded_at is None else sound.recorded_at.hour for sound in rows.sounds])[rows.which]
    night = (hours >= NIGHT[0]) | ((hours >= 0) & (hours < NIGHT[1]))
    for name, inside in (("night", night), ("day", (hours >= 0) & ~night)):
        yield _of_rows("time", name, inside, shape)
    known = ~np.isnan(rows.snr)
    if known.any():
        low, high = known & (rows.snr < LOW_SNR_DB), known & (rows.snr >= LOW_SNR_DB)
        yield Slice("strength", f"weak calls (below {LOW_SNR_DB:g} dB)", ~rows.truth | low)
        yield Slice("strength", "stronger calls", ~rows.truth | high)
    if rows.kind == "soundscapes":
        present = rows.truth.sum(axis=1)
        insects = rows.truth[:, taxa == "Insecta"].sum(axis=1)
        yield _of_rows("company", "insect-dominant", (insects > 0) & (2 * insects >= present), shape)
        yield _of_rows("company", "several at once", present > 1, shape)
    sources = np.array([sound.source for sound in rows.sounds])[rows.which]
    common = [name for name, _ in Counter(sources.tolist()).most_common(MAX_SOURCES)]
    for name in sorted(common) if len(common) > 1 else ():
        yield _of_rows("source", name, sources == name, shape)


def _of_rows(family: str, name: str, inside: Bool, shape: tuple[int, ...]) -> Slice:
    return Slice(family, name, np.broadcast_to(inside[:, None], shape))
