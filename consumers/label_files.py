"""`soundscape labels`: labels out to other programs' files, and in from them, all of a file or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple, get_args
from uuid import uuid5

import click

from consumers.follow import read
from consumers.label_formats import Row, read_rows, write_files
from consumers.labeler.erase import erase
from consumers.labeler.queue import review_of
from consumers.labeler.shelf import Shelf, Span
from consumers.labeler.species import SiteSpecies, SpeciesList
from soundscape.derived import note_folder
from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.events import NAMESPACE, ClipAnalysed, ClipLabelled
from soundscape.judgements import opinions, settle
from soundscape.kafka import abandon, new_consumer, new_producer, read_all, say
from soundscape.known_sites import require_known
from soundscape.options import NAME
from soundscape.settings import Settings, get_settings
from soundscape.topics import LABELS, PREDICTIONS, SAMPLES
from soundscape.wire import PREFIX, name_of, texts

Format = Literal["raven", "audacity", "label-studio", "csv"]
Verdict = Literal["species", "unknown", "nothing", "speech"]
WORDS: Mapping[str, Verdict] = {"unknown": "unknown", "nothing": "nothing", "speech": "speech"}
"""What a row may say that is no species."""
LEAST_S = 0.25
"""Seconds of a row that must lie in a window, or half of a shorter row: people's marks reach a little over the edge of what they mean."""
SHOWN = 5
"""Complaints that a refusal lists; the rest are counted."""


class Known(NamedTuple):
    """What must be known of a clip to label it."""

    site: str
    stream: str
    tour_id: str | None
    windows: tuple[Span, ...]


def label_id_of(by: str, clip_id: str, start_s: float) -> str:
    """The id of an imported label: the same window by the same person is the same label, so a mended file changes what it said before."""
    return str(uuid5(NAMESPACE, "\n".join(("import", by, clip_id, f"{start_s:g}"))))


def plan(
    rows: list[Row], by: str, source: str, known: Mapping[str, Known], shelf: Shelf, species_of: Callable[[str], SpeciesList], now: datetime
) -> list[ClipLabelled]:
    """The labels that rows become, those that stand already word for word left out.

    Raises Invalid, naming the lines, for clips that are unknown or deleted, rows outside their clip, unknown species, rows of one
    window that contradict each other, and windows that others have settled; Unavailable where a site has no release.
    """
    complaints: list[str] = []
    windows: dict[tuple[str, Span], list[tuple[Row, str]]] = {}
    for row in rows:
        clip = known.get(row.clip_id)
        if clip is None or shelf.denied(row.clip_id):
            complaints.append(f"{row.where}: clip {row.clip_id} {'was deleted' if clip else 'is not known'}")
            continue
        said = WORDS.get(row.said.lower()) or species_of(clip.site).exact(row.said)
        if said is None:
            complaints.append(f"{row.where}: {row.said!r} is no species of site {clip.site}")
        if not (touched := _touched(row, clip.windows)):
            complaints.append(f"{row.where}: {row.start_s:g} to {row.end_s:g} s lies outside the clip")
        for window in touched:
            windows.setdefault((row.clip_id, window), []).append((row, said or ""))
    events = []
    for (clip_id, window), marks in sorted(windows.items()):
        said_here = {said for _, said in marks}
        if len(said_here) > 1 and said_here & WORDS.keys():
            where = " and ".join(dict.fromkeys(row.where for row, _ in marks))
            complaints.append(f"{where} contradict each other from {window[0]:g} to {window[1]:g} s of clip {clip_id}")
            continue
        others = [one for one in opinions(shelf.labels_of(clip_id)).get((clip_id, window[0]), []) if one.by != by]
        if others and not review_of(others, clip_id):
            complaints.append(f"{marks[0][0].where}: clip {clip_id} from {window[0]:g} s is settled already by {others[0].by}")
            continue
        events.append(_event(clip_id, window, said_here, by, source, known[clip_id], shelf, len(others), now))
    if complaints:
        more = f"; and {len(complaints) - SHOWN} more" if len(complaints) > SHOWN else ""
        raise Invalid(Reason.BAD_REQUEST, f"Nothing was imported: {'; '.join(complaints[:SHOWN])}{more}.")
    return [event for event in events if not _stands(event, shelf)]


def _touched(row: Row, windows: Iterable[Span]) -> list[Span]:
    """The windows that a row means."""
    least = min(LEAST_S, (row.end_s - row.start_s) / 2) - 1e-6
    return [window for window in windows if min(row.end_s, window[1]) - max(row.start_s, window[0]) >= least]


def _event(
    clip_id: str, window: Span, said: set[str], by: str, source: str, clip: Known, shelf: Shelf, others: int, now: datetime
) -> ClipLabelled:
    word = next((WORDS[one] for one in said if one in WORDS), None)
    sample = shelf.sample(clip_id)
    fields = {
        "label_id": label_id_of(by, clip_id, window[0]),
        "clip_id": clip_id,
        "stream": clip.stream,
        "site": clip.site,
        "start_s": window[0],
        "end_s": window[1],
        "tour_id": clip.tour_id,
        "verdict": word or "species",
        "labels": () if word else tuple(sorted(said)),
        "by": by,
        "provenance": source,
        "stratum": sample.stratum if sample else "value",
        "review": min(3, others + 1),
        "labelled_at": now,
    }
    return ClipLabelled.model_validate(fields)


def _stands(event: ClipLabelled, shelf: Shelf) -> bool:
    before = shelf.label(event.label_id)
    return before is not None and (before.verdict, before.labels) == (event.verdict, event.labels)


def read_shelf(settings: Settings) -> Shelf:
    """Samples and labels as the log has them now. Raises Unavailable."""
    shelf, consumer = Shelf(), new_consumer(settings)
    try:
        for record in read_all(consumer, [SAMPLES.name, LABELS.name]):
            shelf.take(f"{record.topic}:{record.partition}", [record])
    finally:
        consumer.close()
    return shelf


def known_clips(settings: Settings, wanted: set[str], shelf: Shelf, site: str | None) -> dict[str, Known]:
    """What is known of the wanted clips: by their sample, or their latest answer. Raises Unavailable."""
    found: dict[str, Known] = {}
    for clip in wanted:
        if (sample := shelf.sample(clip)) is not None:
            found[clip] = Known(sample.site, sample.stream, sample.tour_id, sample.windows)
    consumer = new_consumer(settings)
    try:
        for record in read_all(consumer, [PREDICTIONS.name]):
            clip = texts(record.headers).get(PREFIX + "clipid", "")
            if clip in wanted and (event := read("labels", ClipAnalysed, record)) is not None:
                windows = tuple((one.start_s, one.end_s) for one in event.windows)
                found[clip] = Known(event.site, event.stream, event.tour_id, windows)
    finally:
        consumer.close()
    return {clip: one for clip, one in found.items() if site in (None, one.site)}


FORMAT = click.option("--format", "kind", type=click.Choice(get_args(Format)), required=True, help="Which program's file.")
FILE = click.Path(path_type=Path, exists=True)


@click.group()
def labels() -> None:
    """What labelers said, as files of Raven, Audacity, Label Studio, or CSV."""


@labels.command("export")
@FORMAT
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file; for audacity a folder, with one file a clip.")
@click.option("--site", type=NAME, help="Only this site's labels.")
def export_command(kind: Format, out: Path, site: str | None) -> None:
    """Write every settled window; one over which two labelers disagree waits for a third."""
    settings = get_settings()
    said = read_shelf(settings).labels(site)
    if not said:
        require_known(settings, site)
    settled = settle(said)
    if kind == "audacity":
        note_folder(settings, out)  # its files are named by clips; the other formats' one file holds rows, and no sound
    written = write_files(kind, settled.values(), out)
    waiting = len({(one.clip_id, one.start_s) for one in said}) - written
    click.echo(f"{written} windows were written to {out}; {waiting} wait for a third labeler.")


@labels.command("import")
@click.argument("file", type=FILE)
@FORMAT
@click.option("--by", required=True, help="Who listened: the labels' author.")
@click.option("--site", type=NAME, help="Refuse clips of other sites.")
def import_command(file: Path, kind: Format, by: str, site: str | None) -> None:
    """Label the windows that a file marks: all of it, or nothing. For audacity the file is CLIPID.txt, or a folder of them."""
    settings = get_settings()
    if name_of(by) is None:
        raise Invalid(Reason.BAD_REQUEST, f"--by {by!r} is no name; it may not hold slashes, backslashes or control characters.")
    rows = read_rows(kind, file)
    shelf, species = read_shelf(settings), SiteSpecies(settings)
    species.refresh()
    known = known_clips(settings, {row.clip_id for row in rows}, shelf, site)
    source = name_of(f"import:{kind}:{file.name}"[:200]) or f"import:{kind}:file"
    events = plan(rows, by, source, known, shelf, species.of, datetime.now(UTC))
    producer = new_producer(settings)
    try:
        for event in events:
            say(producer, LABELS, event)
    finally:
        abandon(producer)
    for clip in {str(event.clip_id) for event in events if event.verdict == "speech"}:
        try:
            erase(settings, clip)  # its sample's sound is the labeler's page's to remove, where it has one
        except OSError as error:
            raise Unavailable(f"A file made of clip {clip} cannot be removed ({error}); remove it by hand.") from error
    click.echo(f"{len(events)} windows were labelled by {by} from {len(rows)} rows; what stood already was left as it is.")
