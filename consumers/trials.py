"""The trials of all sites that have a candidate: fed from the log since the candidate came, also after a restart."""

from __future__ import annotations

import logging
from typing import Any

from kafka import TopicPartition

from consumers.follow import read
from consumers.trial import Trial
from soundscape.errors import Invalid
from soundscape.events import ClipAnalysed, FeedbackGiven, SiteDeployed
from soundscape.kafka import broker_errors, new_consumer
from soundscape.release import named_release
from soundscape.settings import Settings
from soundscape.topics import FEEDBACK, PREDICTIONS, SHADOW_PREDICTIONS
from soundscape.wire import texts

log = logging.getLogger(__name__)

PROCESS = "deployer"
TOPICS = (PREDICTIONS, SHADOW_PREDICTIONS, FEEDBACK)
BATCHES = 20
"""Polls in one look: what is left is taken at the next, so that a backlog does not keep the deployer from its other work."""


class Trials:
    """Trials by site. Its users take turns (consumers.earning)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: Any = None
        self.by_site: dict[str, Trial] = {}

    def follow(self, states: dict[str, SiteDeployed]) -> None:
        """Bring the trials to the states, and take in what was said since the last look. Raises Unavailable."""
        on_trial = {site: state for site, state in states.items() if state.candidate is not None}
        began = self._renew(on_trial)
        if not on_trial:
            self._close()
            return
        with broker_errors():
            if self._consumer is None or began:
                self._seek(min(int(state.since.timestamp() * 1000) if state.since else 0 for state in on_trial.values()))
            for _ in range(BATCHES):
                batch = self._consumer.poll(0)
                if not batch:
                    return
                for record in (record for records in batch.values() for record in records):
                    self._take(record)

    def _renew(self, on_trial: dict[str, SiteDeployed]) -> bool:
        """Whether a trial began that has to be read from its beginning."""
        began = False
        for site in self.by_site.keys() - on_trial.keys():
            del self.by_site[site]
        for site, state in on_trial.items():
            known = self.by_site.get(site)
            if known is not None and known.state.candidate == state.candidate and known.state.since == state.since:
                known.state = state  # another share or stage of the same trial
            else:
                self.by_site[site] = Trial(state, self._shared(state))
                began = True
        return began

    def _shared(self, state: SiteDeployed) -> frozenset[str]:
        """The labels that both releases know; none where one cannot be read (its own process says why)."""
        known = []
        for ref in (state.champion, state.candidate):
            assert ref is not None
            try:
                known.append(set(named_release(self._settings.releases, ref.name, ref.digest).label_names))
            except Invalid as error:
                log.error("site %s: %s", state.site, error)
                return frozenset()
        return frozenset(known[0] & known[1])

    def _seek(self, since_ms: int) -> None:
        if self._consumer is None:
            self._consumer = new_consumer(self._settings)
            self._consumer.assign([TopicPartition(topic.name, n) for topic in TOPICS for n in range(topic.partitions)])
        parts = self._consumer.assignment()
        for part, found in self._consumer.offsets_for_times(dict.fromkeys(parts, since_ms)).items():
            if found is None:
                self._consumer.seek_to_end(part)
                self._consumer.position(part)
            else:
                self._consumer.seek(part, found.offset)

    def _take(self, record: Any) -> None:
        if record.topic == FEEDBACK.name:
            verdict = read(PROCESS, FeedbackGiven, record)
            if verdict is not None and (trial := self.by_site.get(verdict.site)):
                trial.judged(verdict)
        elif (trial := self.by_site.get(texts(record.headers).get("ce_site", ""))) is not None:
            answer = read(PROCESS, ClipAnalysed, record)
            if answer is not None:
                trial.answered(answer)

    def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()
