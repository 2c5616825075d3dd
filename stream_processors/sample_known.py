"""What the sampler knows: which clips lie on `samples` already, the day's quotas that follow from that, and what is rarely heard."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from soundscape.events import ClipSampled
from soundscape.sampling import MARGIN, Reason, Wanted

FEW = 5
"""A species with fewer answers than this in RARE_DAYS is rare."""
RARE_DAYS = timedelta(days=30)
ENOUGH = 100
"""Answers of a site before anything is called rare there: the count is this process's own and begins anew when it is started."""


@dataclass(frozen=True)
class Sampled:
    """A clip's sample as it lies on the log."""

    site: str
    reasons: tuple[str, ...]
    start_s: float
    end_s: float | None
    probability: float
    sampled_at: datetime
    """When it was first sampled, whatever reasons came later: what was drawn by chance counts on that day."""

    @property
    def day(self) -> date:
        """Of `sampled_at`, in UTC."""
        return self.sampled_at.date()

    @classmethod
    def of(cls, event: ClipSampled) -> Sampled:
        """The sample of an event."""
        reasons = tuple((event.reasons or event.reason).split(","))
        return cls(event.site, reasons, event.start_s, event.end_s, event.probability, event.sampled_at)


class Samples:
    """The latest sample of each clip, and from it alone how much of a day's quota is used."""

    def __init__(self, quota: int) -> None:
        self._quota = quota
        self._of: dict[str, Sampled] = {}
        self._used: Counter[tuple[date, str, str]] = Counter()

    def get(self, clip_id: str) -> Sampled | None:
        """The clip's sample, if it has one."""
        return self._of.get(clip_id)

    def put(self, clip_id: str, sampled: Sampled | None) -> None:
        """Its latest sample now; None after a tombstone."""
        if (before := self._of.pop(clip_id, None)) is not None:
            self._used.subtract((before.day, before.site, reason) for reason in before.reasons)
        if sampled is not None:
            self._of[clip_id] = sampled
            self._used.update((sampled.day, sampled.site, reason) for reason in sampled.reasons)

    def used(self, site: str, reason: Reason, day: date) -> int:
        """Samples of the day for this reason; one that was said again for another reason counts on its later day."""
        return self._used[day, site, reason]

    def room(self, site: str, want: Wanted, day: date) -> bool:
        """Whether the day's quota has room for it. Random samples have none to fill.

        What comes nearest its threshold cannot be known before the day is over, so the margin shrinks with the room that is left: the
        fuller the quota, the nearer a score must lie.
        """
        if want.reason == "random":
            return True
        used = self.used(site, want.reason, day)
        return used < self._quota and want.margin < MARGIN * (1 - used / self._quota)

    def __len__(self) -> int:
        return len(self._of)


class Heard:
    """How often each species was named, by this process, in the last RARE_DAYS; only the last FEW days on which it was are kept."""

    def __init__(self) -> None:
        self._days: dict[tuple[str, str], deque[date]] = defaultdict(lambda: deque(maxlen=FEW))
        self._answers: Counter[str] = Counter()

    def rare(self, site: str, label: str, day: date) -> bool:
        """Whether the species is rarely heard at the site. Nothing is before ENOUGH answers."""
        days = self._days.get((site, label), ())
        return self._answers[site] >= ENOUGH and sum(day - one <= RARE_DAYS for one in days) < FEW

    def note(self, site: str, labels: Iterable[str], day: date) -> None:
        """Count an answer that named these species."""
        self._answers[site] += 1
        for label in set(labels):
            self._days[site, label].append(day)
