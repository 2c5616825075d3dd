"""Labels as files of other programs: Raven selection tables, Audacity labels, Label Studio JSON, CSV. Pure but for the files."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from soundscape.errors import Invalid, Reason
from soundscape.features import LOG_MEL
from soundscape.judgements import Settled

MAX_BYTES = 20_000_000
"""Of one import, all its files together."""
MAX_ROWS = 100_000
"""The same in rows."""
RAVEN = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)", "Species", "Begin File")
"""Columns of a selection table; `Begin File` is the clip's id."""
RAVEN_OFFSET = "File Offset (s)"
"""Where Raven has several files open, `Begin Time (s)` counts through all of them, and this column from the file's beginning."""
CSV = ("clip_id", "start_s", "end_s", "verdict", "labels", "provenance", "stratum", "by")
"""Columns of our own; several labels or names stand with semicolons between. An import needs the first five."""
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Row:
    """One marked stretch of a clip, as a file has it."""

    where: str
    """`line 3`, so that a person finds it."""
    clip_id: str
    start_s: float
    end_s: float
    said: str
    """A species by label or name, or one of the words nothing, unknown, speech."""


def _raven(text: str, _: str) -> Iterator[Row]:
    for line, row in _table(text, "\t", {"Begin Time (s)", "End Time (s)", "Species", "Begin File"}):
        if row.get("View", "").startswith("Waveform"):
            continue  # Raven writes a selection once for each view
        start, end = _times(line, row["Begin Time (s)"], row["End Time (s)"])
        if offset := row.get(RAVEN_OFFSET):
            first, _last = _times(line, offset, str(math.inf), endless=True)
            start, end = first, first + end - start
        yield Row(line, _clip(line, row["Begin File"]), start, end, _text(line, row["Species"]))


def _audacity(text: str, name: str) -> Iterator[Row]:
    for number, content in enumerate(text.splitlines(), 1):
        if not content.strip() or content.startswith("\\"):
            continue  # the second line of a label with frequencies
        line, parts = _place(name, number), content.split("\t")
        if len(parts) < 3:
            raise _bad(f"{line} is not `start<tab>end<tab>label`")
        yield Row(line, _clip(line, name), *_times(line, parts[0], parts[1]), _text(line, parts[2]))


def _label_studio(text: str, _: str) -> Iterator[Row]:
    try:
        tasks = json.loads(text)
        for number, task in enumerate(tasks, 1):
            named = str(task["data"].get("clip_id") or task["data"].get("audio", ""))
            for annotation in task.get("annotations", ()):
                if annotation.get("was_cancelled"):
                    continue
                for n, region in enumerate(annotation["result"], 1):
                    line = f"task {number}, region {n}"
                    if region.get("type") in ("labels", "timeserieslabels"):
                        value = region["value"]
                        times = _times(line, str(value["start"]), str(value["end"]))
                        for said in value.get("labels") or value["timeserieslabels"]:
                            yield Row(line, _clip(line, named), *times, _text(line, said))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _bad(f"it is not a Label Studio export ({type(error).__name__}: {error})") from error


def _csv(text: str, _: str) -> Iterator[Row]:
    for line, row in _table(text, ",", set(CSV[:5])):
        start, end = _times(line, row["start_s"], row["end_s"])
        verdict = row["verdict"].strip()
        said = [one for one in row["labels"].split(";") if one.strip()] if verdict in ("", "species") else [verdict]
        for one in said or [""]:
            yield Row(line, _clip(line, row["clip_id"]), start, end, _text(line, one))


READERS: Mapping[str, Callable[[str, str], Iterator[Row]]] = {
    "raven": _raven, "audacity": _audacity, "label-studio": _label_studio, "csv": _csv,
}  # fmt: skip
"""(text of a file, its name) -> its rows, by format."""


def read_rows(kind: str, path: Path) -> list[Row]:
    """The rows of a file, or for `audacity` also of a folder's `*.txt`. Raises Invalid for what does not hold, with its line; OSError."""
    paths = sorted(path.glob("*.txt")) if kind == "audacity" and path.is_dir() else [path]
    rows: list[Row] = []
    left = MAX_BYTES
    for one in paths:
        left -= one.stat().st_size
        if left < 0:
            raise _bad(f"it has more than {MAX_BYTES} bytes; import it in parts")
        try:
            text = one.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise _bad(f"{one.name} is not UTF-8 text (byte {error.start})") from error
        rows += READERS[kind](text, one.name)
        if len(rows) > MAX_ROWS:
            raise _bad(f"it has more than {MAX_ROWS} rows; import it in parts")
    return rows


def write_files(kind: str, settled: Iterable[Settled], out: Path) -> int:
    """Write settled windows to a file, for `audacity` to a folder of one file a clip; returns how many. Raises OSError."""
    windows = sorted(settled, key=lambda one: (one.clip_id, one.start_s))
    if kind == "audacity":
        out.mkdir(parents=True, exist_ok=True)
        for clip in dict.fromkeys(one.clip_id for one in windows):
            marks = [f"{one.start_s:.6f}\t{one.end_s:.6f}\t{said}\n" for one in windows if one.clip_id == clip for said in _said(one)]
            (out / f"{clip}.txt").write_text("".join(marks), encoding="utf-8")
        return len(windows)
    text = {"raven": _to_raven, "label-studio": _to_label_studio, "csv": _to_csv}[kind](windows)
    out.write_text(text, encoding="utf-8", newline="")
    return len(windows)


def _to_raven(windows: list[Settled]) -> str:
    low, high = f"{LOG_MEL.fmin:.1f}", f"{LOG_MEL.fmax:.1f}"
    rows = [(one, said) for one in windows for said in _said(one)]
    lines = [
        (str(n), "Spectrogram 1", "1", f"{one.start_s:.3f}", f"{one.end_s:.3f}", low, high, said, one.clip_id)
        for n, (one, said) in enumerate(rows, 1)
    ]
    return "".join("\t".join(line) + "\n" for line in (RAVEN, *lines))


def _to_csv(windows: list[Settled]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV)
    for one in windows:
        labels = ";".join(sorted(one.labels))
        writer.writerow([one.clip_id, one.start_s, one.end_s, one.verdict, labels, one.provenance, one.stratum, ";".join(one.by)])
    return out.getvalue()


def _to_label_studio(windows: list[Settled]) -> str:
    tasks: dict[str, dict[str, Any]] = {}
    for one in windows:
        data = {"audio": f"{one.clip_id}.ogg", "clip_id": one.clip_id}
        task = tasks.setdefault(one.clip_id, {"data": data, "annotations": [{"result": []}]})
        value = {"start": one.start_s, "end": one.end_s, "channel": 0, "labels": _said(one)}
        region = {"id": f"{one.clip_id}@{one.start_s:g}", "type": "labels", "from_name": "label", "to_name": "audio", "value": value}
        task["annotations"][0]["result"].append(region)
    return json.dumps(list(tasks.values()), indent=1)


def _said(one: Settled) -> list[str]:
    return sorted(one.labels) if one.verdict == "species" else [one.verdict]


def _table(text: str, delimiter: str, wanted: set[str]) -> Iterator[tuple[str, dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter, strict=True)  # a file that ends within a field is cut off
    try:
        if missing := wanted - set(reader.fieldnames or ()):
            raise _bad(f"line 1 lacks the columns {', '.join(sorted(missing))}")
        for row in reader:
            yield f"line {reader.line_num}", {name: item or "" for name, item in row.items() if name is not None}
    except csv.Error as error:
        raise _bad(f"line {reader.line_num} is not a row ({error})") from error


def _times(line: str, start: str, end: str, endless: bool = False) -> tuple[float, float]:
    try:
        first, last = float(start), float(end)
    except ValueError as error:
        raise _bad(f"{line} has times that are no numbers ({start!r}, {end!r})") from error
    if not (0 <= first < last and math.isfinite(first) and (endless or math.isfinite(last))):
        raise _bad(f"{line} does not begin before it ends ({start} to {end} s)")
    return first, last


def _clip(line: str, text: str) -> str:
    """The clip's id in a file's name or path, whatever a program put before or after it."""
    found = _UUID.search(PurePath(text).name.lower())
    if found is None:
        raise _bad(f"{line} names no clip ({text[:80]!r}); a file is named by its clip's id")
    return found.group()


def _text(line: str, text: object) -> str:
    said = str(text).strip()
    if not 0 < len(said) <= 200:
        raise _bad(f"{line} does not say what it marks")
    return said


def _place(name: str, number: int) -> str:
    return f"{name} line {number}"


def _bad(what: str) -> Invalid:
    return Invalid(Reason.BAD_REQUEST, f"The file cannot be imported: {what}; nothing was imported.")
