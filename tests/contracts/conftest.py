"""What the tests of the rules share: the project's own modules."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("soundscape", "producers", "stream_processors", "consumers", "trainer", "compose", "monitoring")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def trees() -> dict[Path, ast.Module]:
    """Syntax of every module of every package, by its path in the repository."""
    paths = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
    return {path.relative_to(ROOT): ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in paths}


@pytest.fixture(scope="session")
def module_names(trees: dict[Path, ast.Module]) -> list[str]:
    """Every module's name for import."""
    parts = [path.with_suffix("").parts for path in trees]
    return [".".join(one[:-1] if one[-1] == "__init__" else one) for one in parts]
