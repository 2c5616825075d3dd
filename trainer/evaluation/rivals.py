"""What a model must beat: classifiers that hear almost nothing, trained on the same clips and scored on the same rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainer.data import store
from trainer.training.learn import mixer_of
from trainer.training.mixing import Recipe

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]

MIXTURES = 1500
EDGE_DB = 50.0
"""A band this far below the loudest one is out of the sound's bandwidth."""


def constant(truth: Bool) -> Float32:
    """The prior: the same for every row, whoever calls."""
    return np.zeros(truth.shape, np.float32)


def band_energy(prepared: store.Prepared, windows: Float32) -> Float32:
    """Scores (windows, labels) of a logistic regression on the mean energy of each band, trained on composed training windows."""
    mixer = mixer_of(prepared, store.TRAIN, np.random.default_rng(7), Recipe(masks=0))
    drawn = [mixer.window() for _ in range(MIXTURES)]
    x = np.stack([one[0].mean(axis=1) for one in drawn])
    truth = np.stack([one[1] for one in drawn]) > 0
    return _logistic(x, truth, windows.mean(axis=2))


def level_and_bandwidth(prepared: store.Prepared, items: list[store.Item]) -> Float32:
    """Scores (windows, labels) of a forest on level, bandwidth and duration alone, trained on windows of the training clips."""
    from sklearn.ensemble import RandomForestClassifier

    train = prepared.of(store.TRAIN)
    x = np.concatenate([_gauges(prepared, item) for item in train])
    truth, _ = prepared.truth(train)
    forest = RandomForestClassifier(200, min_samples_leaf=2, random_state=0, class_weight="balanced_subsample")
    forest.fit(x, truth.argmax(axis=1))
    out = np.zeros((sum(len(_gauges(prepared, item)) for item in items), len(prepared.labels)), np.float32)
    out[:, forest.classes_] = forest.predict_proba(np.concatenate([_gauges(prepared, item) for item in items]))
    return out


def _logistic(x: Float32, truth: Bool, asked: Float32) -> Float32:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(x)
    x, asked = scaler.transform(x), scaler.transform(asked)
    out = np.zeros((len(asked), truth.shape[1]), np.float32)
    for column in np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0)):
        out[:, column] = LogisticRegression(C=0.1, max_iter=200).fit(x, truth[:, column]).predict_proba(asked)[:, 1]
    return out


def _gauges(prepared: store.Prepared, item: store.Item) -> Float32:
    """Level, loudest level, lower and upper edge and middle of the bandwidth, and seconds that sound, (windows, 6)."""
    decibels = prepared.decibels(item).astype(np.float32)
    spec, found = prepared.spec, []
    for n in range(store.count(decibels.shape[1], spec)):
        power = np.power(10.0, decibels[:, n * spec.frames : (n + 1) * spec.frames] / 10)
        loud, bands = power.sum(axis=0), power.mean(axis=1)
        inside = np.flatnonzero(bands > bands.max() * 10 ** (-EDGE_DB / 10))
        middle = float((bands * np.arange(len(bands))).sum() / bands.sum())
        active = float((loud > loud.max() / 100).mean() * loud.size)
        found.append([10 * np.log10(loud.mean()), 10 * np.log10(loud.max()), inside[0], inside[-1], middle, active])
    return np.array(found, np.float32)
