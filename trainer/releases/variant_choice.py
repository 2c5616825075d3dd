"""Which form of a network is served: what a million clips cost with each, and the rule that chooses, with its reason."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from soundscape.errors import Invalid, Reason
from trainer.releases.package import MAX_INT8_BYTES, MAX_MAP_LOSS
from trainer.releases.variant_measures import Measured, cores
from trainer.releases.variants import PYTORCH

EXAMPLE = Path(__file__).with_name("prices.toml")
CLIPS = 1_000_000
"""Of one window each: five seconds from a guide."""
PHONE_BYTES = 4_000_000
"""What an app may be asked to carry (DESIGN section 5); of larger files no price on a phone is given."""
SAME = 1.05
"""Prices within so much of each other are no difference that these measurements can tell."""
RULE = (
    "Of the forms that are not struck out, that the model server can run without a GPU, whose file is at most "
    f"{MAX_INT8_BYTES / 1e6:g} MB and whose macro mAP is at most {MAX_MAP_LOSS:g} below PyTorch's: the cheapest on the server CPU, as the "
    f"model server runs it (as many instances of one thread as cores, at the best batch). Of those within {SAME - 1:.0%} of the cheapest "
    "the smallest file, then the first in the table."
)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ServerCpu(_Part):
    """A server without a GPU."""

    per_core_hour: float = Field(ge=0)


class Gpu(_Part):
    """A server with one GPU."""

    per_hour: float = Field(ge=0)


class Phone(_Part):
    """A phone costs its energy."""

    watts: float = Field(ge=0)
    times_as_long: float = Field(gt=0)
    per_kwh: float = Field(ge=0)


class Prices(_Part):
    """What machines cost, and when that was so."""

    as_of: date
    currency: str
    note: str = ""
    server_cpu: ServerCpu
    gpu: Gpu
    phone: Phone


class Costs(NamedTuple):
    """Of CLIPS clips by device; None where a form does not run on it, or was not measured there."""

    server_cpu: float | None
    gpu: float | None
    phone: float | None


class Choice(NamedTuple):
    """What the rule says; `name` is None where no form holds."""

    name: str | None
    reason: str


def read_prices(path: Path) -> Prices:
    """Prices of a TOML or JSON file. Raises Invalid with what does not hold."""
    try:
        text = path.read_text(encoding="utf-8")
        body = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        return Prices.model_validate(body)
    except (OSError, ValueError) as error:  # UnicodeDecodeError, JSONDecodeError, TOMLDecodeError and ValidationError are ValueErrors
        what = str(error)
        if isinstance(error, ValidationError):
            first = error.errors(include_input=False, include_url=False)[0]
            what = f"{'.'.join(map(str, first['loc'])) or 'its text'}: {first['msg']}"
        raise Invalid(Reason.BAD_REQUEST, f"{path} holds no prices ({what}); {EXAMPLE} is an example.") from error


def costs(one: Measured, prices: Prices) -> Costs:
    """What CLIPS clips cost with this form."""
    hours = CLIPS / one.served().windows_per_s / 3600
    if one.variant.on_gpu:
        return Costs(None, hours * prices.gpu.per_hour, None)
    phone = prices.phone
    joules = CLIPS * one.latencies[0].plain()["median_ms"] / 1000 * phone.times_as_long * phone.watts
    carried = one.bytes <= PHONE_BYTES
    return Costs(hours * prices.server_cpu.per_core_hour * cores(), None, joules / 3.6e6 * phone.per_kwh if carried else None)


def refused(one: Measured, pytorch: Measured) -> str:
    """Why the rule passes a form over; empty if it may be chosen."""
    if one.struck_out:
        return f"struck out: differs from PyTorch by {one.largest:.2g}, at most {one.variant.bound:g}"
    if one.variant.on_gpu:
        return "the model server has no GPU"
    if one.bytes > MAX_INT8_BYTES:
        return f"{one.bytes / 1e6:.1f} MB, at most {MAX_INT8_BYTES / 1e6:g}"
    if lost(one, pytorch) > MAX_MAP_LOSS:
        return f"loses {lost(one, pytorch):.3f} of the mAP, at most {MAX_MAP_LOSS:g}"
    return ""


def lost(one: Measured, pytorch: Measured) -> float:
    """Macro mAP below PyTorch's; negative where it is above."""
    return (pytorch.mean_ap or 0.0) - (one.mean_ap or 0.0)


def choose(found: Sequence[Measured], prices: Prices, wanted: str | None = None) -> Choice:
    """The form that RULE names, or the one that is `wanted` if the rule does not refuse it, and why in a sentence."""
    pytorch = next(one for one in found if one.variant == PYTORCH)
    if wanted is not None:
        asked = next((one for one in found if one.variant.name == wanted), None)
        why = f"{wanted} cannot be had here" if asked is None else refused(asked, pytorch)
        return Choice(None if why else wanted, why or f"{wanted}: asked for by name, within its bound of PyTorch; the rule was not asked.")
    may = [one for one in found if not refused(one, pytorch)]
    if not may:
        return Choice(None, "no form holds: " + "; ".join(f"{one.variant.name} {refused(one, pytorch)}" for one in found))
    price, torchs = {one.variant.name: costs(one, prices).server_cpu or 0.0 for one in may}, costs(pytorch, prices).server_cpu
    least = min(price.values())
    near = [one for one in may if price[one.variant.name] <= least * SAME]
    best = min(near, key=lambda one: one.bytes)
    name, speed = best.variant.name, best.served()
    beside = f", of {len(near)} within {SAME - 1:.0%} of the cheapest the smallest" if len(near) > 1 else ", the least"
    return Choice(
        name,
        f"{name}: {price[name]:.4f} {prices.currency} a million clips ({speed.windows_per_s:.0f} windows a second in batches of "
        f"{speed.batch} on {cores()} cores){beside} of {len(may)} that may be served; PyTorch costs {torchs or 0:.4f}. "
        f"Its mAP is {best.mean_ap or 0:.3f}, PyTorch's {pytorch.mean_ap or 0:.3f}; scores differ by at most {best.largest:.2g}.",
    )


def summary(found: Sequence[Measured], prices: Prices) -> list[dict[str, Any]]:
    """Every form with its costs and the rule's answer, for JSON."""
    pytorch = next(one for one in found if one.variant == PYTORCH)
    return [{**one.plain(), "cost_per_million": costs(one, prices)._asdict(), "refused": refused(one, pytorch)} for one in found]
