"""What a labeler gets next: pure, from the samples, the standing labels and the leases; there is no other queue than this."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from consumers.labeler.shelf import Sample, Span
from soundscape.events import ClipLabelled
from soundscape.judgements import opinions, settled_by

RANDOM_SHARE = 0.3
"""Of what each labeler gets: enough for an honest estimate of quality every week, while most of the time goes where labels teach most.
It is fixed by count, so a flood of flags cannot push it aside."""
SECOND_SHARE = 0.2
"""Of the samples that get a second, blind review: after some hundred windows agreement is known, for a fifth more work."""
LEASE_S = 600.0
"""Seconds for which a sample is one labeler's alone: longer than anybody listens to a minute, and a closed browser blocks it no longer."""
REASONS = ("flagged", "disagreement", "rare", "uncertain")
"""Reasons of value, in the order in which they take turns."""


@dataclass(frozen=True)
class Task:
    """What is asked of a labeler: some windows of a sample."""

    sample: Sample
    review: int
    """The highest of its windows."""
    windows: tuple[Span, ...]

    @property
    def whole(self) -> bool:
        """Whether the model's answer stays hidden until every window is answered: where the labels are to measure something."""
        return self.review > 1 or self.sample.stratum == "random"


class Leases:
    """Who works on which sample now. In memory: after a restart two may get one sample, and the second hears that it is settled."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: dict[str, tuple[str, float]] = {}

    def take(self, clip_id: str, labeler: str) -> float:
        """Give the sample to a labeler, and back what they held before; returns the seconds for which it is theirs."""
        self.release(labeler)
        self._held[clip_id] = (labeler, self._clock() + LEASE_S)
        return LEASE_S

    def holder(self, clip_id: str) -> str | None:
        """Who holds the sample."""
        labeler, until = self._held.get(clip_id, (None, 0.0))
        return labeler if self._clock() < until else None

    def release(self, labeler: str) -> None:
        """They hold nothing any more; leases that have run out are forgotten."""
        now = self._clock()
        self._held = {clip: held for clip, held in self._held.items() if held[0] != labeler and held[1] > now}


def wants_second(clip_id: str) -> bool:
    """Whether a sample gets a second review: by a hash of its clip id that has nothing to do with the hash order."""
    digest = hashlib.sha256(b"second review\n" + clip_id.encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64 < SECOND_SHARE


def review_of(said: list[ClipLabelled], clip_id: str) -> int:
    """The review that a window with these labels waits for: 1, 2 or 3; 0 where it is settled."""
    if len(said) == 1 and settled_by(said) is not None:
        return 2 if said[0].verdict != "speech" and wants_second(clip_id) else 0
    return min(3, len(said) + 1) if settled_by(said) is None else 0


def task_for(sample: Sample, labels: Iterable[ClipLabelled], labeler: str) -> Task | None:
    """What this labeler may be asked about the sample: windows that wait for a review and that they have not judged. None: nothing."""
    said = {start: given for (_, start), given in opinions(labels).items()}
    open_windows = {}
    for window in sample.windows:
        given = said.get(window[0], [])
        if all(one.by != labeler for one in given) and (review := review_of(given, sample.clip_id)):
            open_windows[window] = review
    return Task(sample, max(open_windows.values()), tuple(open_windows)) if open_windows else None


@dataclass(frozen=True)
class Done:
    """How many samples a labeler has worked on, by stratum: the numbers that say whose turn is next."""

    random: int
    value: int


def done_by(labeler: str, samples: Iterable[tuple[Sample, list[ClipLabelled]]]) -> Done:
    """The samples that they have judged at least in part."""
    strata = [sample.stratum for sample, labels in samples if any(one.by == labeler for one in labels)]
    return Done(random=strata.count("random"), value=strata.count("value"))


def is_random_turn(done: Done) -> bool:
    """Whether the next sample is of the random stratum: three in each ten, evenly spread, whatever came before."""
    turn = done.random + done.value
    return int((turn + 1) * RANDOM_SHARE + 1e-9) > int(turn * RANDOM_SHARE + 1e-9)


def next_task(
    shelf: Iterable[tuple[Sample, list[ClipLabelled]]], labeler: str, holder: Callable[[str], str | None]
) -> Task | None:
    """The next task of a labeler, over all samples of their site with their labels: what they hold already, else by turns.

    The random stratum goes in hash order and in no other, so that what is labelled of it is at any time a random sample.
    """
    shelf = list(shelf)
    tasks = [task for sample, labels in shelf if (task := task_for(sample, labels, labeler))]
    free = []
    for task in tasks:
        who = holder(task.sample.clip_id)
        if who == labeler:
            return task
        if who is None:
            free.append(task)
    done = done_by(labeler, shelf)
    random = min((task for task in free if task.sample.stratum == "random"), key=lambda task: task.sample.rank, default=None)
    value = _most_valuable([task for task in free if task.sample.stratum == "value"], done.value)
    return (random or value) if is_random_turn(done) else (value or random)


def _most_valuable(tasks: list[Task], turn: int) -> Task | None:
    """The best task of the reason whose turn it is, or of the next one that has any."""
    by_reason: dict[str, list[Task]] = {reason: [] for reason in REASONS}
    for task in tasks:
        by_reason.setdefault(task.sample.reasons[0], []).append(task)
    order = list(by_reason)
    for n in range(len(order)):
        if found := by_reason[order[(turn + n) % len(order)]]:
            return max(found, key=_value)
    return None


def _value(task: Task) -> tuple[int, int, float]:
    """A disagreement to decide first, then what several reasons speak for, then what is fresh in a guide's memory."""
    return task.review if task.review == 3 else 0, len(task.sample.reasons), task.sample.sampled_at.timestamp()


Stage = Literal["waiting", "second", "third", "settled"]


def stage_of(sample: Sample, labels: list[ClipLabelled]) -> Stage:
    """How far a sample is, by its window that is least far."""
    said = {start: given for (_, start), given in opinions(labels).items()}
    reviews = [review_of(said.get(start, []), sample.clip_id) for start, _ in sample.windows]
    if 1 in reviews:
        return "waiting"
    return "third" if 3 in reviews else "second" if 2 in reviews else "settled"
