"""Each part of the recipe is switched off alone, and what it brings is told beside its interval."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.data import store
from trainer.data.prepare import prepare
from trainer.releases.package import rows_of
from trainer.testing import write_folder
from trainer.training import ablate
from trainer.training.ablate import PSEUDO, SWITCHES, plans
from trainer.training.mixing import Recipe
from trainer.training.plan import Plan


def test_every_part_is_switched_off_alone() -> None:
    """A network has all of them; a head on sound those that compose sound, and pseudo-labels only where a release gives some."""
    whole = Plan(model="small", minutes=1.0)
    found = plans(whole, "abc", network=True)
    assert len(found) == len(SWITCHES) + 2
    for part, plan in found.items():
        changed = [one.name for one in fields(Recipe) if getattr(plan.recipe, one.name) != getattr(whole.recipe, one.name)]
        changed += ["smoothing"] * (plan.smoothing != whole.smoothing)
        assert len(changed) == (3 if "pitch" in part else 1), part
    heads = plans(Plan(model="tagger_head", minutes=0.0), "", network=False)
    assert set(heads) == {one.name for one in SWITCHES if not one.network}


def test_what_helps_and_what_hurts_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "data", clips=6, seconds=3.0, minutes=3)
    prepared = prepare(folder, tmp_path / "datasets", lambda _: None, children=0)[0]
    _, truth, _, kept = rows_of(prepared, prepared.of(store.JUDGE))
    good = np.zeros((kept.max() + 1, truth.shape[1]), np.float32)
    good[kept] = truth
    answers: dict[Any, Any] = {"good": good, "bad": 1.0 - good}
    monkeypatch.setattr(ablate, "_answers", lambda _, release: answers[release])
    helps, = ablate.rows(prepared, "good", {"mixup": "bad"})  # type: ignore[arg-type,dict-item]
    assert helps.difference is not None and helps.difference.low > 0 and helps.auc == 0.0
    brings, = ablate.rows(prepared, "bad", {PSEUDO: "good"})  # type: ignore[arg-type,dict-item]
    assert brings.difference is not None and brings.difference.low > 0 and brings.mean_ap == 1.0
