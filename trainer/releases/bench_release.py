"""The benchmark's release: an int8 EfficientNet-B0 of 206 classes (as BirdCLEF 2025) with random weights; it costs, it hears nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch

from soundscape.features import LOG_MEL
from soundscape.release import LoadedRelease, Member, Release, file_digest, write_release
from soundscape.taxonomy import Species
from trainer.members.models import build
from trainer.releases import quantize

NAME = "bench"
LABELS = 206
MODEL = "efficientnet_b0"
CREATED_AT = "2026-01-01T00:00:00+00:00"
"""Whenever it is made it is the same to the byte: a site that it was deployed to goes on."""


def add_bench(releases: Path) -> LoadedRelease:
    """Make the release, or the same again in its place."""
    folder, temporary = releases / NAME, releases / f".{NAME}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build(MODEL, LABELS)
    windows = np.random.default_rng(0).random((32, *LOG_MEL.shape), np.float32)
    fp32, int8 = temporary / "fp32.onnx", temporary / f"{MODEL}-int8.onnx"
    quantize.export(net, fp32, LOG_MEL, windows)
    quantize.quantize(fp32, int8, windows)
    fp32.unlink()
    labels = tuple(f"bench{n:03d}" for n in range(LABELS))
    member = Member(
        name=MODEL,
        file=int8.name,
        digest=file_digest(int8),
        precision="int8",
        feature_fingerprint=LOG_MEL.fingerprint,
        labels=labels,
        licence="none (random weights)",
    )
    release = Release(
        name=NAME,
        labels=tuple(Species(label=label, scientific=label, en=label, es=label, taxon="Other") for label in labels),
        features={LOG_MEL.fingerprint: LOG_MEL},
        members=(member,),
        threshold=1.0,
        created_at=CREATED_AT,
    )
    write_release(temporary, release)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    return write_release(folder, release)
