"""`soundscape simulate`: recorders and tours that publish as real ones would, at any rate, with their truth written beside."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.options import NAME
from soundscape.settings import Settings, get_settings

if TYPE_CHECKING:
    from producers.recordings import Recording, Take
    from producers.sinks import Sent, Sink

TICK_S = 1.0
"""Between two lines of progress, and two looks at a full lane."""


class Rate(click.ParamType):
    """How fast: a number of times real time, or `max`."""

    name = "n|max"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; infinite for `max`."""
        if value == "max":
            return math.inf
        try:
            rate = float(value)
        except ValueError:
            rate = 0.0
        if not 0 < rate < math.inf:
            self.fail(f"{value!r} is no rate; give a number above 0 (1 is real time), or max.", param, ctx)
        return rate


@click.command()
@click.option("--site", type=NAME, help="Site that the recordings name; the setting's site unless given.")
@click.option("--recorders", type=click.IntRange(0), help="Recorders, each a stream [default: 2; 0 with --tours].")
@click.option("--minutes", type=click.IntRange(1), help="Minutes of each recorder [default: 5; all soundscapes with --data].")
@click.option("--tours", type=click.IntRange(0), default=0, show_default=True, help="Tours, each a stream of 5-second clips.")
@click.option("--clips", type=click.IntRange(1), default=12, show_default=True, help="Clips of each tour.")
@click.option("--rate", type=Rate(), default="1", show_default=True, help="Times real time, or max: as fast as acknowledged.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of the synthetic forest: same seed, same sound.")
@click.option("--start", type=click.DateTime(), help="When the recordings begin, local time [default: now].")
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder whose train_soundscapes/ are played.")
@click.option("--only", default="*", show_default=True, help="Glob of the soundscapes that are played.")
@click.option("--labelled", is_flag=True, help="Play only soundscapes that soundscape_labels.csv knows.")
@click.option("--overlay", "snr_db", type=float, metavar="DB", help="Lay labelled calls of --data over the minutes, at this SNR in dB.")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Write RECORDER_YYYYMMDD_HHMMSS.ogg there instead.")
@click.option("--truth", type=click.Path(file_okay=False, path_type=Path), help="Write the truth there: labels, events, clip ids.")
def simulate(
    site: str | None,
    recorders: int | None,
    minutes: int | None,
    tours: int,
    clips: int,
    rate: float,
    seed: int,
    start: datetime | None,
    data: Path | None,
    only: str,
    labelled: bool,
    snr_db: float | None,
    folder: Path | None,
    truth: Path | None,
) -> None:
    """Record: minutes to `recordings`, tours' clips to `clips`, from the synthetic forest or from DATA's soundscapes."""
    from producers.sinks import Broker, Folder, write_truth
    from producers.takes import Plan, folder_takes, forest_takes, overlay_of, soundscapes_of, truth_of
    from producers.watcher import COLOMBIA

    settings = get_settings()
    site = site or settings.site
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if data is None and (only != "*" or labelled or snr_db is not None):
        raise Invalid(Reason.BAD_REQUEST, "--only, --labelled and --overlay choose among the recordings of --data; give that too.")
    began = (start or datetime.now(COLOMBIA).replace(microsecond=0)).replace(tzinfo=COLOMBIA)
    if recorders is None:
        recorders = 0 if tours else 2 if data is None else 1
    overlay = overlay_of(data, snr_db) if data is not None and snr_db is not None else None
    plan = Plan(began, recorders, minutes or (5 if data is None else sys.maxsize), tours, clips, seed, overlay)
    takes = forest_takes(plan) if data is None else folder_takes(plan, soundscapes_of(data, only, labelled), *truth_of(data))
    if not takes:
        raise Invalid(Reason.BAD_REQUEST, "Nothing is to be recorded; give --recorders or --tours.")
    if truth is not None:
        truth.mkdir(parents=True, exist_ok=True)  # before anything is sent whose truth could not be kept
    sink: Sink = Folder(folder, site) if folder else Broker(settings, site)
    progress = Progress(takes)
    try:
        with closing(sink):
            try:
                _play(takes, rate, sink, progress, None if folder else settings)
            except KeyboardInterrupt:  # what was sent is on its way, and its truth is to be written
                sink.finish()
                raise
            sink.finish()
    finally:
        if truth is not None and sink.sent:
            write_truth(truth, sink.sent)
    progress.show(len(sink.sent), last=True)
    where = f"written to {folder}" if folder else f"acknowledged by the broker, for site {site}"
    click.echo(f"{_counted(sink.sent)} {where} in {progress.elapsed:.1f} s.")


def _counted(sent: Sequence[Sent]) -> str:
    """How many of what, of how many."""
    kinds = []
    for tour, what, of in ((False, "minutes", "recorders"), (True, "clips", "tours")):
        mine = [one.recording for one in sent if one.recording.tour is tour]
        if mine:
            kinds.append(f"{len(mine)} {what} of {len({one.stream for one in mine})} {of}")
    return " and ".join(kinds)


def _play(takes: Sequence[Take], rate: float, sink: Sink, progress: Progress, settings: Settings | None) -> None:
    """Put every recording into the sink when it is due: a recording is sent when it has ended."""
    from producers.disk import lack_of_room
    from producers.lane import Lane

    lane = Lane(settings) if settings and not all(take.clips for take in takes) else None
    try:
        for recording in by_due(made(takes), takes):
            while progress.elapsed < recording.due_s / rate:
                time.sleep(min(0.2, recording.due_s / rate - progress.elapsed + 1e-3))
                sink.settle()
                progress.show(len(sink.sent))
            if settings and (why := lack_of_room(settings)):
                raise Unavailable(f"{why} {len(sink.sent)} recordings had arrived before.")
            while lane is not None and not recording.tour and not lane.has_room():
                progress.show(len(sink.sent), "the lane's backlog is full, waiting for the workers")
                time.sleep(TICK_S)
            sink.put(recording)
            if lane is not None and not recording.tour:
                lane.sent()
            progress.show(len(sink.sent))
    finally:
        if lane is not None:
            lane.close()


def by_due(recordings: Iterator[list[Recording]], takes: Sequence[Take]) -> Iterator[Recording]:
    """The recordings in the order in which they end: a tour's clips are made together, and sent among the others'."""
    waiting: list[Recording] = []
    for found, following in zip(recordings, [*takes[1:], None], strict=True):
        waiting = sorted([*waiting, *found], key=lambda one: one.due_s)
        # What a later take brings ends after that take has begun.
        ready = len(waiting) if following is None else sum(one.due_s <= following.due_s for one in waiting)
        yield from waiting[:ready]
        waiting = waiting[ready:]


def made(takes: Sequence[Take]) -> Iterator[list[Recording]]:
    """The sounds of the takes, in their order: made ahead in as many processes as there are cores where they must be computed."""
    from producers.recordings import render

    if all(take.file is not None and take.overlay is None for take in takes):
        yield from map(render, takes)
        return
    cores = min(len(os.sched_getaffinity(0)), len(takes))
    # Spawned, not forked: this process has threads of the broker's client.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(cores, mp_context=context, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))
    try:
        ahead: deque[Future[list[Recording]]] = deque()
        for take in takes:
            ahead.append(pool.submit(render, take))
            if len(ahead) > cores * 2:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Progress:
    """One line a second on stderr: how much has arrived of how much, and how fast."""

    def __init__(self, takes: Sequence[Take], clock: Callable[[], float] = time.monotonic) -> None:
        self._total = sum(take.clips or 1 for take in takes)
        self._clock, self._began, self._shown = clock, clock(), -math.inf
        self._terminal = sys.stderr.isatty()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._began

    def show(self, arrived: int, why: str = "", *, last: bool = False) -> None:
        """Say how far it is, unless it was said less than a second ago."""
        now = self.elapsed
        if not last and now < self._shown + TICK_S:
            return
        self._shown = now
        line = f"{arrived} of {self._total} recordings arrived, {now:.0f} s{f'; {why}' if why else ''}"
        if self._terminal:
            click.echo(f"\r\x1b[2K{line}", err=True, nl=last)
        else:
            click.echo(line, err=True)
