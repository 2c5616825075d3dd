"""The clips that nobody may hear again because a labeler heard a person in them: sampling, replay and explain obey it."""

from __future__ import annotations

import logging

from soundscape.errors import Invalid
from soundscape.events import ClipLabelled
from soundscape.kafka import new_consumer, read_all
from soundscape.logs import passed_over
from soundscape.metrics import UNREADABLE
from soundscape.settings import Settings
from soundscape.topics import LABELS
from soundscape.wire import decode

log = logging.getLogger(__name__)


class DenyList:
    """Clips with a standing label of verdict `speech`. Apply labels in the order of the log; one applied twice changes nothing."""

    def __init__(self) -> None:
        self._clip_of: dict[str, str] = {}
        """Label id -> the clip that it denies."""
        self._denied: dict[str, set[str]] = {}
        """Clip -> the labels that deny it."""

    def apply(self, event: ClipLabelled) -> None:
        """Take in a label, its change or its withdrawal."""
        if (before := self._clip_of.pop(event.label_id, None)) is not None:
            self._denied[before].discard(event.label_id)
            if not self._denied[before]:
                del self._denied[before]
        if event.verdict == "speech":
            clip = str(event.clip_id)
            self._clip_of[event.label_id] = clip
            self._denied.setdefault(clip, set()).add(event.label_id)

    def __contains__(self, clip_id: object) -> bool:
        """Whether the clip, by its id as UUID or text, is denied."""
        return str(clip_id) in self._denied

    def __len__(self) -> int:
        """How many clips are denied."""
        return len(self._denied)

    def clips(self) -> frozenset[str]:
        """The ids of all of them."""
        return frozenset(self._denied)


def read_denied(settings: Settings, process: str = "command") -> DenyList:
    """The deny list as `labels` has it now. A record that does not decode is counted for `process`. Raises Unavailable."""
    consumer, denied = new_consumer(settings), DenyList()
    try:
        for record in read_all(consumer, [LABELS.name]):
            try:
                denied.apply(decode(ClipLabelled, record.headers, record.value))
            except Invalid as error:
                UNREADABLE.labels(process, LABELS.name).inc()
                passed_over(log, record, error)
    finally:
        consumer.close()
    return denied
