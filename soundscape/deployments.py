"""The deployment states, read from their topic: what each site's release is now."""

from __future__ import annotations

import logging

from soundscape.errors import Invalid
from soundscape.events import SiteDeployed
from soundscape.kafka import new_consumer, read_all
from soundscape.logs import passed_over
from soundscape.metrics import UNREADABLE
from soundscape.settings import Settings
from soundscape.topics import DEPLOYMENTS
from soundscape.wire import decode

log = logging.getLogger(__name__)


def read_states(settings: Settings, process: str = "command") -> dict[str, SiteDeployed]:
    """The state in force by site, as far as the records decode; what does not (of a later version, say) is counted for `process`.

    Raises Unavailable without a broker.
    """
    consumer = new_consumer(settings)
    states: dict[str, SiteDeployed] = {}
    try:
        for record in read_all(consumer, [DEPLOYMENTS.name]):
            if record.value is None:
                continue
            try:
                state = decode(SiteDeployed, record.headers, record.value)
            except Invalid as error:
                UNREADABLE.labels(process, DEPLOYMENTS.name).inc()
                passed_over(log, record, error)
                continue
            states[state.site] = state
    finally:
        consumer.close()
    return states
