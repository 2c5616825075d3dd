"""A reader that waits, and what it says of itself meanwhile."""

from __future__ import annotations

import pytest

from consumers.follow import SILENCE_S, Pulse, persist
from soundscape.errors import Broken, Unavailable


def test_what_is_away_is_waited_for_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pulse, told, waits = Pulse(), [], list[float]()
    monkeypatch.setattr("consumers.follow.time.sleep", waits.append)
    away = iter([Unavailable("The broker is away."), Unavailable("Redis is away."), Broken("This is the end.")])

    def run() -> None:
        told.append(pulse()["why"])
        raise next(away)

    with pytest.raises(Broken):
        persist(run, pulse)
    assert len(waits) == 2
    assert [why.partition(".")[0] for why in told[1:]] == ["The broker is away", "Redis is away"]


def test_healthy_only_while_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("consumers.follow.time.monotonic", lambda: clock[0])
    pulse = Pulse()
    assert not pulse()["healthy"]
    pulse.beat({"clips": 3})
    assert pulse() == {"healthy": True, "why": "", "lag": {"clips": 3}}
    clock[0] += SILENCE_S + 1
    assert not pulse()["healthy"]
    assert pulse()["why"]
