"""Releases in memory, with members that know different labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soundscape.features import LOG_MEL, FeatureSpec
from soundscape.release import LoadedRelease, Member, Release
from soundscape.taxonomy import Species

Make = Callable[..., LoadedRelease]


@pytest.fixture
def release_of(tmp_path: Path) -> Make:
    """Makes a release of members given as name -> (labels, weight, spec)."""

    def make(
        members: dict[str, tuple[list[str], float, FeatureSpec]] | None = None,
        *,
        name: str = "r1",
        prior: np.ndarray | None = None,
        thresholds: dict[str, float] | None = None,
        **more: Any,
    ) -> LoadedRelease:
        given = members or {"one": (["a", "b"], 1.0, LOG_MEL)}
        labels = sorted({label for known, _, _ in given.values() for label in known})
        if prior is not None:
            np.save(tmp_path / "prior.npy", prior)
        release = Release(
            name=name,
            labels=tuple(Species(label=one, scientific=f"S {one}", en=f"E {one}", es=f"Ñ {one}", taxon="Aves") for one in labels),
            features={spec.fingerprint: spec for _, _, spec in given.values()},
            members=tuple(
                Member(
                    name=member,
                    file="model.onnx",
                    digest=f"{n:064x}",
                    feature_fingerprint=spec.fingerprint,
                    labels=tuple(known),
                    weight=weight,
                    licence="CC0",
                )
                for n, (member, (known, weight, spec)) in enumerate(given.items(), start=1)
            ),
            thresholds=thresholds or {},
            prior_file="prior.npy" if prior is not None else None,
            created_at="2026-11-24T00:00:00+00:00",
            **more,
        )
        release.verify()
        return LoadedRelease(tmp_path, release, f"{ord(name[-1]):064x}")

    return make
