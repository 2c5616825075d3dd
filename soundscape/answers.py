"""A watched file's answer in `online_output`: STEM.csv or STEM.error.json, never half of one."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path, PurePath

CSV = ".csv"
ERROR = ".error.json"
_LONGEST = 200
"""Bytes of a stem that leave room for the endings and a temporary name in the 255 bytes that a file system allows."""


def stem_of(file_name: str) -> str:
    """The name that the answers of a file share: its own without folders and without its ending; a very long one is cut."""
    stem = PurePath(file_name).stem or "_"
    raw = os.fsencode(stem)
    if len(raw) <= _LONGEST:
        return stem
    return f"{raw[:_LONGEST].decode(errors='ignore')}~{hashlib.sha256(raw).hexdigest()[:8]}"


def csv_path(folder: Path, file_name: str) -> Path:
    """Where the prediction of a file goes."""
    return folder / (stem_of(file_name) + CSV)


def error_path(folder: Path, file_name: str) -> Path:
    """Where the refusal of a file goes."""
    return folder / (stem_of(file_name) + ERROR)


def error_body(file_name: str, clip_id: str, reason: str, detail: str) -> bytes:
    """What a refusal says: JSON with `clip_id`, `reason`, `detail`, `file`."""
    said = {"clip_id": clip_id, "reason": str(reason), "detail": detail, "file": file_name}
    return (json.dumps(said, indent=1) + "\n").encode()


def write_whole(path: Path, body: bytes) -> None:
    """Write a file under a temporary name, onto the disk, and rename it: half of it is never seen. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def answer(folder: Path, file_name: str, csv: bytes) -> None:
    """Put the prediction of a file in its place; a refusal that stood there goes. Raises OSError."""
    write_whole(csv_path(folder, file_name), csv)
    error_path(folder, file_name).unlink(missing_ok=True)


def refuse(folder: Path, file_name: str, body: bytes) -> None:
    """Put the refusal of a file in its place; a prediction that stood there goes. Raises OSError."""
    write_whole(error_path(folder, file_name), body)
    csv_path(folder, file_name).unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove temporary files that a killed writer left. Raises OSError."""
    for path in folder.glob(".*.tmp"):
        pid = path.name.removesuffix(".tmp").rpartition(".")[2]
        if not (pid.isdigit() and Path(f"/proc/{pid}").exists()):
            path.unlink(missing_ok=True)
