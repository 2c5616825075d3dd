"""Human speech in what training hears: found by the AudioSet tagger window by window, and left out above a limit.

Recordists announce their takes, and a classifier learns the voice instead of the bird. Each sound is listened to once: its scores are kept
by the sound's digest and the tagger's, so that another limit costs nothing and an interrupted run goes on. Without the tagger's weights
nothing is left out, and that is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from soundscape.audio import WINDOW_S
from soundscape.features import FeatureSpec
from soundscape.settings import get_settings
from trainer.children import in_children
from trainer.data import store
from trainer.data.notes import noted, noting
from trainer.evaluation.hear import sound_of
from trainer.members.body import Body, body_of
from trainer.members.embed import by_onnx, embedder_file
from trainer.members.models import TAGGER_HEAD
from trainer.progress import Counted

EVENT = "speech"
"""The tagger's sound event (trainer/members/tagger.py)."""
MIN_LEFT_S = 1.0
"""A sound of which less is left teaches nothing."""


@dataclass(frozen=True)
class Speech:
    """What was found, and by what limit."""

    by: str
    """Digest of the tagger's weights."""
    limit: float
    sounds: int = 0
    """Sounds of training with speech in them."""
    windows: int = 0
    """Their windows that are left out."""
    of: int = 0
    """Windows that were listened to."""
    whole: tuple[str, ...] = ()
    """Sounds that are nothing but speech, or nearly: left out whole."""


def tagger_for_speech() -> tuple[Body, float] | None:
    """The tagger and the limit, by the settings; None where there are no weights, or the limit is 1 and leaves out nothing.

    Raises Invalid if the setting names weights that are not there.
    """
    settings = get_settings()
    if settings.tagger is None or settings.training_speech_limit >= 1.0:
        return None
    return body_of(TAGGER_HEAD), settings.training_speech_limit


def without_speech(
    source: Path, folder: Path, items: list[store.Item], body: Body, limit: float, progress: Counted, children: int | None
) -> tuple[list[store.Item], Speech]:
    """The items, those of training with the windows named in which somebody speaks; those that are nothing but speech are not among them.

    `source` is the data folder, `folder` the prepared one. What judges stays as it is: it is heard as it will be served.

    Raises Invalid if a sound has changed so that it does not decode.
    """
    taught = [item for item in items if item.role in (store.TRAIN, store.BED)]
    scores = _listen(source, folder, {item.digest: item.name for item in taught}, body, progress, children)
    out, whole, sounds, windows = [], [], 0, 0
    for item in items:
        heard = scores[item.digest] if item.role in (store.TRAIN, store.BED) else []
        voices = tuple(n for n, score in enumerate(heard) if score >= limit)
        sounds += bool(voices)
        windows += len(voices)
        if voices and item.seconds - sum(min(WINDOW_S, item.seconds - n * WINDOW_S) for n in voices) < MIN_LEFT_S:
            whole.append(item.name)
        else:
            out.append(replace(item, voices=voices))
    return out, Speech(body.digest, limit, sounds, windows, sum(len(scores[item.digest]) for item in taught), tuple(whole))


def hear_speech(path: Path, model: Path, spec: FeatureSpec, column: int) -> list[float]:
    """Score of speech in each window of a file's first minute, by the tagger's ONNX file; what a child does.

    It is the tagger's probability, or 0 where another of its events is likelier: barks sound like speech to it, and more like an animal.
    """
    logits = by_onnx(model, "events")(spec.compute(sound_of(path)))
    own = np.where(logits[:, column] >= logits.max(axis=1), 1.0 / (1.0 + np.exp(-np.clip(logits[:, column], -30.0, 30.0))), 0.0)
    return [round(float(one), 4) for one in own]


def _listen(
    source: Path, folder: Path, wanted: Mapping[str, str], body: Body, progress: Counted, children: int | None
) -> dict[str, list[float]]:
    """Scores by digest, for files by digest; those of an earlier run from its notes."""
    notes = folder / "raw" / f"speech-{body.digest}.jsonl"
    done: dict[str, list[float]] = {one["sound"]: one["speech"] for one in noted(notes) if one["sound"] in wanted}
    todo = [digest for digest in wanted if digest not in done]
    progress(len(done), len(wanted))
    if not todo:
        return done
    model, column = embedder_file(folder, body), body.events.index(EVENT)
    before = len(done)

    def take(digest: str, scores: list[float]) -> None:
        done[digest] = scores
        note({"sound": digest, "speech": scores})

    with noting(notes) as note:
        work = {digest: partial(hear_speech, source / wanted[digest], model, body.spec, column) for digest in todo}
        in_children(work, take, progress=lambda n, _of: progress(before + n, len(wanted)), children=children)
    return done
