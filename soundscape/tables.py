"""What is written from the code: docs/asyncapi.json, docs/schemas, and the tables in ARCHITECTURE.md; `make docs` runs it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import click

from soundscape import asyncapi
from soundscape.cli import GROUP
from soundscape.errors import Broken, Reason
from soundscape.events import EVENTS, Event
from soundscape.metrics import METRICS
from soundscape.settings import Port, Settings
from soundscape.topics import TOPICS, Topic

PROCESSES = "soundscape.processes"
"""Entry points that give the processes of a stack: `function(settings) -> list`, as commands are given."""
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def files(root: Path) -> dict[Path, str]:
    """Path and text of every generated file of the repository at `root`. Raises OSError, KeyError for a table that is none."""
    architecture, docs = root / "ARCHITECTURE.md", root / "docs"
    found = {docs / "schemas" / f"{name}.json": _json(schema) for name, schema in asyncapi.schemas().items()}
    return found | {docs / "asyncapi.json": _json(asyncapi.document()), architecture: filled(architecture.read_text(encoding="utf-8"))}


def filled(text: str) -> str:
    """The text with every table between its markers made new. Raises KeyError for a table that is none."""
    return MARKED.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}{found[3]}", text)


def topics() -> str:
    """Topics in story order."""
    rows = (
        (
            f"`{topic.name}`", topic.says, f"`{topic.event.__name__}`", topic.keyed_by, topic.partitions, _kept(topic),
            "yes" if topic.durable else "", _names(topic.writers), _names(topic.readers),
        )
        for topic in TOPICS
    )  # fmt: skip
    return _table(("topic", "what it says", "event", "keyed by", "partitions", "kept", "flushed", "writers", "readers"), rows)


def events() -> str:
    """Events in story order."""
    rows = (
        (f"`{kind.__name__}`", f"[`{kind.TYPE}`](docs/schemas/{asyncapi.short_type(kind)}.json)", _first(kind), _body(kind))
        for kind in EVENTS
    )
    return _table(("event", "type", "when", "body"), rows)


def metrics() -> str:
    """Metrics as declared."""
    rows = []
    for metric in METRICS:
        name = metric._name + ("_total" if metric._type == "counter" else "")
        rows.append((f"`{name}`", metric._type, _names(metric._labelnames), metric._documentation))
    return _table(("metric", "kind", "labels", "meaning"), rows)


def settings() -> str:
    """Settings as declared."""
    prefix = Settings.model_config["env_prefix"]
    rows = (
        (f"`{prefix}{name.upper()}`", "" if field.default is None else f"`{field.default}`", field.description or "")
        for name, field in Settings.model_fields.items()
    )
    return _table(("variable", "default", "meaning"), rows)


def commands() -> str:
    """Commands and subcommands, sorted."""
    rows: list[tuple[str, str]] = []
    for entry in _entries(GROUP):
        command: click.Command = entry.load()
        rows.append((f"`soundscape {entry.name}`", _help(command)))
        subcommands = command.commands if isinstance(command, click.Group) else {}
        rows += [(f"`soundscape {entry.name} {name}`", _help(one)) for name, one in subcommands.items()]
    return _table(("command", "what it does"), rows)


def processes() -> str:
    """Processes of the local stack in the order in which they start, with their ports as distances from the base."""
    defaults = Settings.model_construct()
    rows = [
        (f"`{one.name}`", ", ".join(str(port) for port in one.ports), one.probe.value, _names(one.needs))
        for entry in _entries(PROCESSES)
        for one in entry.load()(defaults)
    ]
    return _table(("process", "ports", "healthy when it answers", "starts after"), rows)


def ports() -> str:
    """Every declared port."""
    base = Settings.model_construct().port_base
    return _table(("name", "distance from the base", "by default"), ((f"`{port.name}`", port.value, base + port) for port in Port))


def reasons() -> str:
    """Why a clip can become a dead letter, or a request be refused."""
    return ", ".join(f"`{reason}`" for reason in Reason) + ".\n"


TABLES: dict[str, Callable[[], str]] = {
    one.__name__: one for one in (topics, events, metrics, settings, commands, processes, ports, reasons)
}
"""By the name in the marker."""


def _kept(topic: Topic) -> str:
    days = f"{topic.retention_days} days" if topic.retention_days else "for ever"
    return f"{days}, the last of each key" if topic.compacted else days


def _body(kind: type[Event]) -> str:
    return ", ".join(asyncapi.content_types(kind)) if kind.BODY != "original" else "the bytes of the record that died"


def _first(kind: type[Event]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def _help(command: click.Command) -> str:
    return " ".join((command.help or "").split("\n\n")[0].split())


def _names(names: Iterable[str]) -> str:
    return ", ".join(names) or "-"


def _entries(group: str) -> list[EntryPoint]:
    found = sorted(entry_points(group=group), key=lambda entry: entry.name)
    if not found:
        raise Broken(f"No entry point of {group} is installed; `make setup` installs the project again.")
    return found


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write every generated file that is stale, and say which."""
    for path, text in files(Path.cwd()).items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            click.echo(f"written: {path.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
