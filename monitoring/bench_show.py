"""What a benchmark says at its end."""

from __future__ import annotations

import json
from typing import Any

import click

from soundscape.terminal import terminal_width


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def show(said: dict[str, Any], as_json: bool) -> None:
    """One line of JSON, or a table."""
    if as_json:
        click.echo(json.dumps(said))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    for name, value in said.items():
        table.add_row(name, ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value))
    Console(width=terminal_width()).print(table)
