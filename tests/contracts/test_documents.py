"""What is made from the code is as the code says, and AsyncAPI's own schema accepts it."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from soundscape import asyncapi
from soundscape.tables import MARKED, TABLES, files
from soundscape.topics import TOPICS

SPECS = "@asyncapi/specs@6.11.1"
"""AsyncAPI's published meta-schemas; on npm only."""


def test_generated_files_are_fresh(root: Path) -> None:
    """Topics, events, metrics, settings, commands, processes: the documents follow the declarations."""
    stale = [str(path.relative_to(root)) for path, text in files(root).items() if not path.exists() or path.read_text("utf-8") != text]
    assert stale == [], "run `make docs`"
    schemas = {path.stem for path in (root / "docs" / "schemas").iterdir()}
    assert schemas == asyncapi.schemas().keys()


def test_every_table_stands_in_the_architecture(root: Path) -> None:
    """A table without its markers would document nothing."""
    shown = {name for _, name, _ in MARKED.findall((root / "ARCHITECTURE.md").read_text("utf-8"))}
    assert shown == TABLES.keys()


def test_paths_named_in_the_documents_exist(root: Path) -> None:
    """A document that names a file that is gone sends its reader nowhere."""
    documents = [root / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]
    documents += sorted((root / "docs" / "decisions").glob("*.md"))
    gone = []
    for document in documents:
        text = document.read_text("utf-8")
        linked = [(document.parent, path) for path in re.findall(r"\]\((?!https?:)([^)#]+)", text)]
        named = [(root, path) for path in re.findall(r"`((?:[\w.]+/)+[\w.-]+\.(?:py|md|json|toml|in|yaml))`", text)]
        gone += [f"{document.name}: {path}" for folder, path in linked + named if not (folder / path).exists()]
    assert gone == []


def _resolved(document: dict[str, Any], reference: str) -> Any:
    part: Any = document
    for step in reference.removeprefix("#/").split("/"):
        part = part[step]
    return part


def _references(part: Any) -> list[str]:
    if isinstance(part, dict):
        return [part["$ref"]] if "$ref" in part else [one for value in part.values() for one in _references(value)]
    return [one for value in part for one in _references(value)] if isinstance(part, list) else []


def test_the_asyncapi_document_is_whole(root: Path) -> None:
    """Every reference resolves; every topic is a channel with its partitions; every writer and reader an operation."""
    document = asyncapi.document()
    for reference in _references(document):
        if reference.startswith("#/"):
            assert _resolved(document, reference)
        else:
            assert (root / "docs" / reference).is_file(), reference
    for topic in TOPICS:
        kafka = document["channels"][topic.name]["bindings"]["kafka"]
        assert (kafka["topic"], kafka["partitions"]) == (topic.name, topic.partitions)
    said = {
        (operation["tags"][0]["name"], operation["action"], operation["channel"]["$ref"].rpartition("/")[2])
        for operation in document["operations"].values()
    }
    wanted = {(process, "send", topic.name) for topic in TOPICS for process in topic.writers}
    wanted |= {(process, "receive", topic.name) for topic in TOPICS for process in topic.readers}
    assert said == wanted


def test_schemas_are_json_schemas() -> None:
    """Each holds by the dialect that it names."""
    for schema in asyncapi.schemas().values():
        assert schema["$schema"] == jsonschema.Draft202012Validator.META_SCHEMA["$id"]
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.network
def test_asyncapis_own_schema_accepts_the_document(tmp_path: Path) -> None:
    """By the meta-schema that AsyncAPI publishes, Kafka's bindings included."""
    subprocess.run(["npm", "pack", "--silent", SPECS], cwd=tmp_path, check=True, capture_output=True)
    with tarfile.open(next(tmp_path.glob("*.tgz"))) as archive:
        found = archive.extractfile(f"package/schemas/{asyncapi.VERSION}.json")
        assert found is not None
        meta = json.load(found)
    assert [error.message for error in jsonschema.Draft7Validator(meta).iter_errors(asyncapi.document())] == []
