"""Which answer of a watched file stands, and its CSV: pure but for the release's labels."""

from __future__ import annotations

import csv
import io
import logging
from datetime import datetime
from functools import lru_cache
from pathlib import Path, PurePath
from typing import NamedTuple

from soundscape.audio import WINDOW_S
from soundscape.errors import Invalid
from soundscape.events import ClipAnalysed, ClipDied
from soundscape.release import load_release
from soundscape.wire import ORIGINAL, PREFIX

log = logging.getLogger(__name__)

PUBLISHED = ORIGINAL + PREFIX + "publishedat"
"""Header of a dead letter: when the record that died was published."""


class Said(NamedTuple):
    """What is known of a file's answer."""

    clip_id: str
    predicted: bool
    """False: refused."""
    published: float
    """When the clip was published, in seconds since 1970: a later file of the same name has a later one."""


def said_by(event: ClipAnalysed | ClipDied, headers: dict[str, str]) -> Said:
    """The answer that an event is; `headers` are its record's, as text."""
    if isinstance(event, ClipAnalysed):
        return Said(str(event.clip_id), True, event.stages.published.timestamp())
    return Said(event.clip_id, False, _moment(headers.get(PUBLISHED)) or event.died_at.timestamp())


def replaces(new: Said, old: Said | None) -> bool:
    """Whether a new answer takes the place of the old one, whatever order the topics are read in.

    Of one clip a prediction stands above a refusal; of two clips (the file was changed) the later published one stands.
    """
    if old is None:
        return True
    if new.clip_id == old.clip_id:
        return new.predicted >= old.predicted
    return new.published >= old.published


def rows(event: ClipAnalysed, releases: Path) -> bytes:
    """The CSV of a prediction: `row_id` = STEM_ENDSECOND for every window, then a column a species, probabilities.

    All labels of the release: those of the event where it lists all, else read from the release's folder in `releases`; a score
    that the event leaves out, being below its floor, is 0.
    """
    labels = _labels(event, releases)
    column = {label: n for n, label in enumerate(labels)}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["row_id", *labels])
    stem = PurePath(event.file_name or "").stem
    for window in event.windows:
        scores = ["0"] * len(labels)
        for label, score in zip(event.labels, window.scores, strict=True):
            scores[column[label]] = f"{score:.6g}"
        writer.writerow([f"{stem}_{round(window.start_s + WINDOW_S)}", *scores])
    return out.getvalue().encode()


def _labels(event: ClipAnalysed, releases: Path) -> tuple[str, ...]:
    if event.score_floor == 0.0:
        return event.labels
    try:
        labels = _released(releases / event.release, event.release_digest)
    except Invalid as error:
        log.warning("The file of clip %s names only the labels of its prediction: %s", event.clip_id, error)
        return event.labels
    return labels if set(event.labels) <= set(labels) else event.labels


@lru_cache(maxsize=16)
def _released(folder: Path, digest: str) -> tuple[str, ...]:
    return load_release(folder, digest).label_names


def _moment(text: str | None) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None
