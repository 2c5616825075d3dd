"""The head on BirdNET's embeddings: what is served is what was learnt, and what BirdNET knew of voices stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from soundscape.errors import Invalid
from trainer.members.birdnet import FEATURES, MODEL, birdnet_folder, interpreter, run_direct
from trainer.members.embed import run
from trainer.members.graft import Head, embedder, head_of, with_head
from trainer.members.head import answer, fit
from trainer.releases.quantize import sigmoid

CHUNKS = (np.random.default_rng(0).standard_normal((2, *FEATURES.shape)) * 0.1).astype(np.float32)
"""Two windows of noise."""


@pytest.mark.weights
def test_a_grafted_head_answers_as_the_head_on_the_embedding(tmp_path: Path) -> None:
    body = (birdnet_folder() / MODEL).read_bytes()
    whole, rng = head_of(body), np.random.default_rng(1)
    own = Head(rng.standard_normal((5, whole.weight.shape[1])).astype(np.float32), rng.standard_normal(5).astype(np.float32))
    for name, made in (("embedding", embedder(body)), ("own", with_head(body, own)), ("same", with_head(body, whole))):
        (tmp_path / name).write_bytes(made)
    heard, served, same = (run(interpreter(tmp_path / name), CHUNKS) for name in ("embedding", "own", "same"))
    np.testing.assert_allclose(answer(own, heard), served.max(axis=1), atol=1e-3)
    np.testing.assert_allclose(sigmoid(same.reshape(4, -1)), run_direct(CHUNKS.reshape(4, -1)), atol=1e-6)
    assert (tmp_path / "own").stat().st_size < len(body) / 2, "BirdNET's own last layer is gone"
    with pytest.raises(Invalid, match="embedding has 1024"):
        with_head(body, Head(own.weight[:, :7], own.bias))


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(Invalid, match="no TFLite model"):
        head_of(b"this is no model")


def test_a_head_learns_what_is_known_and_no_more() -> None:
    """Three labels along three axes; of the third nothing is known, and the scale of an axis does not matter."""
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((300, 8)).astype(np.float32) * np.array([100, 1, 1, 1, 1, 1, 1, 0], np.float32)
    truth = np.stack([rows[:, 0] > 0, rows[:, 1] > 0.5, rows[:, 2] > 0], axis=1).astype(np.float32)
    weight = np.ones_like(truth)
    weight[:, 2] = 0.0
    head = fit(rows, truth, weight, 0.01)
    said = answer(head, rows[:, None]) > 0
    assert (said[:, :2] == (truth[:, :2] > 0)).mean() > 0.95
    assert not np.any(head.weight[2]), "a label of which nothing is known learns nothing"
