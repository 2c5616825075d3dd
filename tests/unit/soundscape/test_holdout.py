"""The fifth that is kept to judge by."""

from __future__ import annotations

import hashlib
from datetime import date, timedelta

from soundscape.holdout import held_out

DAY = date(2026, 3, 1)


def test_a_fifth_is_held_out_and_stays_so() -> None:
    """Within four standard deviations of 1 in 5 over 4,000 days of streams, and by the very hash that was agreed."""
    asked = [(f"REC-{n % 40}", DAY + timedelta(days=n // 40)) for n in range(4000)]
    found = [held_out(*one) for one in asked]
    assert abs(sum(found) - 800) < 4 * (4000 * 0.2 * 0.8) ** 0.5
    for (stream, day), held in zip(asked, found, strict=True):
        fraction = int(hashlib.sha256(f"{stream}/{day}".encode()).hexdigest(), 16) / 2**256
        assert held == (fraction < 1 / 5)


def test_stream_and_day_both_count() -> None:
    """Another day of the same stream, and another stream of the same day, may fall otherwise."""
    assert len({held_out("REC", DAY + timedelta(days=n)) for n in range(60)}) == 2
    assert len({held_out(f"REC-{n}", DAY) for n in range(60)}) == 2
