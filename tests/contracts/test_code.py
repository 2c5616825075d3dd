"""One function computes log-mels, public things are explained, modules stay short, tests do not skip themselves."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

LONGEST = 300
LONGER = {
    Path("compose/local/setup.py"): "all that is brought before anything is installed, step by step",
}
"""Modules that were looked at twice, and why they stay whole."""
MEL_CODE = frozenset(
    {"melspectrogram", "MelSpectrogram", "MelScale", "melscale_fbanks", "mel_frequencies", "mfcc", "MFCC", "mel_spectrogram"}
)
"""What libraries call the computation of mel bands."""


def _names(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(module, name) of every name that is imported, and ("", name) of every name and attribute that is used."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield ast.unparse(node.value), node.attr
        elif isinstance(node, ast.Name):
            yield "", node.id


def test_one_module_computes_log_mels(trees: dict[Path, ast.Module]) -> None:
    """No library's mel filters or mel spectrogram are used outside soundscape/features.py, but for the benchmark's yardstick."""
    users = {
        path.as_posix()
        for path, tree in trees.items()
        for where, name in _names(tree)
        if name in MEL_CODE or (name == "mel" and where.endswith("filters"))
    }
    assert users == {"soundscape/features.py", "monitoring/plain.py"}


def test_only_the_benchmark_uses_its_yardstick(trees: dict[Path, ast.Module]) -> None:
    """The plain loop's log-mels are measured beside ours, and never answer a clip."""
    users = {path.as_posix() for path, tree in trees.items() for where, _ in _names(tree) if where == "monitoring.plain"}
    assert users == {"monitoring/bench_bare.py"}


def _undocumented(tree: ast.Module, inherited: set[str]) -> Iterator[str]:
    if not ast.get_docstring(tree):
        yield "the module"
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                yield node.name
            if isinstance(node, ast.ClassDef):
                for part in node.body:
                    if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and not part.name.startswith("_"):
                        explained = ast.get_docstring(part) or (node.bases and part.name in inherited)
                        if not explained:
                            yield f"{node.name}.{part.name}"


def test_public_things_are_explained(trees: dict[Path, ast.Module]) -> None:
    """Every module, public class, function and method has a docstring, its own or that of the method it overrides."""
    documented = {
        part.name
        for tree in trees.values()
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        for part in node.body
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(part)
    }
    missing = [f"{path}: {what}" for path, tree in trees.items() for what in _undocumented(tree, documented)]
    assert missing == []


def test_modules_are_short(root: Path, trees: dict[Path, ast.Module]) -> None:
    """No module is longer than 300 lines, but for those that were looked at twice."""
    lengths = {path: len((root / path).read_text(encoding="utf-8").splitlines()) for path in trees}
    assert {path: length for path, length in lengths.items() if length > LONGEST and path not in LONGER} == {}
    assert {path for path in LONGER if lengths[path] <= LONGEST} == set(), "no longer an exception"


def test_no_test_skips_itself(root: Path) -> None:
    """Tests are left out by marker alone; an expected failure says why."""
    found = []
    for path in sorted((root / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in {"pytest.skip", "pytest.importorskip", "pytest.mark.skip", "pytest.mark.skipif", "unittest.skip"}:
                found.append(f"{path.relative_to(root)}:{node.lineno} {called}")  # type: ignore[attr-defined]
            if isinstance(node, ast.Call) and called == "pytest.mark.xfail" and "reason" not in {word.arg for word in node.keywords}:
                found.append(f"{path.relative_to(root)}:{node.lineno} xfail without a reason")
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "pytest.mark.skip":
                found.append(f"{path.relative_to(root)}:{node.lineno} pytest.mark.skip")
    assert found == []
