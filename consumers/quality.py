"""`soundscape quality`: how right the answers are, from the random sample that labelers completed; also a process with it as metrics."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click

from consumers.follow import Pulse, persist, read
from consumers.quality_rules import (
    Drift,
    Heard,
    Quality,
    Rate,
    Sample,
    completed_prefix,
    drift_of_mix,
    drift_of_scores,
    judge,
    named_scores,
)
from consumers.quality_withheld import Rates, Withheld
from soundscape.confidence import RECORD
from soundscape.denied import DenyList
from soundscape.deployments import read_states
from soundscape.errors import Invalid
from soundscape.events import ClipAnalysed, ClipLabelled, ClipSampled
from soundscape.health import serve_health
from soundscape.judgements import settle, standing_labels
from soundscape.kafka import new_consumer, read_all
from soundscape.known_sites import require_known
from soundscape.logs import set_up_logging
from soundscape.metrics import QUALITY, QUALITY_COMPLETED, QUALITY_DRIFT, QUALITY_WITHHELD
from soundscape.options import NAME
from soundscape.release import LoadedRelease, named_release
from soundscape.retraining import last_at, queue
from soundscape.sampling import unit
from soundscape.settings import Port, Settings, get_settings
from soundscape.terminal import terminal_width
from soundscape.topics import LABELS, PREDICTIONS, SAMPLES
from soundscape.wire import PREFIX, texts

PROCESS = "quality"
SHIFT = 0.25
"""Population stability index from which a distribution counts as shifted."""
DRIFTING = 10
"""Where the mix has drifted, a tenth of the labels are enough; fewer teach nothing, and the mix stays what it is."""
MIX, SCORES = "species mix", "scores"
"""What may drift."""
AGAIN_S = 60.0
"""Seconds between two recounts of the process: labels come slowly."""


def measure(settings: Settings, site: str) -> tuple[Quality, dict[str, Drift]]:
    """(what is known of a site, its champion's drift by what drifts). Raises Unavailable without a broker."""
    champion = _champion(settings, site)
    mix: Counter[str] = Counter()
    scores: Counter[float] = Counter()
    with closing(new_consumer(settings)) as consumer:
        taken = list(_samples(consumer, site))
        samples = {sample.clip_id: sample for sample, _, _ in taken}
        read_labels = (read(PROCESS, ClipLabelled, record) for record in read_all(consumer, [LABELS.name]))
        labels = [label for label in read_labels if label is not None and label.site == site]
        settled, denied = settle(labels), DenyList()
        for label in labels:
            denied.apply(label)
        pairs = completed_prefix(samples.values(), settled)
        wanted = {sample.clip_id: sample for sample, _ in pairs}
        heard: dict[str, Heard] = {}
        rates = Rates(((at, rate) for _, at, rate in taken), settings.sample_rate)
        withheld = Withheld(rates, samples, denied, settings.speech_limit, settings.sample_untold_speech)
        for answer in _answers(consumer, site):
            clip = str(answer.clip_id)
            withheld.take(answer)
            if champion is not None and answer.release == champion.release.name:
                mix.update(one.label for one in answer.detections)
                scores.update(named_scores(answer))
            sample = wanted.get(clip)
            if sample is not None and answer.release == sample.release:
                heard[clip] = _heard(answer, sample.start_s)
    quality = judge(pairs, heard)
    quality.sampled = len(samples)
    quality.withheld, quality.withheld_by = withheld.share(), withheld.shares()
    if champion is None:
        return quality, dict.fromkeys((MIX, SCORES), Drift(unknown="no release that is here answers the site"))
    learnt = champion.release.metrics
    return quality, {
        MIX: drift_of_mix(learnt.get("label_windows"), mix, len(champion.label_names)),
        SCORES: drift_of_scores(learnt.get(RECORD), scores),
    }


def _samples(consumer: Any, site: str) -> Iterator[tuple[Sample, datetime, float]]:
    """The random samples of a site, each with when it was taken and how likely that was."""
    latest: dict[bytes, dict[str, str] | None] = {}
    for record in read_all(consumer, [SAMPLES.name]):
        latest[record.key] = None if record.value is None else texts(record.headers)  # the sound is not opened
    for said in filter(None, latest.values()):
        named = {name.removeprefix(PREFIX): text for name, text in said.items()}
        if named.get("type") == ClipSampled.TYPE and named.get("site") == site and named.get("reason") == "random":
            clip = named["clipid"]
            at = datetime.fromisoformat(named["sampledat"])
            start_s, release, place = float(named.get("starts", 0.0)), named.get("release", ""), named.get("answerplace")
            yield Sample(clip, at.date(), unit(clip), release, start_s, place), at, float(named["probability"])


def _answers(consumer: Any, site: str) -> Iterator[ClipAnalysed]:
    for record in read_all(consumer, [PREDICTIONS.name]):
        if texts(record.headers).get(PREFIX + "site") == site:
            answer = read(PROCESS, ClipAnalysed, record)
            if answer is not None and not answer.probe:
                yield answer


def _heard(answer: ClipAnalysed, start_s: float) -> Heard:
    """What an answer says of the window that begins there."""
    window = next((one for one in answer.windows if one.start_s <= start_s < one.end_s), None)
    named = frozenset(one.label for one in answer.detections if one.start_s <= start_s < one.end_s)
    scores = dict(zip(answer.labels, window.scores, strict=True)) if window else {}
    return Heard(named, scores, frozenset(answer.labels))


def _champion(settings: Settings, site: str) -> LoadedRelease | None:
    """The release that answers a site, if its files are here and hold."""
    state = read_states(settings).get(site)
    try:
        return named_release(settings.releases, state.champion.name, state.champion.digest) if state else None
    except Invalid:
        return None


@click.command()
@click.option("--site", type=NAME, help="Site; the setting's site unless given.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def quality(site: str | None, as_json: bool) -> None:
    """Precision, recall and calibration of the live answers, from the completed part of the random sample alone."""
    settings = get_settings()
    found, drift = measure(settings, site or settings.site)
    if not found.withheld.n:  # not one of its clips was drawn
        require_known(settings, site)
    if as_json:
        unknown = {what: one.unknown for what, one in drift.items() if one.psi is None}
        click.echo(json.dumps({**asdict(found), "drift": {what: one.psi for what, one in drift.items()}, "drift_not_known": unknown}))
    else:
        _show(found, drift)


def _show(found: Quality, drift: Mapping[str, Drift]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=terminal_width())
    counts = f"{found.sampled} random samples, {found.completed} in the completed prefix"
    console.print(f"{counts}; withheld: {_cell(found.withheld)}", highlight=False)
    for why, share in found.withheld_by.items():
        if share.value:
            console.print(f"  withheld, {why}: {_cell(share)}", highlight=False)
    table = Table("release", "species", "precision", "recall", title="By labelers, in hash order (95 % Wilson)")
    for release, (precision, recall) in found.overall.items():
        table.add_row(release, "[bold]all[/]", _cell(precision), _cell(recall))
    for one in found.species:
        table.add_row(one.release, one.label, _cell(one.precision), _cell(one.recall))
    console.print(table)
    bins = Table("scores", "right", title="Reliability")
    for low, high, rate in found.reliability:
        bins.add_row(f"{low:.1f} to {high:.1f}", _cell(rate))
    console.print(bins)
    for what, moved in drift.items():
        said = f"not known: {moved.unknown}" if moved.psi is None else f"PSI {moved.psi:.2f} ({SHIFT:g} is a shift)"
        console.print(f"Drift of the {what}: {said}", highlight=False)


def _cell(rate: Rate) -> str:
    if rate.value is None or rate.interval is None:
        return "-"
    return f"{rate.value:.2f} ({rate.interval[0]:.2f} to {rate.interval[1]:.2f}), n={rate.n}"


def main() -> None:
    """Measure every site again and again, for Prometheus."""
    set_up_logging()
    settings, pulse = get_settings(), Pulse()
    serve_health(settings.port(Port.QUALITY), pulse)

    def run() -> None:
        measured_at = float("-inf")
        while True:
            states = read_states(settings, PROCESS)
            if time.monotonic() > measured_at + AGAIN_S:
                for site in states:
                    found, drift = measure(settings, site)
                    _publish(site, found, drift)
                    if because := due(settings, site, drift):
                        queue(settings, site, because)
                measured_at = time.monotonic()
            pulse.beat({})
            time.sleep(5.0)

    persist(run, pulse)


def due(settings: Settings, site: str, drift: Mapping[str, Drift]) -> str | None:
    """Why a retraining of the site is due: enough new labels since the last one, or other species; None where it is not.

    Scores alone ask for none: those that are recorded are of clips that all hold a call, near and clear. Raises Unavailable.
    """
    since = last_at(settings, site)
    with closing(new_consumer(settings)) as consumer:
        events = (read(PROCESS, ClipLabelled, record) for record in read_all(consumer, [LABELS.name]))
        labels = standing_labels(one for one in events if one is not None and one.site == site)
    new = sum(since is None or one.labelled_at > since for one in labels)
    if new >= settings.retrain_labels:
        return f"{new} new labels"
    psi = drift[MIX].psi if MIX in drift else None
    taught = new * DRIFTING >= settings.retrain_labels
    return f"drift of the {MIX} (PSI {psi:.2f})" if psi is not None and taught and psi > SHIFT else None


def _publish(site: str, found: Quality, drift: Mapping[str, Drift]) -> None:
    QUALITY_COMPLETED.labels(site).set(found.completed)
    for why, share in found.withheld_by.items():
        if share.value is not None:
            QUALITY_WITHHELD.labels(site, why).set(share.value)
    for release, rates in found.overall.items():
        for what, rate in zip(("precision", "recall"), rates, strict=True):
            if rate.value is not None and rate.interval is not None:
                for bound, value in zip(("value", "low", "high"), (rate.value, *rate.interval), strict=True):
                    QUALITY.labels(site, release, what, bound).set(value)
    for what, one in drift.items():
        QUALITY_DRIFT.labels(site, what).set(float("nan") if one.psi is None else one.psi)


if __name__ == "__main__":
    main()
