"""Tours before the system, from a CSV, beside those of now: species a tour and an hour, as medians."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from soundscape.answers import write_whole
from soundscape.errors import Invalid, Reason
from soundscape.events import Name, TourSummed
from soundscape.settings import Settings

MAX_BYTES = 10_000_000
"""Of the CSV: some 200,000 tours."""
COLUMNS = ("tour", "date", "minutes", "species")
OPEN = timedelta(hours=1)
"""A tour without news for so long is over, though nobody ended it."""


class Before(BaseModel):
    """One tour before the system."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    tour: Name
    date: date
    minutes: Annotated[float, Field(gt=0, le=1440, allow_inf_nan=False)]
    species: Annotated[int, Field(ge=0, le=10_000)]
    """How many were identified."""


def baseline_path(settings: Settings) -> Path:
    """Where the baseline is kept."""
    return settings.root / "baseline.csv"


def read_baseline(path: Path) -> list[Before]:
    """The tours of a CSV with the columns `tour`, `date`, `minutes` and `species` (a number). Raises Invalid, OSError."""
    with path.open("rb") as file:
        body = file.read(MAX_BYTES + 1)
    if len(body) > MAX_BYTES:
        raise _invalid(f"{path} has more than {MAX_BYTES:,} bytes")
    try:
        reader = csv.DictReader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
            raise _invalid(f"{path} has no column {missing[0]!r}; it needs {', '.join(COLUMNS)}")
        tours: dict[str, Before] = {}
        for row in reader:
            if None in row:  # a comma too many, as in 1,5 minutes
                raise _invalid(f"{path} line {reader.line_num} has more values than there are columns")
            tour = Before.model_validate(row)
            if tour.tour in tours:
                raise _invalid(f"{path} line {reader.line_num}: tour {tour.tour!r} stands twice")
            tours[tour.tour] = tour
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = first["loc"][0] if first["loc"] else "row"
        raise _invalid(f"{path} line {reader.line_num}: {where} is {first['input']!r}: {first['msg']}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise _invalid(f"{path} is no CSV in UTF-8 ({error})") from error
    if not tours:
        raise _invalid(f"{path} has no tour")
    return list(tours.values())


def import_baseline(settings: Settings, path: Path) -> list[Before]:
    """Check a CSV and keep its tours in place of the baseline before. Raises Invalid, OSError."""
    tours = read_baseline(path)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows((one.tour, one.date.isoformat(), f"{one.minutes:g}", one.species) for one in tours)
    write_whole(baseline_path(settings), text.getvalue().encode())
    return tours


def kept_baseline(settings: Settings) -> list[Before]:
    """The baseline that was imported. Raises Invalid where there is none."""
    path = baseline_path(settings)
    if not path.exists():
        raise _invalid("No baseline was imported; `soundscape tours baseline import FILE.csv` does it")
    return read_baseline(path)


def compare(before: Sequence[Before], now: Iterable[TourSummed]) -> dict[str, dict[str, Any]]:
    """Medians and how many they are of, before and now; of now also how guides took part. A rate counts where there was time for one."""
    over = [one for one in now if guided(one) and one.clips and not still_open(one)]
    rates = [one.diversity_per_hour for one in over if one.diversity_per_hour is not None]
    return {
        "before": {
            "tours": len(before),
            "species": _median(before, lambda one: one.species),
            "species_per_hour": _median(before, lambda one: one.species / one.minutes * 60),
            "minutes": _median(before, lambda one: one.minutes),
        },
        "now": {
            "tours": len(over),
            "species": _median(over, lambda one: one.diversity),
            "species_per_hour": _median(rates, float),
            "tours_with_rate": len(rates),
            "minutes": _median(over, lambda one: one.effort_minutes),
            "requests": _median(over, lambda one: one.clips),
            "feedback": _median(over, lambda one: one.feedback),
            "rated": sum(one.rating is not None for one in over),
            "rating": _median([one.rating for one in over if one.rating is not None], float),
        },
    }


def guided(tour: TourSummed) -> bool:
    """Whether a tour is one, and no day of a recorder or of uploads."""
    return tour.stream == tour.tour_id


def still_open(tour: TourSummed) -> bool:
    """Whether a tour has not ended, as far as can be told."""
    return tour.ended_at is None and tour.at > datetime.now(UTC) - OPEN


def _median(tours: Iterable[Any], value: Callable[[Any], float]) -> float | None:
    values = [value(one) for one in tours]
    return round(float(statistics.median(values)), 3) if values else None


def _invalid(what: str) -> Invalid:
    return Invalid(Reason.BAD_REQUEST, f"{what}.")
