"""Trivial rivals on the very rows that a release was judged on: what hears almost nothing must score worse."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from soundscape.errors import Invalid
from soundscape.features import Float32
from trainer.data import store
from trainer.data.listen import listen
from trainer.evaluation import rivals
from trainer.evaluation.material import Kind, Sound
from trainer.evaluation.rows import Heard, Rows

CONSTANT = "constant"


def rival_scores(heard: Heard, prepared: store.Prepared | None, say: Callable[[str], None]) -> dict[Kind, dict[str, Float32]]:
    """Scores (rows, labels) of each rival on each kind; the constant alone where there is no prepared data to learn from."""
    out: dict[Kind, dict[str, Float32]] = {kind: {CONSTANT: rivals.constant(rows.truth)} for kind, rows in heard.rows.items()}
    if prepared is None or not prepared.of(store.TRAIN):
        say("Of the rivals only the constant is here: the data that the release learnt from is not prepared on this machine.")
        return out
    items: list[store.Item] = []
    means: list[Float32] = []
    first: dict[str, int] = {}
    seen = 0
    for sound in [sound for rows in heard.rows.values() for sound in rows.sounds]:
        try:
            item = _item(prepared, sound)
        except Invalid:  # silence, which a release may be judged on and a rival not: it scores nothing there
            continue
        windows = prepared.windows(item)
        items.append(item)
        means.append(windows.mean(axis=2, keepdims=True))
        first[sound.digest] = seen
        seen += len(windows)
    if not items:
        return out
    told = {
        "band_energy": rivals.band_energy(prepared, np.concatenate(means)),
        "level_and_bandwidth": rivals.level_and_bandwidth(prepared, items),
    }
    column = {label: n for n, label in enumerate(prepared.labels)}
    own = np.array([column.get(label, -1) for label in heard.material.labels])
    for kind, rows in heard.rows.items():
        for name, scores in told.items():
            out[kind][name] = _placed(rows, scores, first, own)
    return out


def _item(prepared: store.Prepared, sound: Sound) -> store.Item:
    """A sound of the set with its mel power beside the prepared data; what is there already is used again."""
    for item in prepared.items:
        if item.digest == sound.digest:
            return item
    file = f"processed/judged/{sound.digest[:20]}.npy"
    seconds = 0.0 if (prepared.folder / file).is_file() else listen(sound.path, prepared.folder / file).seconds
    return store.Item(sound.name, store.JUDGE, (), sound.recording, file, seconds, sound.digest)


def _placed(rows: Rows, scores: Float32, first: dict[str, int], own: Sequence[int] | np.ndarray[tuple[int], np.dtype[np.intp]]) -> Float32:
    """A rival's scores of all windows, at the rows and in the columns of the set; 0 where it says nothing."""
    at = np.array([first.get(rows.sounds[w].digest, -(10**9)) for w in rows.which]) + rows.window
    there = (at >= 0) & (at < len(scores))
    columns = np.asarray(own)
    out = np.zeros(rows.truth.shape, np.float32)
    out[np.ix_(there, columns >= 0)] = scores[np.ix_(at[there], columns[columns >= 0])]
    return out
