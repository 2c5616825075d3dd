"""The deployment states as they are read: the latest of each site, and what does not decode is passed over."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from soundscape import deployments
from soundscape.events import ReleaseRef, SiteDeployed
from soundscape.settings import get_settings
from soundscape.wire import Message, encode

FROM_LATER = Message(b"", b"{}", [("ce_type", b"org.elsilencio.something.v9")])
"""A record that this version does not know."""


def test_the_latest_state_of_each_site(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [
        SiteDeployed(site=site, generation=n, champion=ReleaseRef(name=f"r{n}", digest="d"), reason="", actor="ana", at=datetime.now(UTC))
        for site, n in (("here", 1), ("there", 1), ("here", 2))
    ]
    records = [
        SimpleNamespace(
            value=message and message.value, headers=message.headers if message else [], topic="deployments", partition=0, offset=n
        )
        for n, message in enumerate([*map(encode, states), FROM_LATER, None])
    ]
    monkeypatch.setattr(deployments, "new_consumer", lambda _: MagicMock())
    monkeypatch.setattr(deployments, "read_all", lambda *_: iter(records))
    assert deployments.read_states(get_settings()) == {"here": states[2], "there": states[1]}
